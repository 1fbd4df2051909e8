// See hz3/api.hpp.
#include "hz3/api.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "hz3/large.hpp"
#include "hz3/message.hpp"

namespace hz3::api {
namespace {

struct Block {
  Arena* arena;
  Tag tag;
  size_t usable;
};

// Looks up a block handed to `call`. False for pointers of other allocators; dies on one that is no block of ours.
bool look_up(const char* call, void* p, Block& b) {
  b.arena = arenas.find(p);
  if (b.arena == nullptr) return false;
  b.tag = b.arena->tag(p);
  const Slot slot = tag_slot(b.tag);
  if (slot == 0) die(call, p, "no block starts here: freed before, or never allocated");
  if (slot > kTierBins && b.arena->run(p)->start != p) die(call, p, "not the start of a block");
  b.usable = slot == kLargeSlot ? large::usable(p) : class_bytes(slot);
  return true;
}

// The size of a tier's block in the first arena, found as free finds its bin; 0 for all other pointers.
HZ3_ALWAYS_INLINE size_t tier_bytes(const void* p) {
  uint64_t low;
  if (unlikely(!find_tag_low(p, low))) return 0;
  const Slot slot = tag_slot(static_cast<Tag>(low));
  return likely(slot - 1 < kBins) ? class_bytes(slot) : 0;
}

// A block is not moved to make so much of it free.
bool fits(size_t bytes, size_t usable) { return bytes <= usable && (bytes > usable / 2 || usable <= 4 * kQuantum); }

HZ3_SLOW size_t usable_size_slow(void* p) {
  if (p == nullptr) return 0;
  Block b;
  return look_up("malloc_usable_size", p, b) ? b.usable : 0;
}

unsigned my_shard() { return tls_own != nullptr ? tls_own->shard : 0; }

void* fail(int error) {
  errno = error;
  return nullptr;
}

// Alignment is a power of two.
HZ3_SLOW void* aligned_slow(size_t alignment, size_t bytes) {
  if (bytes > PTRDIFF_MAX || alignment > PTRDIFF_MAX - bytes) return fail(ENOMEM);
  if (const Slot slot = slot_of_aligned(bytes, alignment)) return malloc_hot(class_bytes(slot));
  bool zero = false;
  return alloc_large(alignment, bytes != 0 ? bytes : 1, &zero);
}

HZ3_ALWAYS_INLINE void* allocate_aligned(size_t alignment, size_t bytes) {
  void* p = aligned_hot(alignment, bytes);
  return likely(p != nullptr) ? p : aligned_slow(alignment, bytes);
}

[[gnu::noinline]] void* realloc_slow(void* p, size_t bytes) {
  if (p == nullptr) return malloc_hot(bytes);
  if (bytes == 0) {
    free_hot(p);
    return nullptr;
  }
  if (unlikely(bytes > PTRDIFF_MAX)) return fail(ENOMEM);
  Block b;
  if (unlikely(!look_up("realloc", p, b))) return fail(ENOMEM);  // another allocator's: its size is unknown
  if (const Slot slot = tag_slot(b.tag); slot == kLargeSlot) {
    if (bytes > kMaxTierBytes && large::resize_in_place(p, bytes)) return p;
    if (bytes > b.usable)
      if (void* moved = large::move(my_shard(), p, bytes)) return moved;
  } else if (fits(bytes, b.usable) || (slot > kTierBins && large::resize_binned_in_place(p, bytes))) {
    return p;
  }
  void* q = malloc_hot(bytes);
  if (q == nullptr) return bytes <= b.usable ? p : nullptr;  // a block never fails to shrink
  memcpy(q, p, bytes < b.usable ? bytes : b.usable);
  free_hot(p);
  return q;
}

}  // namespace

void* realloc(void* p, size_t bytes) { return likely(bytes != 0 && fits(bytes, tier_bytes(p))) ? p : realloc_slow(p, bytes); }

void* memalign(size_t alignment, size_t bytes) {
  if (alignment > size_t{1} << 63) return fail(EINVAL);
  if (unlikely(!is_power_of_two(alignment))) {
    size_t power = kQuantum;
    while (power < alignment) power *= 2;
    alignment = power;
  }
  return allocate_aligned(alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) {
  if (!is_power_of_two(alignment)) return fail(EINVAL);
  return allocate_aligned(alignment, bytes);
}

int posix_memalign(void** out, size_t alignment, size_t bytes) {
  if (!is_power_of_two(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  void* p = aligned_hot(alignment, bytes);
  if (unlikely(p == nullptr)) {
    const int saved = errno;
    p = aligned_slow(alignment, bytes);
    errno = saved;
    if (p == nullptr) return ENOMEM;
  }
  *out = p;
  return 0;
}

void* valloc(size_t bytes) { return allocate_aligned(os::page_size(), bytes); }

void* pvalloc(size_t bytes) {
  const size_t page = os::page_size();
  if (bytes > PTRDIFF_MAX - page) return fail(ENOMEM);
  return allocate_aligned(page, bytes == 0 ? page : round_up(bytes, page));
}

size_t usable_size(void* p) {
  const size_t bytes = tier_bytes(p);
  return likely(bytes != 0) ? bytes : usable_size_slow(p);
}

int trim() { return reclaim(tls_own); }

}  // namespace hz3::api
