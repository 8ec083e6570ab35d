#include "deploybench/photo.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <new>
#include <optional>
#include <system_error>
#include <utility>

#include "deploybench/error.hpp"
#include "deploybench/file.hpp"
#include "deploybench/photo_codecs.hpp"

namespace deploybench {
namespace {

constexpr const char* remedy = "give another photo, or save this one again as an 8-bit JPEG or PNG";
constexpr std::array<std::uint8_t, 3> jpeg_start = {0xFF, 0xD8, 0xFF};
constexpr std::array<std::uint8_t, 8> png_start = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

bool starts_with(std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> start) {
  return bytes.size() >= start.size() && std::ranges::equal(bytes.first(start.size()), start);
}

// Reads numbers of a TIFF block, whose byte order its first two bytes say.
class Tiff {
 public:
  explicit Tiff(std::span<const std::uint8_t> bytes) : bytes_(bytes), little_(!bytes.empty() && bytes[0] == 'I') {}

  // `count` bytes at `at` as a number; none where the block ends before.
  [[nodiscard]] std::optional<std::uint32_t> number(std::uint64_t at, std::uint64_t count) const {
    if (at > bytes_.size() || count > bytes_.size() - at) return std::nullopt;
    std::uint32_t value = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      value = value << 8U | bytes_[static_cast<std::size_t>(at + (little_ ? count - 1 - i : i))];
    }
    return value;
  }

 private:
  std::span<const std::uint8_t> bytes_;
  bool little_;
};

}  // namespace

int exif_orientation(std::span<const std::uint8_t> tiff) {
  constexpr std::uint32_t orientation = 0x0112;
  constexpr std::uint32_t short_type = 3;
  const Tiff block(tiff);
  if (block.number(2, 2) != 42U) return 1;
  const auto directory = block.number(4, 4);
  if (!directory) return 1;
  const auto entries = block.number(*directory, 2);
  for (std::uint64_t i = 0; entries && i < *entries; ++i) {
    const std::uint64_t entry = *directory + std::uint64_t{2} + 12 * i;
    if (block.number(entry, 2) != orientation) continue;
    const auto value = block.number(entry + 8, 2);
    const bool sound = block.number(entry + 2, 2) == short_type && value && *value >= 1 && *value <= 8;
    return sound ? static_cast<int>(*value) : 1;
  }
  return 1;
}

Photo upright(Photo photo, int orientation) {
  if (orientation < 2 || orientation > 8) return photo;
  const bool swapped = orientation >= 5;  // rows become columns
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Photo turned{swapped ? photo.width : photo.height, swapped ? photo.height : photo.width,
               std::vector<std::uint8_t>(photo.pixels.size())};
  auto* to = turned.pixels.data();
  for (std::int64_t y = 0; y < turned.height; ++y) {
    for (std::int64_t x = 0; x < turned.width; ++x) {
      const std::int64_t row = swapped ? x : y;
      const std::int64_t column = swapped ? y : x;
      const std::int64_t from_row = from_bottom ? photo.height - 1 - row : row;
      const std::int64_t from_column = from_right ? photo.width - 1 - column : column;
      to = std::copy_n(photo.pixels.data() + 3 * (from_row * photo.width + from_column), 3, to);
    }
  }
  return turned;
}

Photo decode_photo(std::span<const std::uint8_t> bytes, const std::string& name) {
  try {
    if (starts_with(bytes, jpeg_start)) return decode_jpeg(bytes);
    if (starts_with(bytes, png_start)) return decode_png(bytes);
  } catch (const CodecError& error) {
    throw Error(Code::input_invalid, name, error.what(), error.remedy().empty() ? remedy : error.remedy());
  } catch (const std::bad_alloc&) {
    throw Error(Code::out_of_memory, name, "not enough memory for its pixels", "give a smaller photo");
  }
  throw Error(Code::input_invalid, name, "is no JPEG and no PNG, the photos that the C++ program reads",
              "give another, or make a tensor file: `deploybench preprocess PHOTO`");
}

Photo read_photo(const std::string& path) {
  const FileBlame blame{Code::input_missing, Code::input_invalid, remedy};
  std::error_code problem;
  if (std::filesystem::is_directory(path, problem)) {
    (void)std::filesystem::directory_iterator(path, problem);  // as infer hands one over that it could not read
    if (problem) throw Error(blame.invalid, path, "cannot be opened: " + problem.message(), blame.remedy);
  }
  checked_size(path, blame);
  const std::string bytes = read_prefix(path, most_photo_bytes, blame);
  return decode_photo({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, path);
}

}  // namespace deploybench
