#include "deploybench/host.hpp"

#include <malloc.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <thread>

namespace deploybench {
namespace {

std::int64_t cpus_by_affinity() {
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) return std::max(1, CPU_COUNT(&cpus));
  return std::max(1U, std::thread::hardware_concurrency());  // more than the 1,024 CPUs of a cpu_set_t
}

// CPUs' worth of time that one control group allows, infinite without a limit: cpu.max of version 2 ("150000 100000",
// "max 100000"), cpu.cfs_quota_us of version 1 (-1 is none).
double quota_of(const std::filesystem::path& group) {
  double quota = 0;
  double period = 0;
  std::ifstream both(group / "cpu.max");
  if (!(both >> quota >> period)) {
    std::ifstream(group / "cpu.cfs_quota_us") >> quota;
    std::ifstream(group / "cpu.cfs_period_us") >> period;
  }
  return quota > 0 && period > 0 ? quota / period : std::numeric_limits<double>::infinity();
}

// The tightest of this process's control groups and of those above them. In a container the path may be the host's:
// what is mounted at the top is then the container's own. Twin of cpu_quota in python/deploybench/machine.py.
double cpu_quota() {
  double tightest = std::numeric_limits<double>::infinity();
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    const std::filesystem::path top = std::filesystem::path("/sys/fs/cgroup") / controllers;
    std::filesystem::path group = std::filesystem::path(line.substr(second + 1)).relative_path();
    for (;; group = group.parent_path()) {
      tightest = std::min(tightest, quota_of(top / group));
      if (group.empty()) break;
    }
  }
  return tightest;
}

}  // namespace

std::int64_t usable_cpus() {
  const std::int64_t cpus = cpus_by_affinity();
  const double quota = cpu_quota();
  if (quota >= static_cast<double>(cpus)) return cpus;
  // Halves round to even, as in Python.
  return std::max(std::int64_t{1}, std::min(cpus, static_cast<std::int64_t>(std::nearbyint(quota))));
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

std::vector<std::string> cpu_flags() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    return {std::istream_iterator<std::string>(words), {}};
  }
  return {};
}

void set_allocator(const std::string& allocator) {
  if (allocator == "system") return;
  if (allocator == "huge") (void)setenv("THP_MEM_ALLOC_ENABLE", "1", 1);  // read by torch at its first allocation
#ifdef __GLIBC__
  (void)mallopt(M_MMAP_MAX, 0);  // no block of its own for large sizes, which would be unmapped when freed
  (void)mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

void return_free_memory() {
#ifdef __GLIBC__
  (void)malloc_trim(0);
#endif
}

void bind_threads(char* const* argv) {
  if (std::getenv("OMP_PROC_BIND") != nullptr) return;
  (void)setenv("OMP_PROC_BIND", "true", 1);
  (void)setenv("OMP_PLACES", "cores", 1);
  // Bound, this thread will see one CPU, so their number is handed on; a later --threads of the user's own wins.
  const std::string threads = "--threads=" + std::to_string(usable_cpus());
  std::vector<const char*> arguments = {argv[0], threads.c_str()};
  for (char* const* at = argv + 1; *at != nullptr; ++at) arguments.push_back(*at);
  arguments.push_back(nullptr);
  // Returns only where it fails: then it runs unbound.
  (void)execv("/proc/self/exe", const_cast<char* const*>(arguments.data()));
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
