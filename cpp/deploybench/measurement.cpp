#include "deploybench/measurement.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

namespace deploybench {
namespace {

bool all_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void keep(const CallTime& time, Measurement& result) {
  result.run_seconds.push_back(time.seconds);
  if (!time.device_seconds) return;
  if (!result.device_seconds) result.device_seconds.emplace();
  result.device_seconds->push_back(*time.device_seconds);
}

}  // namespace

// Bytes first: as a rule the output repeats bit by bit, and comparing 1,000 floats then costs 0.1 us.
void OutputWatch::see(std::span<const float> output) {
  if (first_.empty()) {
    first_.assign(output.begin(), output.end());
    finite_ = finite_ && all_finite(first_);
    return;
  }
  if (std::memcmp(output.data(), first_.data(), output.size_bytes()) == 0) return;
  finite_ = finite_ && all_finite(output);
  for (std::size_t i = 0; i < first_.size(); ++i) {
    const double difference = std::abs(static_cast<double>(output[i]) - static_cast<double>(first_[i]));
    if (std::isfinite(difference)) drift_ = std::max(drift_, difference);
  }
}

void OutputWatch::join(const OutputWatch& other) {
  if (!other.first_.empty()) see(other.first_);
  drift_ = std::max(drift_, other.drift_);
  finite_ = finite_ && other.finite_;
}

Measurement measure(const std::function<CallTime()>& call, const std::function<std::span<const float>()>& output,
                    std::int64_t warmup, const TimingLimits& limits, const std::function<void()>& await_turn) {
  Measurement result;
  Warmup state = warmup_state(result.warmup_seconds, warmup);
  while (state == Warmup::going) {
    result.warmup_seconds.push_back(call().seconds);
    state = warmup_state(result.warmup_seconds, warmup);
  }
  result.warmup_steady = state == Warmup::steady;

  OutputWatch watch;
  double sum = 0.0;
  double begin = 0.0;
  while (!timing_done(static_cast<std::int64_t>(result.run_seconds.size()), sum, limits)) {
    if (result.turn_calls.empty() || (limits.turn > 0 && result.turn_calls.back() == limits.turn)) {
      if (limits.turn > 0) {
        await_turn();
        result.settle_seconds.push_back(call().seconds);
      }
      result.turn_calls.push_back(0);
      result.turn_seconds.push_back(0);
      begin = now();
    }
    const CallTime time = call();
    result.turn_seconds.back() = now() - begin;
    ++result.turn_calls.back();
    sum += time.seconds;
    keep(time, result);
    watch.see(output());
  }
  result.output_drift = watch.drift();
  result.output_finite = watch.finite();
  return result;
}

Measurement measure(Crew& crew, std::int64_t warmup, const TimingLimits& limits, const std::function<void(bool)>& timed,
                    const std::function<void()>& await_turn) {
  Measurement result;
  timed(false);
  Warmup state = warmup_state(result.warmup_seconds, warmup);
  while (state == Warmup::going) {
    result.warmup_seconds.push_back(crew.turn(1).calls[0][0].seconds);
    state = warmup_state(result.warmup_seconds, warmup);
  }
  result.warmup_steady = state == Warmup::steady;

  std::int64_t least = 0;  // calls of each instance so far
  double sum = 0.0;
  while (!timing_done(least, sum, limits)) {
    const std::int64_t calls = limits.turn > 0 ? limits.turn : std::max<std::int64_t>(1, limits.runs - least);
    if (limits.turn > 0) {
      await_turn();
      timed(false);
      result.settle_seconds.push_back(crew.turn(1).seconds);
    }
    timed(true);
    const Crew::Turn turn = crew.turn(calls, limits.max_seconds - sum, std::max<std::int64_t>(1, fewest_runs - least));
    result.turn_calls.push_back(0);
    std::size_t made = turn.calls.front().size();  // by each, at least
    for (const std::vector<CallTime>& instance : turn.calls) {
      for (const CallTime& time : instance) keep(time, result);
      result.turn_calls.back() += static_cast<std::int64_t>(instance.size());
      made = std::min(made, instance.size());
    }
    result.turn_seconds.push_back(turn.seconds);
    least += std::min(calls, static_cast<std::int64_t>(made));
    sum += turn.seconds;
  }
  return result;
}

}  // namespace deploybench
