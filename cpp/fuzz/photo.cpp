// Fuzzes the way from a photo to a tensor: decode_photo, exif_orientation, upright, resized and preprocess. The last
// two bytes, which both formats ignore, say how it is resized, so that the seeds are photos that any program shows.
#include "deploybench/photo.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "deploybench/crc32.hpp"
#include "deploybench/preprocess.hpp"
#include "deploybench/resize.hpp"
#include "fuzz/finding.hpp"

namespace {

using deploybench::Photo;
using deploybench::fuzz::demand;
using deploybench::fuzz::value_or_error;
using Bytes = std::span<const std::uint8_t>;

// The library takes photos of up to 178,956,970 pixels, so an honest header of 30 bytes may cost half a gigabyte and
// seconds: nothing a fuzzer should spend its time on.
constexpr std::uint64_t most_pixels = 1U << 18U;

std::uint64_t number(Bytes bytes, std::size_t at, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = at; i < std::min(at + count, bytes.size()); ++i) value = value << 8U | bytes[i];
  return value;
}

// Whether any header says that it is large: PNG's first chunk, or what may be a frame header of JPEG anywhere.
bool is_large(Bytes bytes) {
  if (!bytes.empty() && bytes[0] == 0x89) return number(bytes, 16, 4) * number(bytes, 20, 4) > most_pixels;
  for (std::size_t at = 0; at + 9 <= bytes.size(); ++at) {
    const bool frame = bytes[at] == 0xFF && (bytes[at + 1] & 0xF0U) == 0xC0;
    if (frame && number(bytes, at + 5, 2) * number(bytes, at + 7, 2) > most_pixels) return true;
  }
  return false;
}

// The chunks' checksums made right: libpng would stop at nearly every change, and its readers never see one.
std::vector<std::uint8_t> with_checksums(Bytes bytes) {
  std::vector<std::uint8_t> whole(bytes.begin(), bytes.end());
  if (whole.empty() || whole[0] != 0x89) return whole;
  for (std::size_t at = 8; at + 12 <= whole.size();) {
    const std::uint64_t length = number(whole, at, 4);
    if (length > whole.size() - at - 12) break;
    const std::size_t end = at + 8 + static_cast<std::size_t>(length);
    const std::uint32_t sum = deploybench::crc32(std::as_bytes(std::span(whole).subspan(at + 4, end - at - 4)));
    for (std::size_t i = 0; i < 4; ++i) whole[end + i] = static_cast<std::uint8_t>(sum >> (24 - 8 * i));
    at = end + 4;
  }
  return whole;
}

void check_pixels(const Photo& photo) {
  demand(photo.height >= 1 && photo.width >= 1, "a photo has pixels");
  demand(photo.pixels.size() == static_cast<std::size_t>(3 * photo.height * photo.width), "as many as it says");
}

// A long, thin photo becomes much longer when its shorter edge grows: the library's limit of 1e8 pixels is too high
// here.
bool grows_large(const Photo& photo, std::int64_t edge) {
  const auto [shorter, longer] = std::minmax(photo.height, photo.width);
  return edge * edge * longer / shorter > static_cast<std::int64_t>(most_pixels);
}

void prepare(const Photo& photo, std::uint8_t first, std::uint8_t second) {
  deploybench::Preprocessing how;
  if (first % 32 != 0) how.resize = first % 32;
  how.crop = 1 + second % 32;
  how.bicubic = first >= 128;
  how.mean = {0.485, 0.456, 0.406};
  how.std = {0.229, 0.224, 0.225};
  if (!grows_large(photo, how.resize.value_or(1))) {
    const std::vector<float> values = deploybench::preprocess(photo, "photo", how);
    demand(values.size() == static_cast<std::size_t>(3 * how.crop * how.crop), "crop");
    demand(std::ranges::all_of(values, [](float value) { return std::isfinite(value); }), "finite");
  }
  const auto filter = how.bicubic ? deploybench::Filter::bicubic : deploybench::Filter::bilinear;
  const std::int64_t height = 1 + first % 64;
  const std::int64_t width = 1 + second % 64;
  const std::int64_t top = second % height;
  const std::int64_t left = first % width;
  check_pixels(deploybench::resized(photo, height, width, filter, {top, left, height - top, width - left}));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes bytes(data, size);
  const int orientation = deploybench::exif_orientation(bytes);
  demand(orientation >= 1 && orientation <= 8, "an orientation is 1 to 8");
  if (size < 2 || is_large(bytes)) return 0;
  value_or_error([&] {
    const Photo photo = deploybench::decode_photo(with_checksums(bytes), "photo");
    check_pixels(photo);
    prepare(photo, data[size - 2], data[size - 1]);
    check_pixels(deploybench::upright(photo, orientation));
  });
  return 0;
}
