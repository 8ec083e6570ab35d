// The loop of `bench`: warm up, then time, and watch outside of the clock whether the output stays the same.
// It knows nothing of torch: what is called is handed in.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "deploybench/crew.hpp"
#include "deploybench/timing.hpp"

namespace deploybench {

// Whether an output repeats: of one instance, or of one that runs alone.
class OutputWatch {
 public:
  void see(std::span<const float> output);
  // Joins what another instance saw.
  void join(const OutputWatch& other);

  [[nodiscard]] double drift() const noexcept { return drift_; }
  [[nodiscard]] bool finite() const noexcept { return finite_; }

 private:
  std::vector<float> first_;
  double drift_ = 0.0;
  bool finite_ = true;
};

struct Measurement {
  std::vector<double> warmup_seconds;                 // every warm-up call, from the first; of the first instance
  bool warmup_steady = false;                         // warm-up ended because the times had settled
  std::vector<double> run_seconds;                    // every timed call, of all instances
  std::optional<std::vector<double>> device_seconds;  // one for each timed call; none on the CPU
  std::vector<double> settle_seconds;                 // the untimed first call of each turn
  std::vector<std::int64_t> turn_calls;               // timed calls of each turn
  std::vector<double> turn_seconds;                   // how long each turn took, from its first timed call to its last
  std::optional<std::vector<double>> turn_rates;      // images a second that arrived in each turn; none: see load.hpp
  double output_drift = 0.0;  // largest |difference| of any timed output from the first timed one
  bool output_finite = true;  // no NaN and no infinity in any timed output
};

// `call` makes one call and times it, `output` gives the last call's output, [N,classes] flattened, valid until the
// next call. With limits.turn, each turn waits for `await_turn` and begins with one untimed call, because another
// process has used the caches since.
Measurement measure(const std::function<CallTime()>& call, const std::function<std::span<const float>()>& output,
                    std::int64_t warmup, const TimingLimits& limits, const std::function<void()>& await_turn);

// The same for instances that call at the same time. limits.runs and limits.turn count the calls of each instance.
// Drift and finiteness are left to who makes the calls, and is told by `timed` whether those that follow are.
Measurement measure(Crew& crew, std::int64_t warmup, const TimingLimits& limits, const std::function<void(bool)>& timed,
                    const std::function<void()>& await_turn);

}  // namespace deploybench
