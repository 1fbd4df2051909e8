// See hz3/info.hpp.
#include "hz3/info.hpp"

#include <cerrno>
#include <climits>

#include "hz3/background.hpp"
#include "hz3/large.hpp"
#include "hz3/message.hpp"
#include "hz3/settings.hpp"
#include "hz3/statistics.hpp"
#include "hz3/thread_cache.hpp"

namespace hz3::info {
namespace {

struct Heap {
  size_t segment_bytes;     // address space in use
  size_t free_page_bytes;   // of them, in no run
  size_t dirty_bytes;       // of those, not yet given back to the kernel
  size_t run_free_bytes;    // free blocks in central
  size_t span_free_bytes;   // free pages between spans
  size_t span_cache_bytes;  // of them, not yet given back to the kernel
  size_t runs;
  size_t caches;
};

Heap measure() {
  Heap h{};
  h.segment_bytes = arenas.bytes_in_use();
  h.free_page_bytes = PageHeap::free_pages() << kPageShift;
  h.dirty_bytes = PageHeap::dirty_pages() << kPageShift;
  h.span_free_bytes = large::free_span_bytes();
  h.span_cache_bytes = large::cached_span_bytes();
  for (unsigned i = 0; i < kShards; i++) {
    const Central::Totals t = Central::of(i).totals();
    h.run_free_bytes += t.free_bytes;
    h.runs += t.runs;
  }
  h.caches = thread_registry.caches();
  return h;
}

size_t used_bytes(const Heap& h) {
  const size_t free = h.free_page_bytes + h.run_free_bytes + h.span_free_bytes;
  return h.segment_bytes > free ? h.segment_bytes - free : 0;
}

int narrow(size_t v) { return v > INT_MAX ? INT_MAX : static_cast<int>(v); }

}  // namespace

int mallopt(int parameter, int value) {
  // As glibc does: all else is accepted, also what it does not know.
  if (parameter == M_MXFAST) return value >= 0 && static_cast<size_t>(value) <= 80 * sizeof(size_t) / 4;
  if (!settings::set(parameter, value)) return 0;
  background::settings_changed();
  return 1;
}

struct mallinfo2 mallinfo2() {
  const Heap h = measure();
  struct mallinfo2 m {};
  m.arena = h.segment_bytes;
  m.ordblks = h.runs;
  m.uordblks = used_bytes(h);
  m.fordblks = h.segment_bytes - m.uordblks;
  m.fsmblks = h.run_free_bytes;
  m.keepcost = h.dirty_bytes + h.span_cache_bytes;
  return m;
}

struct mallinfo mallinfo() {
  const struct mallinfo2 m = mallinfo2();
  struct mallinfo r {};
  r.arena = narrow(m.arena);
  r.ordblks = narrow(m.ordblks);
  r.uordblks = narrow(m.uordblks);
  r.fordblks = narrow(m.fordblks);
  r.fsmblks = narrow(m.fsmblks);
  r.keepcost = narrow(m.keepcost);
  return r;
}

void stats(int fd) {
  const Heap h = measure();
  Line().text("hz3: in use ").number(used_bytes(h)).text(" bytes of ").number(h.segment_bytes).text(" in segments").print(fd);
  Line()
      .text("hz3: free pages ")
      .number(h.free_page_bytes)
      .text(" bytes, of them not yet given back ")
      .number(h.dirty_bytes)
      .print(fd);
  Line().text("hz3: free blocks ").number(h.run_free_bytes).text(" bytes in ").number(h.runs).text(" runs").print(fd);
  Line().text("hz3: cached spans ").number(h.span_cache_bytes).text(" bytes").print(fd);
  Line().text("hz3: ").number(kShards).text(" shards, ").number(h.caches).text(" thread caches made").print(fd);
  if constexpr (kStatistics) statistics::print(fd);
}

int xml(int options, FILE* stream) {
  if (options != 0) return EINVAL;  // and no errno, as the C library does, whatever its manual says
  const Heap h = measure();
  fprintf(stream,
          "<malloc version=\"1\" allocator=\"hz3\">\n"
          "<shards count=\"%u\"/>\n<caches count=\"%zu\"/>\n"
          "<system type=\"current\" size=\"%zu\"/>\n<used size=\"%zu\"/>\n"
          "<free type=\"pages\" size=\"%zu\"/>\n<free type=\"dirty\" size=\"%zu\"/>\n"
          "<free type=\"blocks\" size=\"%zu\" runs=\"%zu\"/>\n<free type=\"spans\" size=\"%zu\"/>\n</malloc>\n",
          kShards, h.caches, h.segment_bytes, used_bytes(h), h.free_page_bytes, h.dirty_bytes + h.span_cache_bytes,
          h.run_free_bytes, h.runs, h.span_free_bytes);
  return 0;
}

}  // namespace hz3::info
