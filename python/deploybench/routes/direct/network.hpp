// What surrounds the generated Network: its weights, its arena, and the team of threads that runs it.
#pragma once

#include <omp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#include "registers.hpp"

extern "C" const char direct_weights[];
extern "C" const char direct_weights_end[];
// Whole pages that nothing else lies in, under a name that a loader finds: it may map them from elsewhere (mapped.py).
__asm__(
    ".section .direct_weights, \"a\"\n.globl direct_weights, direct_weights_end, direct_mapped\n"
    ".hidden direct_weights, direct_weights_end\n.balign 4096\ndirect_mapped:\ndirect_weights:\n"
    ".incbin \"weights.bin\"\ndirect_weights_end:\n.balign 4096\n.previous\n");

namespace direct {

void Barrier::yield() { sched_yield(); }

constexpr std::size_t huge_page = std::size_t{1} << 21;

constexpr std::size_t whole_pages(std::size_t bytes) { return (bytes + huge_page - 1) / huge_page * huge_page; }

// Memory in pages of 2 MB where the kernel has them.
inline char* pages(std::size_t bytes) {
  void* memory = std::aligned_alloc(huge_page, whole_pages(bytes));
  if (memory == nullptr) throw std::bad_alloc();
  (void)madvise(memory, whole_pages(bytes), MADV_HUGEPAGE);
  return static_cast<char*>(memory);
}

// Whether Linux gives such pages to who asks for them.
inline bool huge_pages_are_given() {
  std::FILE* file = std::fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
  if (file == nullptr) return false;
  char said[64] = {};
  const bool never = std::fgets(said, sizeof said, file) == nullptr || std::strstr(said, "[never]") != nullptr;
  (void)std::fclose(file);
  return !never;
}

// Puts pages of 2 MB, with the same in them, where `bytes` of the library are mapped from its file in pages of 4 kB.
// Both are multiples of 2 MB. Who reads there meanwhile waits in the kernel. What fails leaves all as it was.
inline void exchange(char* mapped, std::size_t bytes) {
  const std::size_t room = bytes + huge_page;
  void* memory = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  char* begin = static_cast<char*>(memory);
  char* copy = reinterpret_cast<char*>(whole_pages(reinterpret_cast<std::size_t>(begin)));
  char* rest = copy + bytes;
  if (copy > begin) (void)munmap(begin, static_cast<std::size_t>(copy - begin));
  if (begin + room > rest) (void)munmap(rest, static_cast<std::size_t>(begin + room - rest));
  (void)madvise(copy, bytes, MADV_HUGEPAGE);
  std::memcpy(copy, mapped, bytes);
  if (mprotect(copy, bytes, PROT_READ) != 0 ||
      mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, mapped) == MAP_FAILED) {
    (void)munmap(copy, bytes);
  }
}

// The first call reads weights where the library is mapped, as a copy would double its time. Each of the eight after it
// moves an eighth of them into pages of 2 MB: with 4 kB each, ResNet-50 wants 28,000 entries of a TLB of 2,000.
inline void move_weights() {
  constexpr unsigned parts = 8;
  static std::atomic<unsigned> calls{0};
  if (calls.load(std::memory_order_relaxed) > parts) return;
  const unsigned call = calls.fetch_add(1);  // other instances call, too
  if (call == 0 || call > parts) return;
  const std::size_t first = whole_pages(reinterpret_cast<std::size_t>(direct_weights));
  const std::size_t last = reinterpret_cast<std::size_t>(direct_weights_end) / huge_page * huge_page;
  if (first >= last || !huge_pages_are_given()) return;
  const std::size_t part = whole_pages((last - first + parts - 1) / parts), from = first + (call - 1) * part;
  if (from < last) exchange(reinterpret_cast<char*>(from), std::min(part, last - from));
}

constexpr std::size_t arena_bytes = whole_pages(network_elements * sizeof(T) + 4096);

}  // namespace direct

extern "C" {

extern const std::int64_t direct_shape[3];
extern const std::int64_t direct_classes;
const std::int64_t direct_shape[3] = {direct::network_shape[0], direct::network_shape[1], direct::network_shape[2]};
const std::int64_t direct_classes = direct::network_classes;

// Zeros, of which the borders stay.
void* direct_make_arena() {
  // Linux gives tiles to processes that ask for them: ARCH_REQ_XCOMP_PERM for XFEATURE_XTILEDATA.
  if (direct::network_amx && syscall(SYS_arch_prctl, 0x1023, 18) != 0) {
    throw std::runtime_error("this system does not let processes use AMX, which the code is made for");
  }
  return std::memset(direct::pages(direct::arena_bytes), 0, direct::arena_bytes);
}

void direct_free_arena(void* arena) { std::free(arena); }

void direct_run(const float* images, float* logits, std::int64_t count, void* arena) {
  using namespace direct;
  constexpr long image = network_shape[0] * network_shape[1] * network_shape[2];
  Barrier team;
  move_weights();
#pragma omp parallel
  for (std::int64_t i = 0; i < count; ++i) {
    // As many as there are, not as were asked for: OMP_THREAD_LIMIT, or a parallel region around this one, may allow
    // fewer.
    const int threads = omp_get_num_threads();
    Network(images + i * image, logits + i * network_classes, static_cast<T*>(arena), direct_weights,
            omp_get_thread_num(), threads, team);
    team.wait(threads);
  }
}
}
