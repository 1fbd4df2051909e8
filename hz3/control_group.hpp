// The memory limit of a container: of the control group that the process is in.
#pragma once

#include <cstddef>

#include "hz3/platform.hpp"

namespace hz3 {

// The limit in bytes; SIZE_MAX when there is none, or none that can be read. `membership` and `root` are /proc/self/cgroup and
// where the hierarchies are mounted, of version 1 or 2 of control groups, or of both. A container that does not see its own
// group's path finds its limit at the root. Once, at the start: a sandbox may forbid to open files later. Not of the groups
// above: each file that is opened costs every program's start five to ten microseconds.
size_t control_group_limit(const char* membership, const char* root);

}  // namespace hz3
