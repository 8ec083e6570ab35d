// Facts about this process and this machine.
#pragma once

#include <cstdint>
#include <string>

namespace deploybench {

// CPUs this process may use, at least 1: its affinity, and the cgroup's quota where there is one.
std::int64_t usable_cpus();

// Largest resident set so far, in bytes; 0 where /proc does not say.
std::int64_t peak_rss_bytes();

// Compiler of this program, e.g. "g++ 12.2.0".
std::string toolchain();

// CMake's build type, e.g. "Release".
std::string build_type();

}  // namespace deploybench
