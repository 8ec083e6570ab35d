#include "deploybench/host.hpp"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <thread>

namespace deploybench {

std::int64_t usable_cpus() {
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) return std::max(1, CPU_COUNT(&cpus));
  return std::max(1U, std::thread::hardware_concurrency());  // more than the 1,024 CPUs of a cpu_set_t
}

// VmHWM and not getrusage's ru_maxrss: that one survives exec, so a worker started by a large Python process would
// report its parent's peak.
std::int64_t peak_rss_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

std::string toolchain() {
#ifdef __clang__
  return "clang++ " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__) + "." +
         std::to_string(__clang_patchlevel__);
#else
  return "g++ " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__) + "." +
         std::to_string(__GNUC_PATCHLEVEL__);
#endif
}

std::string build_type() { return DEPLOYBENCH_BUILD_TYPE; }

}  // namespace deploybench
