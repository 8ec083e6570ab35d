// Several instances of a model that make calls at the same time, for `bench --instances`. Knows nothing of LibTorch.
// Twin of python/deploybench/crew.py.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace deploybench {

struct CallTime {
  double seconds = 0.0;                  // by the steady clock, around forward only
  std::optional<double> device_seconds;  // by the device's own events; none on the CPU
};

class Crew {
 public:
  using Call = std::function<CallTime()>;

  // `make(i)` is called on the thread of instance i, which makes its calls. Throws what one of them threw.
  Crew(std::size_t instances, const std::function<Call(std::size_t)>& make);
  Crew(const Crew&) = delete;
  Crew(Crew&&) = delete;
  Crew& operator=(const Crew&) = delete;
  Crew& operator=(Crew&&) = delete;
  ~Crew();

  struct Turn {
    double seconds = 0.0;                      // from the first call's begin to the last one's end
    std::vector<std::vector<CallTime>> calls;  // of each instance
  };

  // All begin together and go on until each has made `least` calls, or, once `seconds` are over, `fewest`, so that none
  // ever runs alone. Throws what a call threw.
  Turn turn(std::int64_t least, double seconds = std::numeric_limits<double>::infinity(), std::int64_t fewest = 1);

 private:
  void work(std::size_t instance, const std::function<Call(std::size_t)>& make);
  [[nodiscard]] bool enough(std::int64_t calls) const;
  void call_on(const Call& call, std::vector<CallTime>& times);
  void stop() noexcept;
  void wait_for_all(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t busy_;        // instances that are being made or make calls
  std::size_t behind_ = 0;  // of those, that have not yet made enough calls
  std::int64_t least_ = 0;
  std::int64_t fewest_ = 0;  // once seconds_ are over
  double seconds_ = 0.0;
  std::chrono::steady_clock::time_point begin_;  // of the turn
  std::int64_t number_ = 0;                      // of the turn; -1: the end
  std::exception_ptr problem_;                   // the first
  std::vector<std::vector<CallTime>> times_;
  std::vector<std::thread> threads_;
};

}  // namespace deploybench
