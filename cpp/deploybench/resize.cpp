#include "deploybench/resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
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

// Those of `count` new pixels from `first` on.
std::vector<Window> windows(std::int64_t old_size, std::int64_t new_size, std::int64_t first, std::int64_t count,
                            Filter filter) {
  std::vector<Window> all;
  all.reserve(static_cast<std::size_t>(count));
  for (std::int64_t at = first; at < first + count; ++at) all.push_back(window_of(at, old_size, new_size, filter));
  return all;
}

std::uint8_t level(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum / one, 0, 255)); }

// With the machine's wider vectors, where it has them: 4 times as fast as what every x86-64 has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_CPU [[gnu::target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")]]
#else
#define FOR_EACH_CPU
#endif

// sums[i] += values[i] * weight
FOR_EACH_CPU void add_weighted(const std::uint8_t* values, std::int32_t weight, std::size_t count, std::int32_t* sums) {
  for (std::size_t i = 0; i < count; ++i) sums[i] += values[i] * weight;
}

FOR_EACH_CPU void store_levels(const std::int32_t* sums, std::size_t count, std::uint8_t* to) {
  for (std::size_t i = 0; i < count; ++i) to[i] = level(sums[i]);
}

// Four numbers at once: a pixel's three and one that is not used.
using Lanes [[gnu::vector_size(16)]] = std::int32_t;
using Bytes [[gnu::vector_size(16)]] = std::uint8_t;

// By shuffles, which become one instruction each; __builtin_convertvector became twelve (GCC 12).
inline Lanes load_pixel(const std::uint8_t* from) {
  std::int32_t four = 0;
  std::memcpy(&four, from, sizeof four);
  const auto bytes = reinterpret_cast<Bytes>(Lanes{four, 0, 0, 0});
  return reinterpret_cast<Lanes>(
      __builtin_shufflevector(bytes, Bytes{}, 0, 16, 16, 16, 1, 16, 16, 16, 2, 16, 16, 16, 3, 16, 16, 16));
}

inline void store_pixel(Lanes sums, std::uint8_t* to) {
  Lanes levels = sums / one;
  levels = levels < 0 ? Lanes{} : levels;
  levels = levels > 255 ? Lanes{} + 255 : levels;
  const auto bytes = reinterpret_cast<Bytes>(levels);
  const std::int32_t four = reinterpret_cast<Lanes>(
      __builtin_shufflevector(bytes, bytes, 0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))[0];
  std::memcpy(to, &four, sizeof four);
}

// The windows of a row with one number of weights, some of them zero, behind each other: in a loop of changing length
// the processor would guess its end wrong for every other pixel.
struct Columns {
  std::vector<std::int64_t> first;
  std::vector<std::int32_t> weights;
  std::size_t taps = 0;
};

Columns evened(const std::vector<Window>& windows, std::int64_t old_size) {
  Columns columns;
  for (const Window& window : windows) columns.taps = std::max(columns.taps, window.weights.size());
  for (const Window& window : windows) {
    const std::int64_t first = std::min(window.first, old_size - static_cast<std::int64_t>(columns.taps));
    columns.first.push_back(first);
    columns.weights.resize(columns.weights.size() + columns.taps);
    std::ranges::copy(window.weights, columns.weights.end() - static_cast<std::ptrdiff_t>(columns.taps) +
                                          static_cast<std::ptrdiff_t>(window.first - first));
  }
  return columns;
}

// One row across; reads and writes a byte beyond the ends.
FOR_EACH_CPU void resize_row(const std::uint8_t* row, const Columns& columns, std::uint8_t* to) {
  const std::int32_t* weight = columns.weights.data();
  for (const std::int64_t first : columns.first) {
    Lanes sums = {half, half, half, half};
    const std::uint8_t* from = row + first * 3;
    for (std::size_t i = 0; i < columns.taps; ++i) {
      sums += load_pixel(from) * *weight++;
      from += 3;
    }
    store_pixel(sums, to);
    to += 3;
  }
}

// `count` rows from `first` on.
Photo resized_across(const Photo& photo, std::int64_t first, std::int64_t count, const Columns& columns) {
  const auto width = static_cast<std::int64_t>(columns.first.size());
  const auto size = static_cast<std::size_t>(count * width * 3);
  Photo made{count, width, std::vector<std::uint8_t>(size + 1)};
  for (std::int64_t y = 0; y < count; ++y) {
    const std::uint8_t* from = photo.pixels.data() + (first + y) * photo.width * 3;
    std::vector<std::uint8_t> last;  // behind which there is no byte to read
    if (first + y == photo.height - 1) {
      last.assign(from, from + photo.width * 3);
      last.push_back(0);
      from = last.data();
    }
    resize_row(from, columns, made.pixels.data() + y * width * 3);
  }
  made.pixels.resize(size);
  return made;
}

Photo resized_down(const Photo& photo, const std::vector<Window>& rows) {
  const auto row = static_cast<std::size_t>(photo.width * 3);
  Photo made{static_cast<std::int64_t>(rows.size()), photo.width, std::vector<std::uint8_t>(rows.size() * row)};
  std::vector<std::int32_t> sums(row);
  std::uint8_t* to = made.pixels.data();
  for (const Window& window : rows) {
    std::ranges::fill(sums, half);
    const std::uint8_t* from = photo.pixels.data() + static_cast<std::size_t>(window.first) * row;
    for (const std::int32_t weight : window.weights) {
      add_weighted(from, weight, row, sums.data());
      from += row;
    }
    store_levels(sums.data(), row, to);
    to += row;
  }
  return made;
}

Photo cut(const Photo& photo, const Region& part) {
  Photo made{part.height, part.width, {}};
  made.pixels.reserve(static_cast<std::size_t>(part.height * part.width * 3));
  for (std::int64_t y = part.top; y < part.top + part.height; ++y) {
    const auto* const from = photo.pixels.data() + (y * photo.width + part.left) * 3;
    made.pixels.insert(made.pixels.end(), from, from + part.width * 3);
  }
  return made;
}

}  // namespace

// Across, then down, as Pillow does, which leaves out a pass that would change nothing: only the rows that the second
// one reads are resized by the first.
Photo resized(const Photo& photo, std::int64_t height, std::int64_t width, Filter filter, const Region& part) {
  Region needed = part;  // of the photo
  std::vector<Window> rows;
  if (height != photo.height) {
    rows = windows(photo.height, height, part.top, part.height, filter);
    std::int64_t end = 0;
    needed.top = photo.height;
    for (const Window& window : rows) {
      needed.top = std::min(needed.top, window.first);
      end = std::max(end, window.first + static_cast<std::int64_t>(window.weights.size()));
    }
    needed.height = std::max<std::int64_t>(0, end - needed.top);
    for (Window& window : rows) window.first -= needed.top;
  }
  const Photo across =
      width == photo.width
          ? cut(photo, needed)
          : resized_across(photo, needed.top, needed.height,
                           evened(windows(photo.width, width, part.left, part.width, filter), photo.width));
  return height == photo.height ? across : resized_down(across, rows);
}

}  // namespace deploybench
