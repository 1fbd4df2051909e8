// Segments that become huge pages: the part of hz3/page_heap.hpp that is about them.
//
// A huge page takes a third of the time that the faults of its small pages would, and one entry of the TLB. So a heap that
// grows has the kernel make one of a segment soon after its first use (MADV_COLLAPSE: nothing is said of the mapping, and so
// the kernel does not by itself make huge pages of what is purged later). What is free in it is in memory from then on, and
// counts as dirty: there is no more of that than half of the reserve, nor than the program took for runs a moment ago, and it
// is purged as other dirty pages are when the program does not want it after all.
#include "hz3/page_heap.hpp"
#include "hz3/settings.hpp"

#include <cstring>

namespace hz3 {
namespace {
constexpr bool kPossible = kSegmentBytes % kHugePageBytes == 0;
constexpr unsigned kLastLook = kSegmentPages / 2;        // pages in use
constexpr unsigned kLeastClean = kSegmentPages / 8 * 3;  // pages whose faults it saves: with fewer the copies cost more
constexpr unsigned kNoLook = kSegmentPages + 1;
static_assert(kNoLook <= UINT16_MAX);

// Where the kernel refused or took long, it is left alone for a while, twice as long each time. Relaxed, no pairs: only who
// asks, and when.
constexpr uint64_t kFirstPauseMs = 1000, kLongestPauseMs = 64000;
std::atomic<uint64_t> ask_again_ms{0};
std::atomic<uint64_t> next_pause_ms{kFirstPauseMs};

// Longer than that it was busy with other things than to clear and copy: it waits for work on all processors, which a real-time
// thread may hold up.
constexpr uint64_t kLongMs = 10;

void note_refusal(uint64_t now_ms) {
  if (now_ms < ask_again_ms.load(std::memory_order_relaxed)) return;  // by another thread at the same time
  const uint64_t pause = next_pause_ms.load(std::memory_order_relaxed);
  ask_again_ms.store(now_ms + pause, std::memory_order_relaxed);
  next_pause_ms.store(pause < kLongestPauseMs ? 2 * pause : pause, std::memory_order_relaxed);
}

// Whether the administrator wants none; read once. Older kernels collapse all the same.
bool system_forbids() {
  static std::atomic<int> known{-1};  // relaxed: two threads at once find the same
  int forbids = known.load(std::memory_order_relaxed);
  if (forbids < 0) {
    char text[64];
    const size_t length = os::read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text - 1);
    text[length] = '\0';
    forbids = strstr(text, "[never]") != nullptr ? 1 : 0;
    known.store(forbids, std::memory_order_relaxed);
  }
  return forbids != 0;
}
}  // namespace

// Whether a purge of a part would break up a huge page of which most is in use.
bool PageHeap::keeps_huge(const Segment* s) { return s->is_huge() && s->free_pages <= kSegmentPages / 4; }

bool PageHeap::worth_a_huge_page(const Segment* s) const {
  if (!kPossible || settings::huge_pages() != HugePages::Dense || s->is_huge() || s->collapsing) return false;
  const unsigned used = kSegmentPages - s->free_pages, clean = s->free_pages - s->dirty_pages;
  if (clean < kLeastClean || s->dense_pages < used / 4 * 3) return false;
  const size_t dirty = dirty_pages() + clean;
  const uint64_t now = os::now_ms();
  return dirty <= reserve_pages() / 2 && dirty <= held_pages() / 64 && dirty <= taken_pages(now) &&
         held_pages() + clean <= settings::limit_pages(settings::kHardLimitMib) &&
         now >= ask_again_ms.load(std::memory_order_relaxed) && os::page_size() == kPageSize;
}

// Of a segment in which as many pages are in use as its `look_at` says. With the lock held; unlocks while the kernel works. The
// segment stays, as a page of it is the caller's.
void PageHeap::consider_huge(Segment* s) {
  s->look_at = static_cast<uint16_t>(s->look_at < kLastLook ? 2 * s->look_at : kNoLook);
  if (worth_a_huge_page(s)) collapse(s);
}

// The pages may come and go while the kernel copies, what is in them stays as it is; but the segment is not purged.
void PageHeap::collapse(Segment* s) {
  s->collapsing = true;
  collapsing_++;
  lock_.unlock();
  bool done = false;
  if (!system_forbids()) {
    const uint64_t before = os::now_ms();
    done = tell_kernel(s->start(), kSegmentBytes, os::Advice::Collapse);
    const uint64_t now = os::now_ms();
    if (done && now - before < kLongMs) {
      next_pause_ms.store(kFirstPauseMs, std::memory_order_relaxed);
    } else {
      note_refusal(now);
    }
  }
  lock_.lock();
  s->collapsing = false;
  if (collapsing_ != 0) collapsing_--;  // it is in the child of a fork within a signal handler, of which in_child() knows
  if (!done) return;
  s->set_huge(true);
  s->swept_ms = os::now_ms();
  // What is not in use is in memory now, too, and so is what is in use and was not written to.
  const PageBits clean = ~s->used & ~s->dirty;
  s->touched.set(0, kSegmentPages);
  for (unsigned at = clean.next_set(0); at < kSegmentPages;) {
    const unsigned end = clean.next_clear(at);
    soil(s, at, end - at, end - at);
    at = clean.next_set(end);
  }
}

void PageHeap::in_child() {
  for (PageHeap& heap : page_heaps) {
    if (heap.collapsing_ == 0) continue;
    heap.collapsing_ = 0;
    for (Segment* first : heap.list_)
      for (Segment* s = first; s != nullptr; s = s->next) s->collapsing = false;
  }
}

}  // namespace hz3
