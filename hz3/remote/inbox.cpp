// See hz3/remote/inbox.hpp.
#include "hz3/remote/inbox.hpp"

#include <utility>

#include "hz3/medium/tier.hpp"
#include "hz3/small_v2/tier.hpp"
#include "hz3/sub4k/tier.hpp"

namespace hz3::remote {

constinit Inbox inboxes[kShards];

void Sorter::pass_on(unsigned dst) {
  for (Slot slot = 1; slot < kSlots; slot++) {
    void* list = std::exchange(list_[slot], nullptr);
    if (list == nullptr) continue;
    statistics::count(statistics::kCentralPuts);
    const unsigned bin = slot - 1;
    if (bin < kFirstSub4k) {
      small_v2::push_remote_list(dst, bin, list);
    } else if (bin < kFirstMedium) {
      sub4k::push_remote_list(dst, bin - kFirstSub4k, list);
    } else {
      medium::push_remote_list(dst, bin - kFirstMedium, list);
    }
  }
}

void drain_slow(unsigned dst) {
  void* list = inboxes[dst].take_all();
  if (list == nullptr) return;
  Sorter sorter;
  Packs::for_each(list, [&](void* block) { sorter.add(block, tag_slot(tag_of(block))); });
  sorter.pass_on(dst);
}

}  // namespace hz3::remote
