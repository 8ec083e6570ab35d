// The decoders behind photo.hpp, each over a system library that need not be there.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include "deploybench/photo.hpp"

namespace deploybench {

// Twice Pillow's MAX_IMAGE_PIXELS, from where Pillow calls a file a decompression bomb.
inline constexpr std::uint64_t most_photo_pixels = 178'956'970;
inline constexpr const char* too_many_pixels = "larger than 178956970 pixels, maybe a decompression bomb";
// No photo of that many pixels is larger, uncompressed.
inline constexpr std::uint64_t most_photo_bytes = 8 * most_photo_pixels;

// What is wrong with a photo; `remedy` is empty unless it is not the photo's fault.
class CodecError : public std::runtime_error {
 public:
  explicit CodecError(const std::string& problem, std::string remedy = "")
      : std::runtime_error(problem), remedy_(std::move(remedy)) {}
  [[nodiscard]] const std::string& remedy() const noexcept { return remedy_; }

 private:
  std::string remedy_;
};

// Both give upright RGB and throw CodecError, or std::bad_alloc.
Photo decode_jpeg(std::span<const std::uint8_t> bytes);
Photo decode_png(std::span<const std::uint8_t> bytes);

}  // namespace deploybench
