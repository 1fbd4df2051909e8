// How others reach the bins of threads that sleep: who is parked, what is taken from them, and that a call of theirs that was
// stopped anywhere in the hot path goes on as if nothing had happened.
#include "hz3/sleepers.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include "hz3/budget.hpp"
#include "hz3/depot.hpp"
#include "hz3/settings.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::blocks_in_bins;
using test::in_child;
using test::Worker;

class Sleepers : public testing::Test {
 protected:
  void SetUp() override {
    test::my_cache();
    test::no_ticks();
  }
  void TearDown() override {
    test::no_ticks();
    EXPECT_NOTHING_LOST();
    size_t granted = Depot::granted();
    for (ThreadCache* tc = thread_registry.first(); tc != nullptr; tc = tc->next) granted += tc->in_use ? tc->granted : 0;
    EXPECT_EQ(process_budget.granted(), granted);
  }
  // A tick parks, the next one empties.
  static void ticks(unsigned n) {
    while (n-- > 0) tick(test::later());
  }
  // As a thread leaves a bin that it made good use of: more than one list, a limit that grew.
  static void fill_bins() {
    for (size_t size : {16, 64, 200, 1000, 4000, 20000, 100000, 250000}) {
      const unsigned n = static_cast<unsigned>(class_info(slot_of(size)).limit_first) * 3;
      Blocks blocks(n < 200 ? n : 200);
      for (int round = 0; round < 3; round++) {
        for (void*& b : blocks) b = memset(malloc_hot(size), round, 16);
        for (void* b : blocks) free_hot(b);
      }
    }
  }
  static unsigned longest_bin(const ThreadCache* tc, Slot first, Slot last) {
    unsigned longest = 0;
    for (Slot slot = first; slot <= last; slot++) longest = std::max(longest, test::bin_length(tc, slot));
    return longest;
  }
  static bool is_parked(const ThreadCache* tc) { return *tc->seat == &fresh_cache; }
  // Blocks with a link each, in order, in the first list of a bin that has room for them.
  static Blocks put_into_bin(ThreadCache* tc, Slot slot, unsigned n) {
    Blocks blocks = test::blocks_of(tc->shard, slot, n);
    tc->head[slot] = test::list_of(blocks);
    grant_room(tc, slot, n);
    return blocks;
  }
};

TEST_F(Sleepers, AreParkedThenEmptied) {
  Worker sleeper;
  ThreadCache* tc = sleeper.cache();
  sleeper.run(fill_bins);
  EXPECT_GT(tc->granted, 0u);
  const size_t before = blocks_in_bins(tc);
  EXPECT_GT(longest_bin(tc, 1, kTierBins), 8u);
  ticks(1);
  EXPECT_TRUE(is_parked(tc));
  EXPECT_EQ(blocks_in_bins(tc), before) << "time has to pass";
  ticks(1);
  EXPECT_TRUE(is_parked(tc));
  EXPECT_EQ(longest_bin(tc, 1, kTierBins), sleepers::kLeftOfTiers);
  EXPECT_EQ(longest_bin(tc, kTierBins + 1, kSlots - 1), sleepers::kLeftOfLarge);
  EXPECT_EQ(tc->granted, 0u);
  ticks(2);
  EXPECT_TRUE(is_parked(tc));
}

TEST_F(Sleepers, WakeWithTheirNextCall) {
  using Call = void (*)();
  static constexpr Call kCalls[] = {
      [] { free_hot(malloc_hot(64)); },
      [] { free_hot(malloc_hot(20000)); },
      [] { free_hot(malloc_hot(100000)); },
      [] { free_hot(malloc_hot(2 << 20)); },
      [] { free_hot(calloc_hot(200)); },
      [] { free_hot(api::memalign(256, 1000)); },
      [] { api::trim(); },
  };
  for (unsigned emptied = 0; emptied < 2; emptied++)
    for (const Call& call : kCalls) {
      SCOPED_TRACE(testing::Message() << emptied << " " << &call - kCalls);
      Worker sleeper;
      ThreadCache* tc = sleeper.cache();
      sleeper.run(fill_bins);
      ticks(1 + emptied);
      ASSERT_TRUE(is_parked(tc));
      sleeper.run(call);
      EXPECT_FALSE(is_parked(tc));
      EXPECT_EQ(*tc->seat, tc);
      sleeper.run([] { EXPECT_EQ(tls_cache, tls_own); });
      for (Slot slot = 1; slot < kSlots; slot++) {
        EXPECT_GE(most_in_bin(tc, slot), static_cast<int32_t>(test::list_length(tc->head[slot])) * kRoomUnit);
        EXPECT_GE(tc->room[slot], 0);
      }
      sleeper.run(fill_bins);
    }
}

TEST_F(Sleepers, FreeOfAParkedThreadGoesIntoItsBin) {
  Worker sleeper;
  ThreadCache* tc = sleeper.cache();
  void* block = nullptr;
  sleeper.run([&] { block = malloc_hot(64); });
  ticks(2);
  ASSERT_TRUE(is_parked(tc));
  sleeper.run([&] { free_hot(block); });
  EXPECT_FALSE(is_parked(tc));
  EXPECT_EQ(tc->head[slot_of(64)], block);
}

// As in a child of a bare clone(), where who held it is gone: the thread stays parked, and puts the block into its stash.
TEST_F(Sleepers, AFreeDoesNotWaitForALock) {
  Worker sleeper;
  ThreadCache* tc = sleeper.cache();
  Blocks blocks(3);
  sleeper.run([&] {
    for (void*& b : blocks) b = malloc_hot(64);
  });
  ticks(1);
  ASSERT_TRUE(is_parked(tc));
  const unsigned before = tc->stash.entries();
  {
    const LockGuard guard(thread_registry.mutex());
    sleeper.run([&] {
      for (void* b : blocks) free_hot(b);
    });
    EXPECT_TRUE(is_parked(tc));
    EXPECT_EQ(tc->stash.entries(), before + 3);
  }
  sleeper.run([] { free_hot(malloc_hot(64)); });
  EXPECT_FALSE(is_parked(tc));
  sleeper.run([] { flush_cache(tls_own); });
  EXPECT_EQ(tc->stash.entries(), 0u);
}

TEST_F(Sleepers, OneInASlowCallIsLeftAlone) {
  Worker sleeper;
  ThreadCache* tc = sleeper.cache();
  sleeper.run(fill_bins);
  const size_t before = blocks_in_bins(tc);
  tc->in_slow_call = true;
  ticks(3);
  EXPECT_FALSE(is_parked(tc));
  tc->in_slow_call = false;
  ticks(1);
  EXPECT_TRUE(is_parked(tc));
  tc->in_slow_call = true;  // it looked whether it was parked just before it was
  ticks(3);
  EXPECT_EQ(blocks_in_bins(tc), before);
  tc->in_slow_call = false;
  ticks(1);
  EXPECT_LT(blocks_in_bins(tc), before);
}

// As the start of the background thread does.
TEST_F(Sleepers, OneWithAnotherCacheInItsSeatIsLeftAlone) {
  Worker sleeper;
  ThreadCache* tc = sleeper.cache();
  sleeper.run(fill_bins);
  const size_t before = blocks_in_bins(tc);
  sleeper.run([] { tls_cache = &ended_cache; });
  ticks(3);
  EXPECT_EQ(blocks_in_bins(tc), before);
  sleeper.run([] { tls_cache = tls_own; });
  ticks(1);
  ASSERT_TRUE(is_parked(tc));
  sleeper.run([] { tls_cache = tls_own; });  // at the same moment
  ticks(1);
  EXPECT_EQ(blocks_in_bins(tc), before);
  EXPECT_FALSE(tc->parked);
  sleeper.run([] { free_hot(malloc_hot(64)); });
}

TEST_F(Sleepers, WhoTicksIsAwake) {
  fill_bins();
  const size_t before = blocks_in_bins(tls_own);
  ticks(3);
  EXPECT_EQ(tls_cache, tls_own);
  EXPECT_EQ(blocks_in_bins(tls_own), before);
}

TEST_F(Sleepers, OneThatCameByNotLongAgoIsLeftAlone) {
  Worker other;
  ThreadCache* tc = other.cache();
  const uint64_t now = test::later();
  tc->now_ms = now - settings::decay_ms() + 1;
  sleepers::tick(now);
  EXPECT_FALSE(is_parked(tc));
  sleepers::tick(now + 1);
  EXPECT_TRUE(is_parked(tc));
  const size_t before = blocks_in_bins(tc);
  sleepers::tick(now + sleepers::kGraceMs);
  EXPECT_EQ(blocks_in_bins(tc), before);
  EXPECT_FALSE(tc->emptied);
  sleepers::tick(now + 1 + sleepers::kGraceMs);
  EXPECT_TRUE(tc->emptied);
}

TEST_F(Sleepers, NobodyIsParkedWithoutDecay) {
  Worker sleeper;
  ThreadCache* tc = sleeper.cache();
  sleeper.run(fill_bins);
  const int64_t before = settings::values[settings::kDecayMs];
  settings::values[settings::kDecayMs] = -1;
  ASSERT_EQ(settings::decay_ms(), settings::kNever);
  sleepers::tick(test::later());
  sleepers::tick(test::later());
  settings::values[settings::kDecayMs] = before;
  EXPECT_FALSE(is_parked(tc));
}

// A malloc that was stopped before it read the list's head, behind that, or behind the link; and a free.
TEST_F(Sleepers, ACallThatWasStoppedInTheHotPathGoesOn) {
  enum Stop { kPopBeforeHead, kPopBehindHead, kPopBehindLink, kPushBehindHead, kPushBehindLink, kStops };
  const Slot slot = slot_of(128);
  for (unsigned length : {0u, 1u, 2u, 3u, 40u})
    for (unsigned stop = 0; stop < kStops; stop++) {
      if (length == 0 && stop < kPushBehindHead) continue;
      SCOPED_TRACE(testing::Message() << length << " blocks, stop " << stop);
      Worker sleeper;
      ThreadCache* tc = sleeper.cache();
      flush_cache(tc);
      Blocks blocks = put_into_bin(tc, slot, length);
      void* const freed = test::blocks_of(tc->shard, slot, 1)[0];
      void* head = stop != kPopBeforeHead ? tc->head[slot] : nullptr;
      void* const link = stop == kPopBehindLink ? link_of(head) : nullptr;
      if (stop == kPushBehindLink) set_link(freed, head);
      ticks(2);
      ASSERT_TRUE(tc->emptied);
      std::set<void*> out;
      if (stop < kPushBehindHead) {
        if (stop == kPopBeforeHead) head = tc->head[slot];
        ASSERT_NE(head, nullptr);
        tc->head[slot] = stop == kPopBehindLink ? link : link_of(head);
        tc->room[slot] += kRoomUnit;
        memset(head, 0xee, 128);
        out = {head, freed};
      } else {
        if (stop == kPushBehindHead) set_link(freed, head);
        tc->head[slot] = freed;
        tc->room[slot] -= kRoomUnit + kRoomLeak;
      }
      // What is in its bin now, and what the next calls get, are blocks that nobody else has.
      sleeper.run([&] {
        for (unsigned i = 0; i < length + 2; i++) {
          void* b = malloc_hot(128);
          EXPECT_TRUE(out.insert(b).second) << "a block was handed out twice";
          memset(b, 0xdd, 128);
        }
        for (void* b : out) free_hot(b);
      });
    }
}

TEST_F(Sleepers, ThatEndWhileTheyAreParked) {
  for (unsigned n = 0; n < 3; n++) {
    Worker sleeper;
    sleeper.run(fill_bins);
    ticks(n);
  }
  for (unsigned i = 0; i < kShards; i++) EXPECT_EQ(thread_registry.live_threads(i), i == tls_own->shard ? 1u : 0u);
}

TEST_F(Sleepers, AreEmptiedByTrim) {
  Worker sleeper;
  ThreadCache* tc = sleeper.cache();
  sleeper.run(fill_bins);
  sleepers::tick(os::now_ms() + settings::decay_ms() + 1000);  // parked, in a moment's time
  tc->parked_ms = os::now_ms() - sleepers::kGraceMs;
  api::trim();
  EXPECT_TRUE(tc->emptied);
}

TEST_F(Sleepers, ManyAreReachedInTurns) {
  constexpr unsigned kThreads = 300;
  std::vector<std::unique_ptr<Worker>> threads;
  std::vector<ThreadCache*> caches;
  for (unsigned i = 0; i < kThreads; i++) {
    threads.push_back(std::make_unique<Worker>());
    caches.push_back(threads.back()->cache());
  }
  const auto count = [&] {
    return static_cast<unsigned>(std::count_if(caches.begin(), caches.end(), [](ThreadCache* tc) { return tc->emptied; }));
  };
  unsigned n = 0;
  for (; count() < kThreads; n++) {
    ASSERT_LT(n, 8u);
    ticks(1);
  }
  EXPECT_GT(n, 2u) << "no tick looks at all of so many";
}

TEST_F(Sleepers, WhoForksIsParked) {
  for (unsigned n = 0; n < 3; n++) {
    Worker sleeper, other;
    sleeper.run(fill_bins);
    other.run(fill_bins);
    ticks(n);
    sleeper.run([&] {
      EXPECT_TRUE(in_child([] {
        fill_bins();
        api::trim();
        EXPECT_EQ(tls_cache, tls_own);
        EXPECT_EQ(thread_registry.live_threads(tls_own->shard), 1u);
      }));
      fill_bins();
    });
  }
}

#if !defined(__SANITIZE_THREAD__)  // it starts no threads in a child
// By a bare system call; its stack, and its TLS with it, are gone when it was waited for.
TEST_F(Sleepers, OneThatEndedWithoutAWordIsForgotten) {
  for (unsigned n = 0; n < 3; n++)
    EXPECT_TRUE(in_child([n] {
      pthread_attr_t attributes;
      pthread_attr_init(&attributes);
      pthread_attr_setstacksize(&attributes, 64 << 20);  // too large to be kept for the next thread
      static ThreadCache* tc = nullptr;
      static std::atomic<bool> started, go;
      started = go = false;
      pthread_t thread;
      pthread_create(
          &thread, &attributes,
          [](void*) -> void* {
            fill_bins();
            tc = tls_own;
            started = true;
            while (!go) usleep(1000);
            syscall(SYS_exit, 0);
            return nullptr;
          },
          nullptr);
      while (!started) usleep(1000);
      ticks(n);
      go = true;
      pthread_join(thread, nullptr);
      ticks(3);
      EXPECT_TRUE(tc->emptied || tc->seat == nullptr);
    }));
}

// In a child of fork() the thread holds what tells that it is alive.
TEST_F(Sleepers, OneThatForkedIsReachedInTheChild) {
  fill_bins();
  EXPECT_TRUE(in_child([] {
    static ThreadCache* mine = tls_own;
    std::thread([] { ticks(8); }).join();  // several: an earlier test left many caches to look at
    EXPECT_TRUE(mine->emptied);
    fill_bins();
    EXPECT_EQ(tls_cache, mine);
  }));
}
#endif

// Threads that work in bursts and exchange blocks, among ticks in great number.
TEST_F(Sleepers, BesideThreadsAtWork) {
  constexpr unsigned kThreads = 4, kSlotsOfExchange = 512, kSteps = 30000;
  std::vector<std::atomic<unsigned char*>> exchange(kSlotsOfExchange);
  std::atomic<unsigned> working{kThreads};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      test::Random random(t + 5);
      for (unsigned step = 0; step < kSteps; step++) {
        const size_t bytes = 1 + random.below(size_t{1} << (4 + random.below(step % 64 == 0 ? 15 : 8)));
        unsigned char* p = static_cast<unsigned char*>(malloc_hot(bytes));
        *p = p[bytes - 1] = static_cast<unsigned char>(t);
        free_hot(exchange[random.below(kSlotsOfExchange)].exchange(p));
        if (step % 1000 == t) usleep(2000 * static_cast<unsigned>(random.below(20)));
      }
      working--;
    });
  unsigned emptied = 0;
  while (working != 0) {
    const uint64_t now = os::now_ms();
    sleepers::tick(now + settings::decay_ms() + 5);  // who was in no slow call for 5 ms is asleep
    usleep(3000);
    const LockGuard guard(thread_registry.mutex());
    for (ThreadCache* tc = thread_registry.first(); tc != nullptr; tc = tc->next) emptied += tc->in_use && tc->emptied;
  }
  for (std::thread& thread : threads) thread.join();
  for (auto& block : exchange) free_hot(block);
  EXPECT_GT(emptied, 0u);
}

}  // namespace
}  // namespace hz3
