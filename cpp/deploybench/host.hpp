// Facts about this process and this machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deploybench {

// Instances, and threads of each. More threads than any machine has cores would only make OpenMP end the process when
// it cannot start them.
inline constexpr std::int64_t most_threads = 1024;

// CPUs this process may use, at least 1: its affinity, and the cgroup's quota where there is one.
std::int64_t usable_cpus();

// Largest resident set so far, in bytes; 0 where /proc does not say.
std::int64_t peak_rss_bytes();

// The instruction-set flags of /proc/cpuinfo; empty where it has none.
std::vector<std::string> cpu_flags();

// Before anything large is allocated. "keep": freed memory stays in the process, so that the next call finds its pages
// mapped; "huge": so, and torch asks for pages of 2 MB; "system": glibc's own way, which returns large blocks at once.
void set_allocator(const std::string& allocator);

// Gives the pages of freed memory back to the system. glibc keeps those of each arena, and threads that come and go
// leave theirs in many: 500 classifiers of SqueezeNet, one after the other, left 138 to 167 MiB instead of 114 to 152.
void return_free_memory();

// Keeps each OpenMP thread on a core of its own. OpenMP reads that from the environment before main() begins, so the
// program starts once more with it set; call it first in main().
void bind_threads(char* const* argv);

// Compiler of this program, e.g. "g++ 12.2.0".
std::string toolchain();

// CMake's build type, e.g. "Release".
std::string build_type();

}  // namespace deploybench
