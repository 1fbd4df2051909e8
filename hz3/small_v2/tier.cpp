// See hz3/small_v2/tier.hpp.
#include "hz3/small_v2/tier.hpp"

#include "hz3/message.hpp"

namespace hz3::small_v2 {

void push_remote_list(unsigned dst, unsigned size_class, void* list) {
  if constexpr (kDebugChecks) {
    for (void* b = list; b != nullptr; b = link_of(b))
      if (tag_of(b) != make_tag(size_class + 1, dst)) invariant_failed("I3", "a block came through a door that is not its own");
  }
  Central::of(dst).put(list);
}

}  // namespace hz3::small_v2
