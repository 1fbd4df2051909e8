// A thread that does what it is told, one thing after another, and keeps its thread cache in between.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>

#include "tests/unit/support.hpp"

namespace hz3::test {

class Worker {
 public:
  Worker() : thread_([this] { loop(); }) {}
  ~Worker() {
    give({});
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Returns when the worker has done `work`.
  void run(std::function<void()> work) {
    give(std::move(work));
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !busy_; });
  }
  // The worker's cache, made if need be.
  ThreadCache* cache() {
    ThreadCache* tc = nullptr;
    run([&] { tc = my_cache(); });
    return tc;
  }

 private:
  void give(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    work_ = std::move(work);
    busy_ = true;
    changed_.notify_all();
  }
  void loop() {
    for (;;) {
      std::function<void()> work;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return busy_; });
        work = std::move(work_);
      }
      if (!work) return;
      work();
      const std::lock_guard lock(mutex_);
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> work_;
  bool busy_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace hz3::test
