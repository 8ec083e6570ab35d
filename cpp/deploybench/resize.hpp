// Resizing as Pillow does it, bit for bit: models were trained on photos that were resized so. ATen's own antialiased
// resizing of 8-bit pixels keeps fewer bits of its weights, and bicubic came out up to 2 levels off.
#pragma once

#include <cstdint>

#include "deploybench/photo.hpp"

namespace deploybench {

enum class Filter { bilinear, bicubic };

// A part of a photo, in pixels.
struct Region {
  std::int64_t top = 0;
  std::int64_t left = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
};

// The photo at the new size in pixels, each >= 1, of which only `part`, inside of it, is made. Antialiased: where the
// photo becomes smaller, the filter becomes wider.
Photo resized(const Photo& photo, std::int64_t height, std::int64_t width, Filter filter, const Region& part);

}  // namespace deploybench
