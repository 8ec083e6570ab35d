// Resizing as Pillow does it, bit for bit: models were trained on photos that were resized so. ATen's own antialiased
// resizing of 8-bit pixels keeps fewer bits of its weights, and bicubic came out up to 2 levels off.
#pragma once

#include <cstdint>

#include "deploybench/photo.hpp"

namespace deploybench {

enum class Filter { bilinear, bicubic };

// The photo at the new size in pixels, each >= 1. Antialiased: where it becomes smaller, the filter becomes wider.
Photo resized(const Photo& photo, std::int64_t height, std::int64_t width, Filter filter);

}  // namespace deploybench
