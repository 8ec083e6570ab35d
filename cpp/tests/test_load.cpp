// Images that arrive by themselves. The thread sanitizer runs these too.
#include "deploybench/load.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "check.hpp"

namespace {

using deploybench::burst;
using deploybench::measure_load;
using deploybench::Measurement;
using deploybench::poisson_arrivals;
using deploybench::Pool;
using namespace std::chrono_literals;

Pool::Call sleeping(std::size_t /*instance*/) {
  return [](std::span<const float> images) {
    std::this_thread::sleep_for(2ms);
    return std::vector<float>(images.size());
  };
}

Pool::Image image() { return std::make_shared<const std::vector<float>>(1); }

// By an implementation of its own, in NumPy's 64-bit numbers.
TEST(load, arrivals_are_the_same_in_both_languages) {
  const std::vector<double> arrivals = poisson_arrivals(100, 1, 7);
  const std::vector<double> expected = {0.004940172597583, 0.005109480750755, 0.028211690534487, 0.036956709616};
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(arrivals[i] - expected[i]) < 1e-12);
  CHECK(arrivals.size() == 98);
}

// The gaps of a Poisson process: mean and standard deviation are both 1 / rate, here to within 3 standard errors.
TEST(load, arrivals_are_a_poisson_process) {
  const std::vector<double> arrivals = poisson_arrivals(1000, 10, 1);
  std::vector<double> gaps(arrivals.size());
  std::adjacent_difference(arrivals.begin(), arrivals.end(), gaps.begin());
  const auto n = static_cast<double>(gaps.size());
  const double mean = std::accumulate(gaps.begin(), gaps.end(), 0.0) / n;
  double squares = 0;
  for (const double gap : gaps) squares += (gap - mean) * (gap - mean);
  CHECK(std::abs(mean - 0.001) < 0.003 / std::sqrt(n) && std::abs(std::sqrt(squares / n) - 0.001) < 0.00006);
  CHECK(poisson_arrivals(1, 0.001, 0).size() == 20);  // a percentile wants a few
}

TEST(load, who_comes_late_has_waited) {
  Pool pool({.instances = 1, .queue = 100}, 1, sleeping);
  const auto result = burst(pool, image(), std::vector<double>(10));  // all at once: the last waits for the others
  CHECK(result.latencies[9] >= 0.020 && result.latencies[0] < result.latencies[9] && result.seconds >= 0.020);
  CHECK_THROWS(
      [] {
        Pool failing({.instances = 1, .queue = 100}, 1, [](std::size_t) -> Pool::Call {
          return [](std::span<const float>) -> std::vector<float> { throw std::runtime_error("broke"); };
        });
        return burst(failing, image(), std::vector<double>(10));
      }(),
      "broke");
}

TEST(load, a_rate_that_is_given) {
  Pool pool({.instances = 1, .queue = 1000}, 1, sleeping);
  Measurement result;
  measure_load(pool, image(), {.rate = 200, .seconds = 0.2, .seed = 3}, result);
  CHECK(result.turn_rates == std::vector<double>{200} && result.turn_calls.size() == 1);
  CHECK(result.run_seconds.size() == static_cast<std::size_t>(result.turn_calls[0]));
}

// An instance that takes 2 ms and more answers up to 500 a second. A bound that each answer keeps leads to nearly all
// that it can do; one that no answer keeps ends the search at once.
TEST(load, the_search_follows_the_bound) {
  Pool pool({.instances = 1, .queue = 100'000}, 1, sleeping);
  Measurement lax;
  measure_load(pool, image(), {.latency_bound = 60, .seconds = 0.1}, lax);
  const std::vector<double> at_lax = lax.turn_rates.value_or(std::vector<double>());
  CHECK(at_lax.size() == 8 && at_lax.back() > 0.99 * at_lax.front());
  double best = 0;  // of five: whoever has the core meanwhile makes one slower
  for (int attempt = 0; attempt < 5 && best <= 50; ++attempt) {
    Measurement strict;
    measure_load(pool, image(), {.latency_bound = 0.001, .seconds = 0.1}, strict);
    const std::vector<double> rates = strict.turn_rates.value_or(std::vector<double>());
    CHECK(rates.size() == 1 && rates.at(0) > 0 && rates.at(0) < 500);
    best = std::max(best, rates.at(0));
  }
  CHECK(best > 50);
}

// Every tenth call takes 100 ms: an image alone keeps the bound, of 20 two do not, at whatever rate they come.
TEST(load, the_search_ends_where_its_turns_would_take_for_ever) {
  int calls = 0;
  Pool pool({.instances = 1, .queue = 100'000}, 1, [&calls](std::size_t) -> Pool::Call {
    return [&calls](std::span<const float> images) {
      std::this_thread::sleep_for(++calls % 10 == 0 ? 100ms : 1ms);
      return std::vector<float>(images.size());
    };
  });
  Measurement result;
  measure_load(pool, image(), {.latency_bound = 0.05, .seconds = 0.1}, result);
  const std::vector<double> rates = result.turn_rates.value_or(std::vector<double>());
  CHECK(rates.size() > 1 && rates.size() < 8);
  if (rates.empty()) return;
  const double slowest = 20 / (8 * std::max(0.1, result.turn_seconds.front()));
  CHECK(rates.back() >= slowest && rates.back() / 2 < slowest);
}

}  // namespace
