#include "deploybench/measurement.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace deploybench {
namespace {

bool all_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

// Bytes first: as a rule the output repeats bit by bit, and comparing 1,000 floats then costs 0.1 us.
void compare(std::span<const float> output, std::span<const float> first, Measurement& result) {
  if (std::memcmp(output.data(), first.data(), first.size_bytes()) == 0) return;
  result.output_finite = result.output_finite && all_finite(output);
  for (std::size_t i = 0; i < first.size(); ++i) {
    const double difference = std::abs(static_cast<double>(output[i]) - static_cast<double>(first[i]));
    if (std::isfinite(difference)) result.output_drift = std::max(result.output_drift, difference);
  }
}

}  // namespace

Measurement measure(const std::function<CallTime()>& call, const std::function<std::span<const float>()>& output,
                    std::int64_t warmup, const TimingLimits& limits, const std::function<void()>& await_turn) {
  Measurement result;
  Warmup state = warmup_state(result.warmup_seconds, warmup);
  while (state == Warmup::going) {
    result.warmup_seconds.push_back(call().seconds);
    state = warmup_state(result.warmup_seconds, warmup);
  }
  result.warmup_steady = state == Warmup::steady;

  std::vector<float> first;
  double sum = 0.0;
  while (!timing_done(static_cast<std::int64_t>(result.run_seconds.size()), sum, limits)) {
    if (limits.turn > 0 && (result.turn_calls.empty() || result.turn_calls.back() == limits.turn)) {
      await_turn();
      result.settle_seconds.push_back(call().seconds);
      result.turn_calls.push_back(0);
    } else if (result.turn_calls.empty()) {
      result.turn_calls.push_back(0);
    }
    const CallTime time = call();
    ++result.turn_calls.back();
    sum += time.seconds;
    result.run_seconds.push_back(time.seconds);
    if (time.device_seconds) {
      if (!result.device_seconds) result.device_seconds.emplace();
      result.device_seconds->push_back(*time.device_seconds);
    }
    if (first.empty()) {
      first.assign(output().begin(), output().end());
      result.output_finite = all_finite(first);
    } else {
      compare(output(), first, result);
    }
  }
  return result;
}

}  // namespace deploybench
