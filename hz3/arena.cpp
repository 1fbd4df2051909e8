// See hz3/arena.hpp.
#include "hz3/arena.hpp"

#include "hz3/message.hpp"
#include "hz3/settings.hpp"

namespace hz3 {

constinit HotMap hot_map{};
constinit ArenaSet arenas;

namespace {

constexpr size_t kMetaStep = 64 << 10;     // metadata becomes usable in steps of this many bytes: the largest kernel page
constexpr uint32_t kCommitAhead = 32;      // segments
constexpr size_t kLeastArena = 64u << 20;  // below this an arena is not worth its bookkeeping

template <typename T>
T* at(const MetaRegion& region) {
  return reinterpret_cast<T*>(region.base());
}

bool make_usable(bool held, char* p, size_t bytes) { return held ? os::calls.commit(p, bytes) : os::calls.claim(p, bytes); }

}  // namespace

bool MetaRegion::ensure(size_t bytes) {
  if (bytes <= usable_) return true;
  size_t upto = round_up(bytes, kMetaStep);
  if (upto > bytes_) upto = bytes_;
  if (!make_usable(held_, base_ + usable_, upto - usable_)) return false;
  usable_ = upto;
  return true;
}

void Arena::label(const char* start, unsigned pages, Tag tag, const Run* run) {
  const size_t first = page_index(start);
  const uint32_t id = static_cast<uint32_t>(run - runs_);
  for (unsigned i = 0; i < pages; i++) {
    // relaxed, both: read by run(), tag() and load_tag_low(). Whoever frees a block of this run got it from the
    // program, which ordered this before; a stray free nearby may read at the same time, and either value will do.
    __atomic_store_n(&run_ids_[first + i], id, __ATOMIC_RELAXED);
    __atomic_store_n(&tags_[first + i], tag, __ATOMIC_RELAXED);
  }
}

void Arena::unlabel(const char* start, unsigned pages) {
  const size_t first = page_index(start);
  // relaxed: as in label(). No block of these pages is in use, so that only a wrong free can read them now.
  for (unsigned i = 0; i < pages; i++) __atomic_store_n(&tags_[first + i], Tag{0}, __ATOMIC_RELAXED);
}

// Addresses that nobody uses, or will use before he has used all above them; else a reservation, `held`. nullptr when there are
// not so many.
char* Arena::find_stretch(size_t bytes, bool* held) {
  char* p = static_cast<char*>(os::calls.reserve(bytes));
  if (p == nullptr) return nullptr;
  os::calls.release(p, bytes);
  *held = false;
  if (os::fills_from_top(p, bytes) && os::calls.claim(p, kMetaStep)) {
    os::calls.release(p, kMetaStep);
    return p;
  }
  *held = true;
  return static_cast<char*>(os::calls.reserve(bytes));
}

// Finds room for `bytes` of segments, or half of it, or half of that, down to `least`.
bool Arena::reserve(size_t bytes, size_t least) {
  for (; bytes >= least; bytes /= 2) {
    const size_t segments = bytes >> kSegmentShift;
    const size_t pages = segments * kSegmentPages;
    const size_t sizes[kRegions] = {
        round_up(pages * sizeof(Tag), kMetaStep),        round_up(pages * sizeof(uint32_t), kMetaStep),
        round_up(segments * sizeof(Segment), kMetaStep), round_up(pages * sizeof(Run), kMetaStep),
        round_up(round_up(segments, 64) / 8, kMetaStep), round_up(round_up(segments, 64) / 8, kMetaStep)};
    size_t metadata = 0;
    for (size_t s : sizes) metadata += s;
    const size_t all = metadata + bytes + kSegmentBytes;
    bool held = false;
    char* p = find_stretch(all, &held);
    if (p == nullptr) continue;
    if (held && bytes > least && bytes > os::address_space_limit() / 8) {  // the program needs most of it for itself
      os::calls.release(p, all);
      continue;
    }
    held_ = held;
    reservation_ = p;
    reservation_bytes_ = all;
    for (unsigned i = 0; i < kRegions; i++) {
      region_[i].place(p, sizes[i], held);
      p += sizes[i];
    }
    base_ = round_up(reinterpret_cast<uintptr_t>(p), kSegmentBytes);
    segments_max_ = static_cast<uint32_t>(segments);
    tags_ = at<Tag>(region_[kTags]);
    run_ids_ = at<uint32_t>(region_[kRunIds]);
    segments_ = at<Segment>(region_[kSegments]);
    runs_ = at<Run>(region_[kRuns]);
    free_bits_ = at<uint64_t>(region_[kFree]);
    raw_bits_ = at<uint64_t>(region_[kRaw]);
    return true;
  }
  return false;
}

// Makes tags and descriptors usable for the first `segments` segments.
bool Arena::grow(uint32_t segments) {
  const size_t pages = size_t{segments} * kSegmentPages;
  return region_[kTags].ensure(pages * sizeof(Tag)) && region_[kRunIds].ensure(pages * sizeof(uint32_t)) &&
         region_[kSegments].ensure(segments * sizeof(Segment)) && region_[kFree].ensure(round_up(segments, 64) / 8) &&
         region_[kRaw].ensure(round_up(segments, 64) / 8);
}

Segment* Arena::prepare(uint32_t first, uint32_t count) {
  for (uint32_t i = first; i < first + count; i++) {
    Segment& s = segments_[i];
    s.arena = this;
    s.index = i;
    s.set_span_owner(0);
    s.free_pages = s.longest = kSegmentPages;
    s.list = Segment::kNoList;
  }
  return &segments_[first];
}

// Makes the segments below `end` usable, and some more: each such call locks the whole address space in the kernel, page
// faults of other threads included, so there are to be few of them.
bool Arena::commit_to(uint32_t end) {
  if (end <= segments_usable_) return true;
  char* from = segment_start(segments_usable_);
  uint32_t upto = end + (end / 8 < kCommitAhead ? end / 8 : kCommitAhead);
  if (upto > segments_max_) upto = segments_max_;
  if (!make_usable(held_, from, size_t{upto - segments_usable_} << kSegmentShift)) {
    upto = end;
    if (!make_usable(held_, from, size_t{upto - segments_usable_} << kSegmentShift)) return false;
  }
  // What it says of huge pages the kernel may ignore.
  const HugePages huge = settings::huge_pages();
  if (huge == HugePages::Never || huge == HugePages::Always)
    os::calls.advise(from, size_t{upto - segments_usable_} << kSegmentShift,
                     huge == HugePages::Always ? os::Advice::HugePage : os::Advice::NoHugePage);
  segments_usable_ = upto;
  return true;
}

// Segments that were never used. Those skipped for alignment become free ones.
Segment* Arena::take_fresh(uint32_t count, uint32_t alignment) {
  const uint64_t number = base_ >> kSegmentShift;
  const uint64_t first = round_up(number + segments_used_, alignment) - number;
  if (first + count > segments_max_) return nullptr;
  const uint32_t begin = segments_used_;
  const uint32_t end = static_cast<uint32_t>(first + count);
  if (!grow(end) || !commit_to(end)) return nullptr;
  for (uint32_t i = begin; i < first; i++) mark_free(i);
  prepare(begin, static_cast<uint32_t>(first) - begin);
  free_segments_ += static_cast<uint32_t>(first) - begin;
  segments_used_ = end;
  // release: pairs with the acquire in contains(). Not what is usable ahead: that may become somebody else's.
  committed_pages_.store(size_t{end} * kSegmentPages, std::memory_order_release);
  return prepare(static_cast<uint32_t>(first), count);
}

// Makes free segments usable again, as far as decommit_free() had them. False when the kernel refuses.
bool Arena::recommit(uint32_t first, uint32_t count) {
  bool raw = false;
  for (uint32_t i = first; i < first + count; i++) raw = raw || ((raw_bits_[i / 64] >> (i % 64)) & 1);
  if (!raw) return true;
  if (!os::calls.commit(segment_start(first), size_t{count} << kSegmentShift)) return false;
  for (uint32_t i = first; i < first + count; i++) raw_bits_[i / 64] &= ~(uint64_t{1} << (i % 64));
  return true;
}

// The lowest stretch of free segments that fits.
Segment* Arena::take_freed(uint32_t count, uint32_t alignment) {
  if (free_segments_ < count) return nullptr;
  const uint64_t number = base_ >> kSegmentShift;
  uint32_t length = 0;
  for (uint32_t i = 0; i < segments_used_; i++) {
    if (length == 0 && i % 64 == 0 && free_bits_[i / 64] == 0) {
      i += 63;
      continue;
    }
    if (!is_free(i) || (length == 0 && (number + i) % alignment != 0)) {
      length = 0;
      continue;
    }
    if (++length < count) continue;
    const uint32_t first = i + 1 - count;
    if (!recommit(first, count)) return nullptr;
    for (uint32_t k = first; k <= i; k++) mark_taken(k);
    free_segments_ -= count;
    return prepare(first, count);
  }
  return nullptr;
}

void ArenaSet::publish_hot_pages() {
  // release: base and tags first; see HotMap for the readers. relaxed load: written under lock_, which is held
  __atomic_store_n(&hot_map.pages, arena_[0].committed_pages_.load(std::memory_order_relaxed), __ATOMIC_RELEASE);
}

// Makes all free segments unusable, so that they are charged to nobody.
bool Arena::decommit_free() {
  bool any = false;
  for (uint32_t i = 0; i < segments_used_; i++) {
    uint64_t& raw = raw_bits_[i / 64];
    const uint64_t bit = uint64_t{1} << (i % 64);
    if (!is_free(i) || (raw & bit) != 0) continue;
    if (!os::calls.decommit(segment_start(i), kSegmentBytes)) continue;
    for (unsigned w = 0; w < PageBits::kWords; w++) segments_[i].touched.word(w) = 0;
    raw |= bit;
    any = true;
  }
  const size_t ahead = size_t{segments_usable_ - segments_used_} << kSegmentShift;
  if (ahead == 0) return any;
  if (!held_) {
    os::calls.release(segment_start(segments_used_), ahead);
  } else if (!os::calls.decommit(segment_start(segments_used_), ahead)) {
    return any;
  }
  segments_usable_ = segments_used_;
  return true;
}

void Arena::unmap() {
  if (held_) {
    os::calls.release(reservation_, reservation_bytes_);
  } else {
    for (const MetaRegion& region : region_)
      if (region.usable() != 0) os::calls.release(region.base(), region.usable());
    if (segments_retired_ != 0) os::calls.release(segment_start(0), size_t{segments_retired_} << kSegmentShift);
  }
  reservation_ = nullptr;
  base_ = 0;
  segments_max_ = segments_used_ = segments_usable_ = segments_retired_ = free_segments_ = runs_used_ = 0;
}

// relaxed loads of count_ here and below: under lock_, as its stores.
bool ArenaSet::decommit_free() {
  LockGuard guard(lock_);
  bool any = false;
  for (unsigned i = 0; i < count_.load(std::memory_order_relaxed); i++)
    if (arena_[i].decommit_free()) any = true;
  return any;
}

uint64_t ArenaSet::retire_empty() {
  LockGuard guard(lock_);
  uint64_t retired = 0;
  for (unsigned i = 1; i < count_.load(std::memory_order_relaxed); i++) {
    Arena& a = arena_[i];
    if (a.reservation_ == nullptr || a.segments_in_use() != 0) continue;
    a.committed_pages_.store(0, std::memory_order_release);  // release: pairs with the acquire in contains()
    a.segments_retired_ = a.segments_usable_;
    a.segments_max_ = a.segments_used_ = a.segments_usable_ = a.free_segments_ = 0;
    retired |= uint64_t{1} << i;
  }
  return retired;
}

void ArenaSet::unmap(uint64_t retired) {
  LockGuard guard(lock_);
  for (unsigned i = 1; i < kArenasMax; i++)
    if ((retired >> i) & 1) arena_[i].unmap();
}

// A new arena for at least so many segments; nullptr when there is no address space.
Arena* ArenaSet::add_arena(uint32_t least_segments) {
  unsigned n = 0;
  while (n < kArenasMax && arena_[n].reservation_ != nullptr) n++;
  if (n == kArenasMax) return nullptr;
  Arena& a = arena_[n];
  // More than a limit on address space would be refused.
  const size_t limit = os::address_space_limit();
  size_t bytes = kArenaBytes;
  while (limit != SIZE_MAX && bytes > limit / 2 && bytes > kLeastArena) bytes /= 2;
  const size_t least = size_t{least_segments} << kSegmentShift;
  size_t need = kLeastArena;
  while (need < least) need *= 2;
  if (bytes < need) bytes = need;
  if (!a.reserve(bytes, least > kLeastArena ? need : kSegmentBytes * 4) && !a.reserve(least, least)) return nullptr;
  a.number_ = n;
  // release: pairs with the acquire in find_slow()
  if (n >= count_.load(std::memory_order_relaxed)) count_.store(n + 1, std::memory_order_release);
  return &a;
}

Segment* ArenaSet::allocate(uint32_t count, uint32_t alignment) {
  LockGuard guard(lock_);
  for (;;) {
    const unsigned n = count_.load(std::memory_order_relaxed);  // written under lock_ alone
    for (unsigned i = 0; i < n; i++) {
      Segment* s = arena_[i].take_freed(count, alignment);
      if (s == nullptr) s = arena_[i].take_fresh(count, alignment);
      if (i == 0) {
        // relaxed: ordered by the release of pages that follows; racy_read() of find_tag_low() and find() reads them
        __atomic_store_n(&hot_map.base, arena_[0].base_, __ATOMIC_RELAXED);
        __atomic_store_n(&hot_map.tags, arena_[0].tags_, __ATOMIC_RELAXED);
        publish_hot_pages();
      }
      if (s != nullptr) return s;
    }
    Arena* fresh = add_arena(count + alignment - 1);
    if (fresh == nullptr) return nullptr;
    // A new arena whose memory the kernel refuses ends the search: the next round would only reserve another.
    if (fresh != &arena_[0]) return fresh->take_fresh(count, alignment);
  }
}

void ArenaSet::release(Segment* first, uint32_t count) {
  Arena* a = first->arena;
  LockGuard guard(lock_);
  for (uint32_t i = 0; i < count; i++) a->mark_free(first->index + i);
  a->free_segments_ += count;
}

bool ArenaSet::extend(Segment* last, uint32_t more, Behind behind) {
  Arena* a = last->arena;
  LockGuard guard(lock_);
  const uint32_t next = last->index + 1;
  uint32_t freed = 0;
  while (freed < more && next + freed < a->segments_used_ && a->is_free(next + freed)) freed++;
  if (freed < more && next + freed != a->segments_used_) return false;  // somebody else's
  if (freed < more && behind == Behind::Freed) return false;
  if (!a->recommit(next, freed)) return false;
  if (freed < more) {
    Segment* fresh = a->take_fresh(more - freed, 1);
    if (fresh == nullptr) return false;
  }
  for (uint32_t i = 0; i < freed; i++) a->mark_taken(next + i);
  a->free_segments_ -= freed;
  a->prepare(next, freed);
  publish_hot_pages();
  return true;
}

Run* ArenaSet::allocate_runs(Arena* arena, unsigned n) {
  LockGuard guard(lock_);
  const size_t all = size_t{arena->segments_max_} * kSegmentPages;
  if (arena->runs_used_ + n > all) n = static_cast<unsigned>(all - arena->runs_used_);
  if (n == 0 || !arena->region_[Arena::kRuns].ensure((arena->runs_used_ + n) * sizeof(Run))) return nullptr;
  Run* list = nullptr;
  for (unsigned i = n; i-- > 0;) {
    Run* r = arena->runs_ + arena->runs_used_ + i;
    r->next = list;
    list = r;
  }
  arena->runs_used_ += n;
  return list;
}

Arena* ArenaSet::find_slow(const void* p) {
  // acquire: pairs with the release in add_arena()
  const unsigned n = count_.load(std::memory_order_acquire);
  for (unsigned i = 0; i < n; i++)
    if (arena_[i].contains(p)) return &arena_[i];
  return nullptr;
}

size_t ArenaSet::bytes_in_use() {
  LockGuard guard(lock_);
  size_t segments = 0;
  for (unsigned i = 0; i < count_.load(std::memory_order_relaxed); i++) segments += arena_[i].segments_in_use();
  return segments << kSegmentShift;
}

void ArenaSet::check() {
  LockGuard guard(lock_);
  for (unsigned i = 0; i < count_.load(std::memory_order_relaxed); i++) {
    const Arena& a = arena_[i];
    uint32_t free = 0;
    for (uint32_t k = 0; k < a.segments_used_; k++) free += a.is_free(k) ? 1 : 0;
    if (free != a.free_segments_ || a.segments_used_ > a.segments_usable_ || a.segments_usable_ > a.segments_max_)
      invariant_failed("I20", "an arena's segments are miscounted");
  }
}

}  // namespace hz3
