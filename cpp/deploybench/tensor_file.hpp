// Tensor files: preprocessed images on their way in, float32 [N,channels,height,width], and outputs on their way out.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace deploybench {

struct TensorFile {
  std::int64_t images = 0;    // N
  std::vector<float> values;  // [N,channels,height,width] in C order, all finite
};

// Reads `path`, which must hold images of shape `image` = {channels, height, width}:
//   .npy  little-endian float32 in C order, exactly [N,channels,height,width]
//   .dat  the same values without a header; N follows from the size
// Throws Error: input_missing, or input_invalid for anything else than that, NaN and infinity included.
TensorFile read_tensor_file(const std::string& path, const std::array<std::int64_t, 3>& image);

// Writes float32 of the given shape as .npy, atomically. Throws Error(output_unwritable).
void write_npy(const std::string& path, std::span<const float> values, const std::vector<std::int64_t>& shape);

// Throws Error(usage) for another ending of `path` than .npy or .dat: asked before the work.
void check_tensor_name(const std::string& path);

// The same by the ending of `path`: .npy, or .dat, the values without a header. Throws Error: usage for another ending.
void write_tensor_file(const std::string& path, std::span<const float> values, const std::vector<std::int64_t>& shape);

}  // namespace deploybench
