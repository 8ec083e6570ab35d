// Images that arrive by themselves, as those of a server's clients do, and how long each one waits for its answer. Twin
// of python/deploybench/load.py.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "deploybench/measurement.hpp"
#include "deploybench/pool.hpp"

namespace deploybench {

struct LoadLimits {
  double rate = 0.0;           // images a second in the mean, > 0; 0: the highest that keeps the bound is searched for
  double latency_bound = 0.0;  // seconds that 99 of 100 answers take at most; 0: none
  double seconds = 2.0;        // of arrivals in each turn
  std::uint64_t seed = 0;
};

// When images arrive, in seconds from the begin, in the first `seconds`: a Poisson process, whose gaps are exponential
// (by inversion, of the splitmix64 generator's upper 53 bits). The same numbers in both languages.
std::vector<double> poisson_arrivals(double rate, double seconds, std::uint64_t seed);

// Hands `image` over at each of the arrivals and waits for all answers. Latencies in the order of arrival, from when
// the image should have arrived: one that is handed over late, because the machine is busy, has waited all the same.
struct Burst {
  double seconds = 0.0;  // from the begin to the last answer
  std::vector<double> latencies;
};
Burst burst(Pool& pool, const Pool::Image& image, const std::vector<double>& arrivals);

// One turn at limits.rate, or a search: all at once first, which shows what the pool can do at most, then up to seven
// halvings between nothing and that: none where an image alone takes longer than the bound, and none whose turn would
// take eight times as long as the first. Each turn is kept, with its rate, the first one with what came out;
// run_seconds are latencies.
void measure_load(Pool& pool, const Pool::Image& image, const LoadLimits& limits, Measurement& result);

}  // namespace deploybench
