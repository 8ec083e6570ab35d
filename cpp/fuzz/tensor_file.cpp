// Fuzzes read_tensor_file, with the header parser behind it: the bytes as a .npy and as a .dat of images [3,2,2].
#include "deploybench/tensor_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "fuzz/finding.hpp"
#include "tests/scratch_folder.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using deploybench::fuzz::demand;
  static const deploybench::check::ScratchFolder folder;
  for (const char* const name : {"x.npy", "x.dat"}) {
    const std::string path = folder.write(name, {reinterpret_cast<const char*>(data), size});
    deploybench::fuzz::value_or_error([&] {
      const deploybench::TensorFile file = deploybench::read_tensor_file(path, {3, 2, 2});
      demand(file.images >= 1 && file.values.size() == static_cast<std::size_t>(12 * file.images),
             "as many as it says");
      demand(4 * file.values.size() <= size, "no more values than the file has");
      demand(std::ranges::all_of(file.values, [](float value) { return std::isfinite(value); }), "all finite");
    });
  }
  return 0;
}
