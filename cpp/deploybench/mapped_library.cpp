#include "deploybench/mapped_library.hpp"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <vector>

namespace deploybench {
namespace {

constexpr std::uint64_t page = 4096;             // of x86
constexpr const char* symbol = "direct_mapped";  // of routes/direct/network.hpp

// A path to the descriptor that no other had: the dynamic loader knows libraries by their paths, and would give one
// that had this descriptor before.
std::string name_of(int descriptor) {
  static std::atomic<unsigned> numbers{1};
  std::string name = "/proc/self/fd";
  for (unsigned bits = numbers.fetch_add(1); bits != 0; bits /= 2) name += bits % 2 == 1 ? "/." : "/";
  return name + "/" + std::to_string(descriptor);
}

// `size` bytes of one file, from `begin`, to `offset` of the other.
void copy(int from, std::uint64_t begin, std::uint64_t size, int to, std::uint64_t offset) {
  std::vector<std::byte> buffer(std::min<std::uint64_t>(size, 1U << 20U));
  while (size > 0) {
    const ssize_t got =
        pread(from, buffer.data(), std::min<std::uint64_t>(size, buffer.size()), static_cast<off_t>(begin));
    if (got <= 0) throw std::runtime_error("the package ends too soon");
    const auto bytes = static_cast<std::uint64_t>(got);
    if (pwrite(to, buffer.data(), bytes, static_cast<off_t>(offset)) != got)
      throw std::runtime_error("no memory is left");
    begin += bytes;
    offset += bytes;
    size -= bytes;
  }
}

}  // namespace

MappedLibrary::MappedLibrary(int package, const LibraryPlace& place) {
  try {
    load(package, place);
  } catch (...) {
    close();
    throw;
  }
}

MappedLibrary::~MappedLibrary() { close(); }

void MappedLibrary::load(int package, const LibraryPlace& place) {
  const auto [begin, size, weights, weights_size] = place;
  if ((begin | weights | weights_size) % page != 0 || weights > size || weights_size > size - weights) {
    throw std::runtime_error("its weights are no pages of the package");
  }
  memory_ = memfd_create("deploybench-direct", MFD_CLOEXEC);
  if (memory_ < 0) throw std::runtime_error("there are no files in memory");
  const std::uint64_t after = weights + weights_size;
  copy(package, begin, weights, memory_, 0);
  copy(package, begin + after, size - after, memory_, after);
  name_ = name_of(memory_);
  handle_ = dlopen(name_.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) throw std::runtime_error("the dynamic loader does not take it");
  void* const place_of_weights = dlsym(handle_, symbol);
  if (place_of_weights == nullptr || mmap(place_of_weights, weights_size, PROT_READ, MAP_PRIVATE | MAP_FIXED, package,
                                          static_cast<off_t>(begin + weights)) == MAP_FAILED) {
    throw std::runtime_error("its weights cannot be mapped");
  }
}

void MappedLibrary::close() noexcept {
  if (handle_ != nullptr) (void)dlclose(handle_);
  if (memory_ >= 0) (void)::close(memory_);
}

}  // namespace deploybench
