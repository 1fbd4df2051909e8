// See hz3/central.hpp.
#include "hz3/central.hpp"

#include "hz3/message.hpp"

namespace hz3 {

constinit Central centrals[kShards];

namespace {
constexpr unsigned kFirstRuns = 4;         // so many are short
constexpr size_t kWholeBytes = 4 << 10;    // a run that has no more than this to give is not left with a rest of it
constexpr Slot kSparesUpTo = kFirstSub4k;  // a spare of a larger class holds more memory than it saves time

// A run of one block is tagged on its first page alone: nothing else of it is handed to free.
unsigned tagged_pages(const Run* run) { return run->capacity == 1 ? 1 : run->pages; }
}  // namespace

unsigned Central::self() const { return static_cast<unsigned>(this - centrals); }

void Central::unlist(Run* run) {
  if (run->list == Run::kNoList) return;
  (run->prev != nullptr ? run->prev->next : first_of(run->slot, run->list)) = run->next;
  if (run->next != nullptr) run->next->prev = run->prev;
  run->list = Run::kNoList;
}

void Central::set_warm(Slot slot, bool warm) {
  std::atomic<uint64_t>& word = warm_[slot / 64];
  const uint64_t bit = uint64_t{1} << slot % 64, before = word.load(std::memory_order_relaxed);
  const uint64_t after = warm ? before | bit : before & ~bit;
  if (after != before) word.store(after, std::memory_order_relaxed);
}

void Central::list(Run* run, unsigned list) {
  Run*& first = first_of(run->slot, list);
  run->list = static_cast<uint8_t>(list);
  run->prev = nullptr;
  run->next = first;
  if (first != nullptr) first->prev = run;
  first = run;
}

// Puts a run, of which blocks came or went, on the list that its number of available blocks asks for.
void Central::relist(Run* run) {
  run->changed = ticks_;
  const unsigned available = run->available();
  static_assert(kFullness == 4);
  const unsigned capacity = run->capacity;
  const unsigned want = available == 0 ? Run::kNoList
                                       : static_cast<unsigned>(available * 4 > capacity) + (available * 4 > capacity * 2) +
                                             (available * 4 > capacity * 3);
  if (want == run->list) return;
  unlist(run);
  if (want != Run::kNoList) list(run, want);
}

// Blocks that came back first, they are in memory already; then those of a page that was given back, then some that were never
// used.
void Central::take_from_run(Run* run, unsigned want, Batch& batch) {
  const ClassInfo& c = class_info(run->slot);
  unsigned n = run->listed();
  if (unlikely(n == 0 && run->cold != 0)) n = warm(run);
  if (n != 0) {
    void* first = run->free;
    if (batch.count == 0 && want > 1 && n * c.size <= kWholeBytes) {
      run->free = nullptr;  // the whole list, which so need not be followed to its end
    } else {
      if (n > want - batch.count) n = want - batch.count;
      void* last = first;
      for (unsigned i = 1; i < n; i++) last = link_of(last);
      run->free = link_of(last);
      set_link(last, batch.head);
    }
    run->free_count = static_cast<uint16_t>(run->free_count - n);
    batch.head = first;
    batch.count += n;
    batch.zero = false;
    count_returned(run->slot, -static_cast<int>(n));
  } else if (batch.count == 0) {
    n = run->capacity - run->carved;
    if (n > c.carve) n = c.carve;
    if (n > want) n = want;
    char* block = run->start + size_t{run->carved} * c.size;
    batch.head = block;
    for (unsigned i = 1; i < n; i++, block += c.size) set_link(block, block + c.size);
    if (n > 1 || !run->zero) set_link(block, nullptr);
    run->carved = static_cast<uint16_t>(run->carved + n);
    if (run->carved > run->most_carved) run->most_carved = run->carved;
    batch.count = n;
    batch.zero = run->zero && n == 1;
  }
  relist(run);
}

void Central::take_from_lists(Slot slot, unsigned want, Batch& batch) {
  constexpr unsigned kRunsPerRefill = 4;  // the shard is locked: a refill is kept short
  for (unsigned visited = 0; visited < kRunsPerRefill && batch.count < want; visited++) {
    Run* run = nullptr;
    for (unsigned f = 0; f < kFullness && run == nullptr; f++) run = list_[slot][f];
    if (run == nullptr) run = cold_[slot];
    // Carving is for those who would get nothing.
    if (batch.count != 0 && (run == nullptr || run->listed() == 0)) break;
    if (run == nullptr) {
      run = spare_[slot];
      if (run == nullptr) break;
      spare_[slot] = nullptr;
      count_spares(-1);
      count_runs(slot, 1);
      // Carved anew: from its start to its end, without a read of what is in it.
      run->free = nullptr;
      run->free_count = run->cold_count = run->carved = 0;
      run->cold = 0;
      run->zero = false;
    }
    take_from_run(run, want, batch);
  }
}

Batch Central::take(Slot slot, unsigned want) {
  Batch batch{nullptr, 0, false};
  LockGuard guard(lock_);
  take_from_lists(slot, want, batch);
  return batch;
}

Batch Central::make(Slot slot, unsigned want) {
  const ClassInfo& c = class_info(slot);
  // relaxed: a hint for the shape; two threads at once may make one short run too many
  const RunShape shape = runs(slot) < kFirstRuns ? c.first_run : c.run;
  const size_t soon = size_t{c.carve} * c.size;
  Run* run = PageHeap::allocate(self(), shape.pages, 1, static_cast<unsigned>(round_up(soon, kPageSize) >> kPageShift),
                                c.size <= kPageSize);
  if (run == nullptr) return take(slot, want);  // what came back meanwhile
  run->slot = static_cast<uint8_t>(slot);
  run->shard = static_cast<uint8_t>(self());
  run->free_count = run->cold_count = run->carved = run->most_carved = 0;
  run->cold = 0;
  run->capacity = shape.blocks;
  run->segment->arena->label(run->start, tagged_pages(run), make_tag(slot, self()), run);
  Batch batch{nullptr, 0, false};
  LockGuard guard(lock_);
  count_runs(slot, 1);
  take_from_run(run, want, batch);
  return batch;
}

// What can be noticed of a wrong free at this late point: it costs a multiplication here, and nothing on the hot path. The
// fault, or nullptr. `back` blocks of the run came back already.
HZ3_ALWAYS_INLINE const char* Central::fault_of(const Run* run, const void* block, unsigned back) {
  const ClassInfo& c = class_info(run->slot);
  const uint64_t offset = static_cast<uint64_t>(static_cast<const char*>(block) - run->start);
  const uint64_t index = offset * c.reciprocal >> kReciprocalShift;
  if (unlikely(index * c.size != offset)) return "not the start of a block";
  if (unlikely(index >= run->carved)) return "never allocated";
  if (unlikely(back >= run->carved)) return "freed twice: its run has more blocks back than it gave";
  return nullptr;
}

// `back` blocks of the run were put onto its list. Returns the new `freed`.
Run* Central::account(Run* run, unsigned back, Run* freed) {
  run->free_count = static_cast<uint16_t>(run->free_count + back);
  count_returned(run->slot, static_cast<int>(back));
  if (unlikely(may_cool(run))) {
    if (run->all_free()) return retire(run, freed);
    set_warm(run->slot, true);
  }
  relist(run);
  return freed;
}

// Blocks that were freed one after another are often of one run: it is looked up, counted and listed anew once for all of them,
// and they stay linked as they are.
void* Central::put(void* list) {
  Run* freed = nullptr;
  void* foreign = nullptr;
  const char* fault = nullptr;
  {
    LockGuard guard(lock_);
    while (list != nullptr && fault == nullptr) {
      void* const first = list;
      Run* const run = run_of(first);
      if (unlikely(run->shard != self())) {
        list = link_of(first);
        set_link(first, foreign);
        foreign = first;
        continue;
      }
      const size_t run_bytes = size_t{run->pages} << kPageShift;
      void* last = nullptr;
      unsigned back = 0;
      do {
        fault = fault_of(run, list, run->free_count + back);
        if (unlikely(fault != nullptr)) break;
        last = list;
        list = link_of(list);
        back++;
      } while (list != nullptr && static_cast<size_t>(static_cast<char*>(list) - run->start) < run_bytes);
      if (unlikely(back == 0)) break;
      set_link(last, run->free);
      run->free = first;
      freed = account(run, back, freed);
    }
  }
  if (unlikely(fault != nullptr)) die("free", list, fault);  // without the lock: a handler of SIGABRT may allocate
  release(freed);
  return foreign;
}

void Central::reclassify(Run* run, Slot slot) {
  LockGuard guard(lock_);
  count_runs(run->slot, -1);
  if (slot != kLargeSlot) count_runs(slot, 1);
  run->slot = static_cast<uint8_t>(slot);
}

void return_home(void* list) {
  while (list != nullptr) {
    statistics::count(statistics::kCentralPuts);
    list = Central::of(tag_shard(tag_of(list))).put(list);
  }
}

// Takes a run without blocks in use off the lists: it becomes the bin's spare, or joins `freed`. Returns the new `freed`.
Run* Central::retire(Run* run, Run* freed) {
  unlist(run);
  count_runs(run->slot, -1);
  count_returned(run->slot, -static_cast<int>(run->free_count));
  Run*& spare = spare_[run->slot];
  if (spare == nullptr && run->slot <= kSparesUpTo) {
    run->old_spare = false;
    spare = run;
    count_spares(1);
    return freed;
  }
  run->next = freed;
  return run;
}

void Central::release(Run* freed) {
  while (freed != nullptr) {
    Run* run = freed;
    freed = run->next;
    run->segment->arena->unlabel(run->start, tagged_pages(run));
    PageHeap::free(run,
                   static_cast<unsigned>(round_up(size_t{run->most_carved} * class_bytes(run->slot), kPageSize) >> kPageShift));
  }
}

void Central::release_spares_if(bool (*idle)(const Run*)) {
  Run* freed = nullptr;
  {
    LockGuard guard(lock_);
    for (Run*& spare : spare_) {
      if (spare == nullptr) continue;
      if (idle(spare)) {
        spare->next = freed;
        freed = spare;
        spare = nullptr;
        count_spares(-1);
      } else {
        spare->old_spare = true;
      }
    }
  }
  release(freed);
}

void Central::release_old_spares() {
  release_spares_if([](const Run* run) { return run->old_spare; });
}

void Central::release_all_spares() {
  release_spares_if([](const Run*) { return true; });
}

void Central::check_run(const Run* run, Slot slot, unsigned list) const {
  const size_t size = class_bytes(slot);
  unsigned n = 0;
  for (void* b = run->free; b != nullptr && n <= run->listed(); b = link_of(b), n++) {
    const size_t offset = static_cast<size_t>(static_cast<char*>(b) - run->start);
    if (run_of(b) != run || offset % size != 0 || offset / size >= run->carved || run->is_cold(offset))
      invariant_failed("I1", "a run's free list holds a block that is not of it");
  }
  if (n != run->listed()) invariant_failed("I5", "a run's free count is not the length of its list");
  unsigned cold = 0;
  for (unsigned i = 0; i < run->carved && run->cold != 0; i++) cold += run->is_cold(i * size);
  if (cold != run->cold_count) invariant_failed("I5", "a run's cold pages do not have as many blocks as are counted");
  if (run->all_free()) invariant_failed("I5", "a run whose blocks are all free did not return to its segment");
  if (run->list != list || run->slot != slot || run->available() == 0) invariant_failed("I5", "a run is on a wrong list");
  for (unsigned page = 0; page < run->pages; page++)
    if (tag_of(run->start + page * kPageSize) != make_tag(slot, self()))
      invariant_failed("I13", "a run's tag is not its owner's");
}

void Central::check() {
  LockGuard guard(lock_);
  unsigned spares = 0;
  for (Slot slot = 1; slot < kSlots; slot++) {
    unsigned runs = 0, returned = 0;
    for (unsigned f = 0; f < kLists; f++)
      for (const Run* run = first_of(slot, f); run != nullptr; run = run->next) {
        check_run(run, slot, f);
        runs++;
        returned += run->free_count;
      }
    if (returned != returned_[slot] || runs > runs_[slot])
      invariant_failed("I5", "the counts of a class are not those of its runs");
    if (spare_[slot] == nullptr) continue;
    spares++;
    if (!spare_[slot]->all_free()) invariant_failed("I5", "a spare run has blocks in use");
  }
  if (spares != spares_) invariant_failed("I5", "the spare runs are not as many as are counted");
}

Central::Totals Central::totals() {
  Totals t;
  LockGuard guard(lock_);
  for (Slot slot = 1; slot < kSlots; slot++)
    for (unsigned f = 0; f < kLists; f++)
      for (Run* run = first_of(slot, f); run != nullptr; run = run->next) {
        t.runs++;
        t.run_bytes += size_t{run->pages} << kPageShift;
        t.free_bytes += size_t{run->free_count} * class_bytes(slot);
      }
  return t;
}

}  // namespace hz3
