// See hz3/remote/inbox.hpp.
#include "hz3/remote/inbox.hpp"

#include "hz3/medium/tier.hpp"
#include "hz3/small_v2/tier.hpp"
#include "hz3/sub4k/tier.hpp"

namespace hz3::remote {

constinit Inbox inboxes[kShards];

void pass_on(unsigned dst, void* list) {
  void* by_slot[kSlots] = {};
  while (list != nullptr) {
    void* block = list;
    list = link_of(block);
    const Slot slot = tag_slot(tag_of(block));
    set_link(block, by_slot[slot]);
    by_slot[slot] = block;
  }
  for (Slot slot = 1; slot < kSlots; slot++) {
    if (by_slot[slot] == nullptr) continue;
    statistics::count(statistics::kCentralPuts);
    const unsigned bin = slot - 1;
    if (bin < kFirstSub4k) {
      small_v2::push_remote_list(dst, bin, by_slot[slot]);
    } else if (bin < kFirstMedium) {
      sub4k::push_remote_list(dst, bin - kFirstSub4k, by_slot[slot]);
    } else {
      medium::push_remote_list(dst, bin - kFirstMedium, by_slot[slot]);
    }
  }
}

void drain_slow(unsigned dst) {
  if (void* list = inboxes[dst].take_all()) pass_on(dst, list);
}

}  // namespace hz3::remote
