// The door of the medium tier (4096..32768 bytes) for blocks that come back from other threads.
#pragma once

#include "hz3/central.hpp"
#include "hz3/medium/classes.hpp"

namespace hz3::medium {

// Gives blocks of shard `dst` and of this tier's class `size_class` (0-based), linked through their first words, back to
// the shard. Takes the shard's lock. Any thread.
void push_remote_list(unsigned dst, unsigned size_class, void* list);

}  // namespace hz3::medium
