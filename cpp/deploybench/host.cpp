#include "deploybench/host.hpp"

#include <malloc.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
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

}  // namespace

std::int64_t usable_cpus() {
  const std::int64_t cpus = cpus_by_affinity();
  // "150000 100000" is 1.5 CPUs' worth of time a period, "max 100000" no quota. Halves round to even, as in Python.
  std::ifstream limit("/sys/fs/cgroup/cpu.max");
  double quota = 0;
  double period = 0;
  if (!(limit >> quota >> period) || period <= 0) return cpus;
  return std::max(std::int64_t{1}, std::min(cpus, static_cast<std::int64_t>(std::nearbyint(quota / period))));
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
