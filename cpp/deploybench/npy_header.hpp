// The header of a .npy file, as numpy's format description gives it (numpy.lib.format, versions 1.0 to 3.0).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deploybench {

struct NpyHeader {
  std::string dtype;  // numpy's `descr`, e.g. "<f4"; "a structure" when it is not a plain one
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
  std::size_t data_offset = 0;  // bytes before the first value
};

// numpy refuses longer headers too (numpy.lib.format, max_header_size); it writes 118 itself.
inline constexpr std::size_t most_npy_header = 10'000;
// Bytes of a file's start that parse_npy_header needs to see, or the whole file when that is smaller.
inline constexpr std::size_t npy_header_bytes = 12 + most_npy_header;

// Throws std::invalid_argument that says what is wrong, e.g. "not a .npy file".
NpyHeader parse_npy_header(std::string_view start_of_file);

// The header numpy writes for float32 in C order: version 1.0, padded to a multiple of 64 bytes.
std::string make_npy_header(const std::vector<std::int64_t>& shape);

}  // namespace deploybench
