// The futex mutex: exclusion under contention, sleepers are woken, the owner is known.
#include "hz3/lock.hpp"

#include <chrono>

#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

TEST(Mutex, KnowsItsHolder) {
  Mutex m;
  EXPECT_FALSE(m.held_by_me());
  m.lock();
  EXPECT_TRUE(m.held_by_me());
  test::in_thread([&] { EXPECT_FALSE(m.held_by_me()); });
  m.unlock();
  EXPECT_FALSE(m.held_by_me());
  m.lock();
  EXPECT_TRUE(m.held_by_me());
  m.unlock();
}

TEST(Mutex, ExcludesUnderContention) {
  Mutex m;
  size_t counter = 0;
  std::vector<std::thread> threads;
  constexpr size_t kRounds = 20000;
  for (int i = 0; i < 4; i++)
    threads.emplace_back([&] {
      for (size_t k = 0; k < kRounds; k++) {
        LockGuard guard(m);
        counter++;
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(counter, 4 * kRounds);
}

TEST(Mutex, WakesThoseWhoSleep) {
  Mutex m;
  m.lock();
  std::atomic<int> through{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++)
    threads.emplace_back([&] {
      LockGuard guard(m);
      through++;
    });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));  // long enough to give up spinning
  EXPECT_EQ(through, 0);
  m.unlock();
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(through, 3);
  m.lock();
  m.unlock();
}

}  // namespace
}  // namespace hz3
