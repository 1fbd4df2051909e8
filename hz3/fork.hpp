// fork() in a program of any number of threads.
//
// prepare: flushes the calling thread's stash, empties the inboxes into central, then takes every lock of the library, in one
// order. A lock that the calling thread holds already (a signal handler that interrupted a slow path forks) is left alone.
// parent: releases them. child: releases them, gives up what was in flight in threads that do not exist any more (their
// caches, and inboxes that one of them may have been pushing to), and makes the forking thread the only one.
#pragma once

namespace hz3::fork {

void prepare();
void parent();
void child();

}  // namespace hz3::fork
