#include "deploybench/load.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <latch>
#include <mutex>
#include <thread>

namespace deploybench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int halvings = 7;  // to within 1 % of what the pool can do
// A turn of the search, by the first one, at most: `fewest` images at a 128th of what it can do take for ever.
constexpr double longest = 8;
constexpr double percentile = 0.99;
constexpr std::size_t fewest = 20;  // images of a turn: a percentile of fewer says nothing
constexpr int alone = 3;            // images, one after the other, of which the fastest says what an answer takes

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
std::uint64_t splitmix64(std::uint64_t& state) {
  state += 0x9e3779b97f4a7c15U;
  std::uint64_t z = state;
  z = (z ^ z >> 30U) * 0xbf58476d1ce4e5b9U;
  z = (z ^ z >> 27U) * 0x94d049bb133111ebU;
  return z ^ z >> 31U;
}

void keep(const Burst& turn, double rate, Measurement& result) {
  if (!result.turn_rates) result.turn_rates.emplace();
  result.run_seconds.insert(result.run_seconds.end(), turn.latencies.begin(), turn.latencies.end());
  result.turn_calls.push_back(static_cast<std::int64_t>(turn.latencies.size()));
  result.turn_seconds.push_back(turn.seconds);
  result.turn_rates->push_back(rate);
}

}  // namespace

std::vector<double> poisson_arrivals(double rate, double seconds, std::uint64_t seed) {
  std::vector<double> arrivals;
  for (double at = 0.0;;) {
    const double uniform = static_cast<double>(splitmix64(seed) >> 11U) * 0x1p-53;
    at -= std::log1p(-uniform) / rate;
    if (at >= seconds && arrivals.size() >= fewest) return arrivals;
    arrivals.push_back(at);
  }
}

Burst burst(Pool& pool, const Pool::Image& image, const std::vector<double>& arrivals) {
  Burst result{0.0, std::vector<double>(arrivals.size())};
  std::latch open(static_cast<std::ptrdiff_t>(arrivals.size()));
  std::mutex mutex;
  std::exception_ptr first;
  const auto begin = Clock::now();
  const auto done = [&](std::size_t i, const std::exception_ptr& problem) {
    result.latencies[i] = since(begin) - arrivals[i];
    if (problem) {
      const std::scoped_lock lock(mutex);
      first = problem;
    }
    open.count_down();
  };
  std::size_t handed = 0;
  try {
    for (; handed < arrivals.size(); ++handed) {
      const std::chrono::duration<double> at(arrivals[handed]);
      std::this_thread::sleep_until(begin + std::chrono::duration_cast<Clock::duration>(at));
      pool.submit(image, [&done, i = handed](auto, const auto& problem) { done(i, problem); });
    }
  } catch (...) {  // those that wait in the pool still write here
    open.count_down(static_cast<std::ptrdiff_t>(arrivals.size() - handed));
    open.wait();
    throw;
  }
  open.wait();
  result.seconds = since(begin);
  if (first) std::rethrow_exception(first);
  return result;
}

void measure_load(Pool& pool, const Pool::Image& image, const LoadLimits& limits, Measurement& result) {
  if (limits.rate > 0) {
    keep(burst(pool, image, poisson_arrivals(limits.rate, limits.seconds, limits.seed)), limits.rate, result);
    return;
  }
  const Burst few = burst(pool, image, std::vector<double>(fewest));
  const double guess = limits.seconds * static_cast<double>(fewest) / few.seconds;
  const Burst all = burst(pool, image, std::vector<double>(std::max(fewest, static_cast<std::size_t>(guess))));
  double high = static_cast<double>(all.latencies.size()) / all.seconds;
  keep(all, high, result);
  double answer = burst(pool, image, {0.0}).seconds;
  for (int i = 1; i < alone; ++i) answer = std::min(answer, burst(pool, image, {0.0}).seconds);
  if (answer > limits.latency_bound) return;
  const double slowest = static_cast<double>(fewest) / (longest * std::max(limits.seconds, all.seconds));
  double low = 0.0;
  for (int i = 0; i < halvings; ++i) {
    const double rate = (low + high) / 2;
    if (rate < slowest) return;
    const Burst turn =
        burst(pool, image, poisson_arrivals(rate, limits.seconds, limits.seed + static_cast<unsigned>(i)));
    keep(turn, rate, result);
    (quantile(turn.latencies, percentile) <= limits.latency_bound ? low : high) = rate;
  }
}

}  // namespace deploybench
