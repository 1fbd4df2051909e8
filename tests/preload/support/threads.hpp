// Threads with a chosen stack size, and a few that keep the allocator busy.
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "pattern.hpp"

// A pthread that runs a function; join() before it goes out of scope.
class Thread {
 public:
  // Starts the thread; started() is false if the system refused. stack_bytes 0: the default size.
  explicit Thread(std::function<void()> body, size_t stack_bytes = 0)
      : body_(std::make_unique<std::function<void()>>(std::move(body))) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack_bytes != 0) pthread_attr_setstacksize(&attributes, stack_bytes);
    error_ = pthread_create(&handle_, &attributes, &Thread::run, body_.get());
    pthread_attr_destroy(&attributes);
  }
  Thread(Thread&&) = default;

  bool started() const { return error_ == 0; }
  int error() const { return error_; }
  void join() {
    if (started()) pthread_join(handle_, nullptr);
  }

 private:
  static void* run(void* body) {
    (*static_cast<std::function<void()>*>(body))();
    return nullptr;
  }
  std::unique_ptr<std::function<void()>> body_;
  pthread_t handle_{};
  int error_ = 0;
};

// Runs body(0..count-1), each on a thread of its own, all at once; returns how many could be started.
inline size_t run_threads(size_t count, const std::function<void(size_t)>& body, size_t stack_bytes = 0) {
  std::vector<Thread> threads;
  threads.reserve(count);
  for (size_t i = 0; i < count; ++i) threads.emplace_back([&body, i] { body(i); }, stack_bytes);
  size_t started = 0;
  for (Thread& thread : threads) {
    started += thread.started() ? 1 : 0;
    thread.join();
  }
  return started;
}

// Blocks that busy threads hand to each other, so that frees are remote as often as not.
class ExchangeSlots {
 public:
  void* swap(size_t index, void* block) { return slots_[index % kSlots].exchange(block, std::memory_order_acq_rel); }
  void free_all() {
    for (auto& slot : slots_) free(slot.exchange(nullptr));
  }

 private:
  static constexpr size_t kSlots = 4096;
  std::atomic<void*> slots_[kSlots] = {};
};

// Threads that allocate and free without pause until stop(). Must not be running when it goes out of scope.
class BusyThreads {
 public:
  explicit BusyThreads(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      threads_.emplace_back([this, i] { work(i); });
    }
    while (running_.load() < count) sched_yield();
  }
  void stop() {
    stop_ = true;
    for (Thread& thread : threads_) thread.join();
    slots_.free_all();
  }
  ExchangeSlots& slots() { return slots_; }

 private:
  void work(size_t seed) {
    Random random{seed};
    running_.fetch_add(1);
    while (!stop_.load(std::memory_order_relaxed)) {
      const size_t size = mixed_size(random);
      void* block = random.below(8) == 0 ? calloc(1, size) : malloc(size);
      if (block != nullptr && random.below(16) == 0) block = realloc(block, mixed_size(random) + 1);
      free(slots_.swap(random.next(), block));
    }
  }
  std::atomic<bool> stop_{false};
  std::atomic<size_t> running_{0};
  ExchangeSlots slots_;
  std::vector<Thread> threads_;
};
