// When the free pages of runs in use go to the kernel, in all shards (Central::cool): a part of a millisecond or so at each
// tick, and the rest by such parts after pauses. Any thread: the shards' locks guard what it is about.
#pragma once

#include "hz3/platform.hpp"

namespace hz3::cooling {

// The first part.
void tick(uint64_t now_ms);
// Whether a further part is due. A moment old.
bool due(uint64_t now_ms);
// Does it if it is due, and nobody else does.
void go_on(uint64_t now_ms);
// The time until a part or a tick is worth a call, if somebody has nothing else to do.
uint64_t pause_ms();

}  // namespace hz3::cooling
