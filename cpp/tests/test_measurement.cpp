// The loop of bench on a model that is a list of numbers.
#include "deploybench/measurement.hpp"

#include <limits>

#include "check.hpp"

namespace {

using deploybench::CallTime;
using deploybench::measure;
using deploybench::Measurement;

// Answers call i with outputs[i], the last one ever after.
Measurement measure_outputs(const std::vector<std::vector<float>>& outputs, std::int64_t warmup, std::int64_t runs) {
  std::size_t calls = 0;
  return measure([&] { return CallTime{.seconds = static_cast<double>(++calls), .device_seconds = {}}; },
                 [&] { return std::span<const float>(outputs.at(std::min(calls, outputs.size()) - 1)); }, warmup,
                 {.runs = runs, .min_seconds = 0, .max_seconds = 1e9}, [] {});
}

TEST(measurement, every_call_is_recorded_in_its_list) {
  const Measurement result = measure_outputs({{1}}, 2, 3);
  CHECK((result.warmup_seconds == std::vector<double>{1, 2, 3, 4, 5, 6}) && !result.warmup_steady);
  CHECK((result.run_seconds == std::vector<double>{7, 8, 9}) && !result.device_seconds);
}

TEST(measurement, drift_is_the_largest_difference_from_the_first_timed_output) {
  // the warm-up outputs (100) must not count
  const Measurement result = measure_outputs({{100, 100}, {100, 100}, {100, 100}, {1, 2}, {1.5F, 2}, {1, -1}}, 1, 3);
  CHECK(result.warmup_seconds.size() == 3 && result.output_drift == 3.0 && result.output_finite);
}

TEST(measurement, the_same_bytes_do_not_drift) { CHECK(measure_outputs({{1, 2}}, 0, 4).output_drift == 0.0); }

TEST(measurement, a_nan_in_any_timed_output_is_seen) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(!measure_outputs({{nan}}, 0, 2).output_finite);
  const Measurement later = measure_outputs({{1, 2}, {1, 2}, {nan, 3}}, 0, 3);
  CHECK(!later.output_finite && later.output_drift == 1.0);  // the drift itself stays a number
}

TEST(measurement, an_infinity_does_not_become_the_drift) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Measurement result = measure_outputs({{1, 2}, {infinity, 3}}, 0, 2);
  CHECK(!result.output_finite && result.output_drift == 1.0);
}

TEST(measurement, device_times_are_kept_beside) {
  const Measurement result = measure([] { return CallTime{.seconds = 2.0, .device_seconds = 1.0}; },
                                     [] { return std::span<const float>{}; }, 0, {.runs = 3}, [] {});
  CHECK((result.device_seconds == std::vector<double>{1, 1, 1}));
}

TEST(measurement, without_turns_it_never_waits) {
  const auto never = [] { CHECK(false); };
  const Measurement result = measure([] { return CallTime{.seconds = 1.0, .device_seconds = {}}; },
                                     [] { return std::span<const float>{}; }, 0, {.runs = 4}, never);
  CHECK((result.turn_calls == std::vector<std::int64_t>{4}) && result.settle_seconds.empty());
}

TEST(measurement, each_turn_waits_and_begins_with_an_untimed_call) {
  double calls = 0;
  std::vector<double> waited;  // the calls made when each wait began
  const Measurement result =
      measure([&] { return CallTime{.seconds = ++calls, .device_seconds = {}}; },
              [] { return std::span<const float>{}; }, 1, {.runs = 5, .turn = 2}, [&] { waited.push_back(calls); });
  CHECK((waited == std::vector<double>{3, 6, 9}));
  CHECK((result.settle_seconds == std::vector<double>{4, 7, 10}));
  CHECK((result.run_seconds == std::vector<double>{5, 6, 8, 9, 11}));
  CHECK((result.turn_calls == std::vector<std::int64_t>{2, 2, 1}));
}

}  // namespace
