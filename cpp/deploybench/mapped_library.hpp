// A library in a package, loaded without a copy of its weights: they are mapped from where they lie in the package.
// LibTorch's own loader unpacks it whole into the temporary folder. Twin of python/deploybench/routes/direct/mapped.py.
#pragma once

#include <cstdint>
#include <string>

namespace deploybench {

// In bytes. The weights are whole pages of the library, and of the package.
struct LibraryPlace {
  std::uint64_t begin;  // of the library in the package
  std::uint64_t size;
  std::uint64_t weights_begin;  // in the library
  std::uint64_t weights_size;
};

class MappedLibrary {
 public:
  // Loads it from the package behind the descriptor. Throws std::runtime_error where that cannot be done.
  MappedLibrary(int package, const LibraryPlace& place);
  MappedLibrary(const MappedLibrary&) = delete;
  MappedLibrary(MappedLibrary&&) = delete;
  MappedLibrary& operator=(const MappedLibrary&) = delete;
  MappedLibrary& operator=(MappedLibrary&&) = delete;
  ~MappedLibrary();  // who loaded it by its name meanwhile keeps it

  // What dlopen takes, as long as this lives.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

 private:
  int memory_ = -1;
  void* handle_ = nullptr;
  std::string name_;

  void load(int package, const LibraryPlace& place);
  void close() noexcept;
};

}  // namespace deploybench
