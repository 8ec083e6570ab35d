// What surrounds the generated Network: its weights, its arena, and the team of threads that runs it.
#pragma once

#include <omp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <stdexcept>

#include "registers.hpp"

// In place, as the library is mapped: copied into pages of 2 MB they were 0.6 % faster at best, and the first call of
// ResNet-50 took twice as long.
extern "C" const char direct_weights[];
__asm__(
    ".section .rodata\n.balign 4096\n.globl direct_weights\n.hidden direct_weights\ndirect_weights:\n"
    ".incbin \"weights.bin\"\n.previous\n");

namespace direct {

void Barrier::yield() { sched_yield(); }

constexpr std::size_t huge_page = std::size_t{1} << 21;
// Memory in pages of 2 MB where the kernel has them.
inline char* pages(std::size_t bytes) {
  bytes = (bytes + huge_page - 1) / huge_page * huge_page;
  void* memory = std::aligned_alloc(huge_page, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  (void)madvise(memory, bytes, MADV_HUGEPAGE);
  return static_cast<char*>(memory);
}

constexpr std::size_t arena_bytes = (network_elements * sizeof(T) + 4096 + huge_page - 1) / huge_page * huge_page;

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
