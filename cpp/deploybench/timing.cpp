#include "deploybench/timing.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace deploybench {
namespace {

constexpr std::size_t window = 5;
constexpr double tolerance = 0.05;

bool is_steady(std::span<const double> seconds) {
  if (seconds.size() < 2 * window) return false;
  const auto last = seconds.last(2 * window);
  const double before = median(last.first(window));
  return std::abs(median(last.last(window)) - before) <= tolerance * before;
}

}  // namespace

double median(std::span<const double> values) {
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

double quantile(std::span<const double> values, double q) {
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - static_cast<double>(below));
}

Warmup warmup_state(std::span<const double> seconds, std::int64_t least) {
  const auto count = static_cast<std::int64_t>(seconds.size());
  if (least > 0 && count >= least && is_steady(seconds)) return Warmup::steady;
  return count >= 3 * least ? Warmup::capped : Warmup::going;
}

bool timing_done(std::int64_t count, double sum_seconds, const TimingLimits& limits) {
  if (count >= fewest_runs && sum_seconds >= limits.max_seconds) return true;
  return count >= limits.runs && sum_seconds >= limits.min_seconds;
}

}  // namespace deploybench
