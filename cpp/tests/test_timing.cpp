// The warm-up and stopping rules against sequences worked by hand.
#include <vector>

#include "check.hpp"
#include "deploybench/timing.hpp"

namespace {

using deploybench::median;
using deploybench::timing_done;
using deploybench::TimingLimits;
using deploybench::Warmup;
using deploybench::warmup_state;

std::vector<double> blocks(double before, double last) {
  std::vector<double> seconds(5, before);
  seconds.insert(seconds.end(), 5, last);
  return seconds;
}

TEST(timing, median_of_odd_and_even_counts) {
  CHECK(median(std::vector<double>{3, 1, 2}) == 2);
  CHECK(median(std::vector<double>{4, 1, 3, 2}) == 2.5);
  CHECK(median(std::vector<double>{7}) == 7);
}

TEST(timing, no_warmup_asked_for_ends_before_the_first_call) { CHECK(warmup_state({}, 0) == Warmup::capped); }

TEST(timing, ten_calls_alike_are_steady) {
  CHECK(warmup_state(std::vector<double>(9, 1.0), 10) == Warmup::going);
  CHECK(warmup_state(std::vector<double>(10, 1.0), 10) == Warmup::steady);
}

TEST(timing, five_per_cent_either_way_is_the_border) {
  CHECK(warmup_state(blocks(100, 105), 10) == Warmup::steady);
  CHECK(warmup_state(blocks(100, 95), 10) == Warmup::steady);
  CHECK(warmup_state(blocks(100, 106), 10) == Warmup::going);
  CHECK(warmup_state(blocks(100, 94), 10) == Warmup::going);
}

TEST(timing, the_border_is_measured_by_the_five_before) {
  // |95 - 100| is 5 % of 100 but 5.3 % of 95: falling passes, and 95 -> 100 does not.
  CHECK(warmup_state(blocks(95, 100), 10) == Warmup::going);
}

TEST(timing, one_slow_call_does_not_move_a_median) {
  std::vector<double> seconds(10, 1.0);
  seconds[7] = 50;
  CHECK(warmup_state(seconds, 10) == Warmup::steady);
}

TEST(timing, only_the_last_ten_calls_count) {
  std::vector<double> seconds = {9, 9, 9};
  seconds.insert(seconds.end(), 9, 1.0);
  CHECK(warmup_state(seconds, 10) ==
        Warmup::steady);  // medians of {9,9,1,1,1 -> 1} are not asked: last ten are 9,1 x 9
}

TEST(timing, fewer_than_asked_for_is_never_enough) {
  CHECK(warmup_state(std::vector<double>(14, 1.0), 15) == Warmup::going);
}

TEST(timing, three_times_as_many_is_the_cap) {
  std::vector<double> rising(30);
  for (std::size_t i = 0; i < rising.size(); ++i) rising[i] = static_cast<double>(i + 1);
  CHECK(warmup_state(std::span(rising).first(29), 10) == Warmup::going);
  CHECK(warmup_state(rising, 10) == Warmup::capped);
  // 2 asked for: capped at 6, too few to be called steady
  CHECK(warmup_state(std::vector<double>(5, 1.0), 2) == Warmup::going);
  CHECK(warmup_state(std::vector<double>(6, 1.0), 2) == Warmup::capped);
}

TEST(timing, runs_and_seconds_must_both_be_reached) {
  const TimingLimits limits{.runs = 10, .min_seconds = 2.0, .max_seconds = 60.0};
  CHECK(!timing_done(9, 5.0, limits));
  CHECK(!timing_done(10, 1.9, limits));
  CHECK(timing_done(10, 2.0, limits));
}

TEST(timing, the_longest_time_ends_it_but_not_before_three_calls) {
  const TimingLimits limits{.runs = 100, .min_seconds = 0.0, .max_seconds = 1.0};
  CHECK(!timing_done(2, 50.0, limits));
  CHECK(timing_done(3, 50.0, limits));
  CHECK(!timing_done(3, 0.9, limits));
}

TEST(timing, one_run_asked_for_is_one_run) { CHECK(timing_done(1, 0.1, {.runs = 1})); }

}  // namespace
