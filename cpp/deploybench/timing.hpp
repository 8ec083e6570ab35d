// When warming up ends and when timing ends. Plain arithmetic on seconds; the same rules as in the Python worker.
#pragma once

#include <cstdint>
#include <span>

namespace deploybench {

// The middle value, or the mean of the middle two. `values` must not be empty.
double median(std::span<const double> values);

// The q-quantile, 0 <= q <= 1, linear between order statistics (Hyndman and Fan 1996, type 7). `values` must not be
// empty.
double quantile(std::span<const double> values, double q);

enum class Warmup {
  going,   // another call is needed
  steady,  // ended: the last 5 calls took as long as the 5 before
  capped,  // ended: three times `least` calls were made, or none was asked for
};

// State after the calls whose `seconds` are given. At least `least` calls and at least 10, until the medians of the
// last 5 and of the 5 before are within 5 %, but never more than 3 * least. TorchScript's profiling executor recompiles
// during its first calls (the first of ResNet-50 takes about 4 times a steady one), so a small fixed count would time
// the compiler.
Warmup warmup_state(std::span<const double> seconds, std::int64_t least);

struct TimingLimits {
  std::int64_t runs = 100;    // timed calls at least, >= 1
  double min_seconds = 0.0;   // timed calls for at least so long in sum
  double max_seconds = 60.0;  // no further call after so long in sum, but not before 3 calls
  std::int64_t turn = 0;      // timed calls a turn; 0: all in one, without waiting
};

// Timed calls at least, even when max_seconds are over: a median of fewer says nothing.
inline constexpr std::int64_t fewest_runs = 3;

// Whether `count` timed calls of `sum_seconds` together are enough.
bool timing_done(std::int64_t count, double sum_seconds, const TimingLimits& limits);

}  // namespace deploybench
