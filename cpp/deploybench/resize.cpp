#include "deploybench/resize.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace deploybench {
namespace {

// Weights are whole numbers of 1 / 2^22: with 8 bits of a pixel and 2 for what bicubic weights overshoot they fill 32.
constexpr std::int32_t one = 4'194'304;
constexpr std::int32_t half = one / 2;

double weight_at(Filter filter, double x) {
  x = std::abs(x);
  if (filter == Filter::bilinear) return std::max(0.0, 1.0 - x);
  constexpr double a = -0.5;  // the cubic convolution of Keys (1981)
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

// What one new pixel is made of: the old ones from `first` on, each times its weight.
struct Window {
  std::int64_t first;
  std::vector<std::int32_t> weights;
};

Window window_of(std::int64_t at, std::int64_t old_size, std::int64_t new_size, Filter filter) {
  const double scale = static_cast<double>(old_size) / static_cast<double>(new_size);
  const double stretch = std::max(1.0, scale);
  const double reach = (filter == Filter::bilinear ? 1.0 : 2.0) * stretch;
  const double middle = (static_cast<double>(at) + 0.5) * scale;
  const auto first = std::max<std::int64_t>(0, static_cast<std::int64_t>(std::floor(middle - reach + 0.5)));
  const auto end = std::min(old_size, static_cast<std::int64_t>(std::floor(middle + reach + 0.5)));
  std::vector<double> exact;
  double sum = 0;
  for (std::int64_t x = first; x < end; ++x) {
    exact.push_back(weight_at(filter, (static_cast<double>(x) - middle + 0.5) * (1.0 / stretch)));
    sum += exact.back();
  }
  Window window{first, {}};
  for (const double weight : exact) {
    const double whole = (sum == 0 ? weight : weight / sum) * one;
    window.weights.push_back(static_cast<std::int32_t>(std::trunc(whole + std::copysign(0.5, whole))));
  }
  return window;
}

std::vector<Window> windows(std::int64_t old_size, std::int64_t new_size, Filter filter) {
  std::vector<Window> all;
  all.reserve(static_cast<std::size_t>(new_size));
  for (std::int64_t at = 0; at < new_size; ++at) all.push_back(window_of(at, old_size, new_size, filter));
  return all;
}

std::uint8_t level(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum / one, 0, 255)); }

Photo resized_across(const Photo& photo, std::int64_t width, Filter filter) {
  Photo made{photo.height, width, std::vector<std::uint8_t>(static_cast<std::size_t>(photo.height * width * 3))};
  const std::vector<Window> columns = windows(photo.width, width, filter);
  for (std::int64_t y = 0; y < photo.height; ++y) {
    const std::uint8_t* const row = photo.pixels.data() + y * photo.width * 3;
    std::uint8_t* to = made.pixels.data() + y * width * 3;
    for (const Window& window : columns) {
      std::int32_t red = half;
      std::int32_t green = half;
      std::int32_t blue = half;
      const std::uint8_t* from = row + window.first * 3;
      for (const std::int32_t weight : window.weights) {
        red += from[0] * weight;
        green += from[1] * weight;
        blue += from[2] * weight;
        from += 3;
      }
      *to++ = level(red);
      *to++ = level(green);
      *to++ = level(blue);
    }
  }
  return made;
}

Photo resized_down(const Photo& photo, std::int64_t height, Filter filter) {
  const auto row = static_cast<std::size_t>(photo.width * 3);
  Photo made{height, photo.width, std::vector<std::uint8_t>(static_cast<std::size_t>(height) * row)};
  std::vector<std::int32_t> sums(row);
  std::uint8_t* to = made.pixels.data();
  for (const Window& window : windows(photo.height, height, filter)) {
    std::ranges::fill(sums, half);
    const std::uint8_t* from = photo.pixels.data() + static_cast<std::size_t>(window.first) * row;
    for (const std::int32_t weight : window.weights) {
      for (std::size_t i = 0; i < row; ++i) sums[i] += from[i] * weight;
      from += row;
    }
    to = std::ranges::transform(sums, to, level).out;
  }
  return made;
}

}  // namespace

Photo resized(const Photo& photo, std::int64_t height, std::int64_t width, Filter filter) {
  const Photo across = width == photo.width ? photo : resized_across(photo, width, filter);
  return height == across.height ? across : resized_down(across, height, filter);
}

}  // namespace deploybench
