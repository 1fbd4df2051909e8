// Pages of runs that have blocks in use, on their way back to the kernel: the part of hz3/central.hpp that is about them.
//
// Who purges takes all free blocks of a run out of it, under the shard's lock, and puts them back when the kernel is done. So
// nobody else uses a page meanwhile, all of whose blocks are among those. Blocks that were never handed out stay where anybody
// may take them from, and their pages are left alone. A block that starts in a page that was given back has lost its link: a
// bit for the page stands for all that start there, until warm() links them again.
#include "hz3/cold.hpp"

#include "hz3/central.hpp"
#include "hz3/settings.hpp"

#include <utility>

namespace hz3 {
namespace {

constexpr unsigned kAtOnce = 32;         // runs: so many are purged between two times with the lock
constexpr unsigned kLinksAtOnce = 1024;  // followed with the lock, but for a run's
static_assert(kTierBins < 128, "a bit for each");

// The first block that starts in a page of a run or behind it.
unsigned first_in(unsigned page, size_t size) { return static_cast<unsigned>((size_t{page} * kPageSize + size - 1) / size); }

size_t offset_in(const Run* run, const void* block) {
  return static_cast<size_t>(static_cast<const char*>(block) - run->start);
}

// How many free blocks each page of a run has a part of.
struct Parts {
  uint16_t free[Run::kColdPages] = {};
  uint16_t listed[Run::kColdPages] = {};  // of them, on the list: those may have been written to since the last purge
  bool valid;                             // the list is as long as it is counted: no block was freed twice

  static void add(uint16_t* parts, size_t offset, size_t size) {
    const size_t last = (offset + size - 1) >> kPageShift;
    for (size_t page = offset >> kPageShift; page <= last && page < Run::kColdPages; page++) parts[page]++;
  }
  explicit Parts(const Run* run) {
    const size_t size = class_bytes(run->slot);
    const void* b = run->free;
    unsigned left = run->listed();
    for (; left != 0 && b != nullptr; left--, b = link_of(b)) {
      add(free, offset_in(run, b), size);
      add(listed, offset_in(run, b), size);
    }
    valid = left == 0 && b == nullptr;
    for (uint32_t cold = run->cold; cold != 0; cold &= cold - 1) {
      const unsigned page = static_cast<unsigned>(__builtin_ctz(cold));
      for (unsigned i = first_in(page, size); i < first_in(page + 1, size) && i < run->carved; i++) add(free, i * size, size);
    }
  }
};

void use_up(unsigned& work, unsigned part) { work -= part < work ? part : work; }

// Returns how often the kernel was called.
unsigned give_back(const Run* run, uint32_t pages) {
  unsigned calls = 0;
  if (unlikely(run->segment->is_huge()))
    break_up(run->segment, run->start + static_cast<unsigned>(__builtin_ctz(pages)) * kPageSize);
  for (unsigned at = 0, end = 0; at < Run::kColdPages; at = end + 1) {
    for (end = at; end < Run::kColdPages && (pages >> end & 1) != 0; end++) {
    }
    if (end == at) continue;
    give_to_kernel(run->start + at * kPageSize, (end - at) * kPageSize);
    calls++;
  }
  return calls;
}

}  // namespace

// What a purge took out of a run.
struct Central::Cooling {
  Run* run;
  uint32_t purge;  // the pages that it gives back
  uint32_t cold;   // pages with blocks that nothing links
  void* warm;      // all other blocks
  void* last_warm;
  uint16_t cold_count;
  uint16_t warm_count;
};

bool Central::cools() { return settings::huge_pages() != HugePages::Always && os::page_size() == kPageSize; }

// The pages that have free blocks alone, but for those that are in the kernel's hands already.
void Central::find_pages(const Run* run, Cooling& c) {
  const size_t size = class_bytes(run->slot);
  const Parts parts(run);
  if (!parts.valid) return;
  for (unsigned page = 0; page < run->pages && page < Run::kColdPages; page++) {
    if (parts.listed[page] == 0) continue;
    const unsigned next = first_in(page + 1, size), end = next < run->capacity ? next : run->capacity;
    if (end > run->carved || parts.free[page] != end - page * kPageSize / size) continue;
    c.purge |= uint32_t{1} << page;
    if (first_in(page, size) < end) c.cold |= uint32_t{1} << page;
  }
  // A huge page is not broken up for less than most of what a run has in it.
  if (unlikely(run->segment->is_huge()) && 2 * count_bits(c.purge) < run->pages) c.purge = 0, c.cold = run->cold;
}

// Takes the free blocks out of a run on a list, if a page has no other ones.
bool Central::take_out(Run* run, Cooling& c) {
  c = Cooling{run, 0, run->cold, nullptr, nullptr, run->cold_count, 0};
  find_pages(run, c);
  unlist(run);
  if (c.purge == 0) {
    list(run, kCold);
    return false;
  }
  count_returned(run->slot, -static_cast<int>(run->free_count));
  run->cold = c.cold;
  for (void *b = run->free, *after = nullptr; b != nullptr; b = after) {
    after = link_of(b);
    if (run->is_cold(offset_in(run, b))) {
      c.cold_count++;
      continue;
    }
    set_link(b, c.warm);
    if (c.warm == nullptr) c.last_warm = b;
    c.warm = b;
    c.warm_count++;
  }
  run->free = nullptr;
  run->cold = 0;
  run->free_count = run->cold_count = 0;
  return true;
}

void Central::put_back(const Cooling& c) {
  Run* const run = c.run;
  Run* freed = nullptr;
  {
    LockGuard guard(lock_);
    const unsigned back = static_cast<unsigned>(c.cold_count) + c.warm_count;
    run->cold |= c.cold;  // meanwhile another one may have purged what came back
    run->cold_count = static_cast<uint16_t>(run->cold_count + c.cold_count);
    run->free_count = static_cast<uint16_t>(run->free_count + back);
    count_returned(run->slot, static_cast<int>(back));
    if (c.warm != nullptr) {
      set_link(c.last_warm, run->free);
      run->free = c.warm;
    }
    if (run->all_free()) {
      freed = retire(run, nullptr);
    } else if (run->list == Run::kNoList) {
      list(run, kCold);
    } else {
      relist(run);
      if (may_cool(run)) set_warm(run->slot, true);
    }
  }
  release(freed);
}

// The next class that has warm runs, from `slot` on. False when there is none.
bool Central::next_warm(Slot& slot) const {
  for (; slot <= kTierBins; slot = slot / 64 * 64 + 64)
    if (const uint64_t word = warm_word(slot / 64) >> slot % 64; word != 0) {
      slot += static_cast<Slot>(__builtin_ctzll(word));
      return true;
    }
  return false;
}

// Runs of `slot` and of the classes behind it, as many as there is room for, the sparse ones first. Sets `slot` to where to go
// on.
unsigned Central::choose(Slot& slot, unsigned idle_ticks, Work& work, Cooling* chosen) {
  unsigned count = 0, links = 0;
  LockGuard guard(lock_);
  for (; next_warm(slot); slot++) {
    bool more = false;
    for (unsigned f = kFullness; f-- != least_list(slot);)
      for (Run *run = list_[slot][f], *next = nullptr; run != nullptr; run = next) {
        if (count == kAtOnce || links > kLinksAtOnce || !work.left()) return count;
        work.visits--;
        next = run->next;
        if (run->free_count == 0 || !may_cool(run)) continue;
        if (static_cast<uint8_t>(ticks_ - run->changed) < idle_ticks) {
          more = true;
          continue;
        }
        links += run->listed();
        use_up(work.links, run->listed());
        if (take_out(run, chosen[count])) count++;
      }
    if (!more) set_warm(slot, false);
  }
  return count;
}

void Central::age_warm() {
  LockGuard guard(lock_);
  ticks_++;
}

void Central::cool_warm(unsigned idle_ticks, Work& work) {
  Slot slot = 1;
  if (idle_ticks != 0) {
    LockGuard guard(lock_);
    slot = std::exchange(next_cool_, 1);
  }
  Cooling chosen[kAtOnce];
  while (slot <= kTierBins && work.left()) {
    const unsigned count = choose(slot, idle_ticks, work, chosen);
    for (unsigned i = 0; i < count; i++) {
      use_up(work.calls, give_back(chosen[i].run, chosen[i].purge));
      put_back(chosen[i]);
    }
  }
  if (slot <= kTierBins && idle_ticks != 0) {  // those behind this class have their turn first, the next time
    LockGuard guard(lock_);
    next_cool_ = slot < kTierBins ? slot + 1 : 1;
  }
}

// Links the blocks of a cold page again, the first one first; returns how many.
unsigned Central::warm(Run* run) {
  const size_t size = class_bytes(run->slot);
  const unsigned page = static_cast<unsigned>(__builtin_ctz(run->cold));
  run->cold &= run->cold - 1;
  unsigned count = 0;
  for (unsigned first = first_in(page, size), i = first_in(page + 1, size); i-- > first;) {
    if (i >= run->carved) continue;
    void* const block = run->start + i * size;
    set_link(block, run->free);
    run->free = block;
    count++;
  }
  run->cold_count = static_cast<uint16_t>(run->cold_count - count);
  return count;
}

}  // namespace hz3

namespace hz3::cooling {
namespace {

constexpr Central::Work kPart{.visits = 8192, .links = 8192, .calls = 256};
constexpr uint64_t kPauseMs = 10, kMostParts = 4;  // so many at once, where the pause was longer
constexpr uint64_t kMostIdleTicks = 200;           // that are counted, of a run, until its pages go

// relaxed, no pairs: only who goes on, when, and with which shard; all else is behind the shards' locks
constinit std::atomic<uint64_t> next_ms{settings::kNever};
constinit std::atomic<uint64_t> last_ms{0};
constinit std::atomic<unsigned> next_shard{0};
constinit std::atomic<unsigned> ticks{0};

// For how many ticks a run has to be idle, and how many are counted as one.
struct Idle {
  unsigned ticks, each;
};
Idle idle_ticks() {
  const uint64_t all = clamp(settings::decay_ms() / settings::tick_ms(), 1, SIZE_MAX), each = all / kMostIdleTicks + 1;
  return {static_cast<unsigned>(all / each), static_cast<unsigned>(each)};
}

// One shard after another; the one that had no turn to its end first, the next time.
void cool(uint64_t now_ms) {
  const uint64_t pause = now_ms - last_ms.exchange(now_ms, std::memory_order_relaxed);
  const unsigned parts = static_cast<unsigned>(clamp(pause / kPauseMs, 1, kMostParts));
  Central::Work work{kPart.visits, kPart.links * parts, kPart.calls * parts};
  unsigned shard = next_shard.load(std::memory_order_relaxed);
  const unsigned idle = idle_ticks().ticks;
  for (unsigned i = 0; i < kShards; i++) {
    Central::of(shard).cool(idle, work);
    if (!work.left()) break;
    shard = shard + 1 < kShards ? shard + 1 : 0;
  }
  next_shard.store(shard, std::memory_order_relaxed);
  // Runs that were visited, and were not idle, are visited again a tick later.
  const bool goes_on = work.links == 0 || work.calls == 0;
  next_ms.store(goes_on ? now_ms + kPauseMs : settings::kNever, std::memory_order_relaxed);
}

}  // namespace

void tick(uint64_t now_ms) {
  if (settings::decay_ms() == settings::kNever) return;
  if (ticks.fetch_add(1, std::memory_order_relaxed) % idle_ticks().each == 0)
    for (unsigned i = 0; i < kShards; i++) Central::of(i).age();
  cool(now_ms);
}

bool due(uint64_t now_ms) { return now_ms >= next_ms.load(std::memory_order_relaxed); }

void go_on(uint64_t now_ms) {
  uint64_t at = next_ms.load(std::memory_order_relaxed);
  if (now_ms >= at && next_ms.compare_exchange_strong(at, settings::kNever, std::memory_order_relaxed)) cool(now_ms);
}

uint64_t pause_ms() { return next_ms.load(std::memory_order_relaxed) != settings::kNever ? kPauseMs : settings::tick_ms(); }

}  // namespace hz3::cooling
