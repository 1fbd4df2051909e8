// The checkers of the debug build (docs/invariants.md). Each ends the program with the ID of what is broken. They run at
// events, where nothing is half done; in other builds nobody calls them.
#pragma once

#include "hz3/thread_cache.hpp"

namespace hz3::check {

// The calling thread's cache: bins and stash.
void cache(const ThreadCache* tc);
// No bin and no stash of the cache holds anything; else ends the program with this ID and text.
void is_empty(const ThreadCache* tc, const char* id, const char* what);
// What threads share: central lists, page heaps, arenas. Takes their locks one after another.
void shared();

}  // namespace hz3::check
