// The background thread, for those who ask for it: it does ticks while no thread of the program calls the allocator, so that a
// process that goes quiet as a whole gives its free memory back.
//
//   absent ──attend(): something waits──► awake ──nothing waits──► asleep ──attend()──► awake
//     ▲                                     │                        │
//     └── switched off, the last thread with a cache ended ──────────┘
//
// It is started at an event, never by the constructor, with all signals blocked and a small stack, and sleeps without a timeout
// when there is nothing to do. It has no cache, so that it does not count as a thread of the program. It ends with the last
// thread that has one: a process whose main thread called pthread_exit() is not kept alive. A child of fork() starts its own.
// Nothing needs to end it at exit(): the heap is never torn down, and the library is never unmapped (-z nodelete).
//
// Owner: the process. One word holds state and generation; a thread ends when the generation is not its own any more.
#pragma once

#include "hz3/platform.hpp"
#include "hz3/settings.hpp"

namespace hz3::background {

HZ3_SLOW void attend_slow();

// Starts the thread, or wakes it. Without a lock, where the calling thread's cache may be left as it is: starting a thread
// allocates, but past the cache.
inline void attend() {
  if (unlikely(settings::background_thread())) attend_slow();
}
// After a thread gave its cache up.
void thread_ended();
// After a call of mallopt.
void settings_changed();
// In the child of fork(), before anything is allocated.
void in_child();

}  // namespace hz3::background
