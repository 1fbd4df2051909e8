// See hz3/sub4k/tier.hpp.
#include "hz3/sub4k/tier.hpp"

#include "hz3/message.hpp"

namespace hz3::sub4k {

void push_remote_list(unsigned dst, unsigned size_class, void* list) {
  if constexpr (kDebugChecks) {
    for (void* b = list; b != nullptr; b = link_of(b))
      if (tag_of(b) != make_tag(kFirstSub4k + size_class + 1, dst))
        invariant_failed("I3", "a block came through a door that is not its own");
  }
  Central::of(dst).put(list);
}

}  // namespace hz3::sub4k
