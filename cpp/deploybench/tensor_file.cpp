#include "deploybench/tensor_file.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "deploybench/file.hpp"
#include "deploybench/npy_header.hpp"

namespace deploybench {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor files are read and written as they lie in memory");
static_assert(sizeof(float) == 4);

FileBlame blame() {
  return {Code::input_missing, Code::input_invalid, "make it with `deploybench preprocess --model MODEL PHOTO`"};
}

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  throw Error(Code::input_invalid, path, problem, blame().remedy);
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t side : shape) text += (text.size() > 1 ? "," : "") + std::to_string(side);
  return text + "]";
}

// The header's N, once everything else in it is what is wanted.
std::uint64_t checked_images(const NpyHeader& header, std::span<const std::int64_t> image, const std::string& path) {
  if (header.dtype != "<f4") refuse(path, "its dtype is '" + header.dtype + "', not '<f4' (little-endian float32)");
  if (header.fortran_order) refuse(path, "its values lie in Fortran order, not in C order");
  const bool fits = header.shape.size() == 4 && std::ranges::equal(std::span(header.shape).subspan(1), image);
  if (!fits) {
    std::string wanted = shape_text(image);
    wanted.replace(0, 1, "[N,");
    refuse(path, "its shape is " + shape_text(header.shape) + ", not " + wanted);
  }
  if (header.shape[0] == 0) refuse(path, "it holds no image");
  return static_cast<std::uint64_t>(header.shape[0]);
}

void check_npy_size(std::uint64_t found, std::uint64_t images, std::uint64_t image_bytes, const std::string& path) {
  // Divided and not multiplied: the header's N may be anything up to 2^63.
  if (images > found / image_bytes) {
    refuse(path, "truncated: its header promises " + std::to_string(images) + " images of " +
                     std::to_string(image_bytes) + " bytes, but only " + std::to_string(found) + " bytes follow");
  }
  if (const std::uint64_t extra = found - images * image_bytes; extra != 0) {
    refuse(path, std::to_string(extra) + " bytes too many after its values");
  }
}

std::vector<float> read_values(const std::string& path, std::uint64_t offset, std::uint64_t count) {
  std::vector<float> values(count);
  std::ifstream stream(path, std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(offset));
  stream.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(float)));
  if (!stream) refuse(path, "cannot be read to its end");
  if (!std::ranges::all_of(values, [](float value) { return std::isfinite(value); }))
    refuse(path, "it holds NaN or infinity");
  return values;
}

// Where a file's values begin, in bytes, and how many images they are.
struct Layout {
  std::uint64_t offset = 0;
  std::uint64_t images = 0;
};

Layout npy_layout(const std::string& path, std::uint64_t size, std::span<const std::int64_t> image,
                  std::uint64_t image_bytes) {
  NpyHeader header;
  try {
    header = parse_npy_header(read_prefix(path, npy_header_bytes, blame()));
  } catch (const std::invalid_argument& problem) {
    refuse(path, problem.what());
  }
  const std::uint64_t images = checked_images(header, image, path);
  check_npy_size(size - header.data_offset, images, image_bytes, path);
  return {header.data_offset, images};
}

Layout dat_layout(const std::string& path, std::uint64_t size, std::span<const std::int64_t> image,
                  std::uint64_t image_bytes) {
  if (size % image_bytes != 0) {
    refuse(path, "its " + std::to_string(size) + " bytes are no whole number of " + shape_text(image) +
                     " float32 images of " + std::to_string(image_bytes) + " bytes");
  }
  return {0, size / image_bytes};
}

}  // namespace

TensorFile read_tensor_file(const std::string& path, const std::array<std::int64_t, 3>& image) {
  const std::uint64_t size = checked_size(path, blame());
  const auto image_values = static_cast<std::uint64_t>(image[0] * image[1] * image[2]);
  const std::uint64_t image_bytes = image_values * sizeof(float);
  const std::filesystem::path extension = std::filesystem::path(path).extension();
  if (extension != ".npy" && extension != ".dat") refuse(path, "a tensor file ends in .npy or .dat");
  const auto layout = extension == ".npy" ? npy_layout : dat_layout;
  const auto [offset, images] = layout(path, size, image, image_bytes);
  return {static_cast<std::int64_t>(images), read_values(path, offset, images * image_values)};
}

void write_npy(const std::string& path, std::span<const float> values, const std::vector<std::int64_t>& shape) {
  const std::string header = make_npy_header(shape);
  const std::array<std::string_view, 2> pieces = {header,
                                                  {reinterpret_cast<const char*>(values.data()), values.size_bytes()}};
  write_atomically(path, pieces);
}

void check_tensor_name(const std::string& path) {
  if (path.ends_with(".npy") || path.ends_with(".dat")) return;
  throw Error(Code::usage, path, "a tensor file ends in .npy or .dat", "rename it");
}

void write_tensor_file(const std::string& path, std::span<const float> values, const std::vector<std::int64_t>& shape) {
  check_tensor_name(path);
  if (path.ends_with(".npy")) return write_npy(path, values, shape);
  const std::array<std::string_view, 1> pieces = {
      {{reinterpret_cast<const char*>(values.data()), values.size_bytes()}}};
  write_atomically(path, pieces);
}

}  // namespace deploybench
