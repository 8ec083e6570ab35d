// Many instances of a model at work at once: a bounded queue, and a thread for each instance. Knows nothing of
// LibTorch: an instance is a function.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace deploybench {

// Ten seconds; a wait that is added to the clock must not overflow it.
inline constexpr std::int64_t most_delay_us = 10'000'000;

struct PoolOptions {
  std::size_t instances = 1;                // >= 1
  std::size_t queue = 0;                    // images that wait at most; 0: twice what all instances take at once
  std::size_t least_batch = 1;              // images an instance takes at least: fewer are filled up, and cut off again
  std::size_t most_batch = 1;               // >= least_batch; images that are waiting go together up to so many
  std::chrono::microseconds most_delay{0};  // so long an instance with fewer waits for more; <= most_delay_us
};

class Pool {
 public:
  using Image = std::shared_ptr<const std::vector<float>>;
  // A call of one instance: float32 [n,image_values] flattened -> [n,classes] flattened. Used by one thread only.
  using Call = std::function<std::vector<float>(std::span<const float> images)>;
  // Gets the answer, [classes], or the exception instead of it, on the instance's thread: it must be quick and not
  // throw. `logits` is gone when it returns.
  using Done = std::function<void(std::span<const float> logits, const std::exception_ptr& problem)>;

  // `make(i)` is called on the thread of instance i, which its call will run on: settings of a thread can be made
  // there. Returns when all are ready; when one is not, its exception is thrown.
  Pool(const PoolOptions& options, std::size_t image_values, const std::function<Call(std::size_t)>& make);
  Pool(const Pool&) = delete;
  Pool(Pool&&) = delete;
  Pool& operator=(const Pool&) = delete;
  Pool& operator=(Pool&&) = delete;
  // Every image that was handed over is answered first. No thread may be inside of submit.
  ~Pool();

  // Hands an image over, [image_values]; waits while the queue is full. From any thread. An exception of its call
  // reaches `done` of each image of the batch, and the instance goes on.
  void submit(Image image, Done done);

 private:
  struct Job {
    Image image;
    Done done;
  };

  void work(std::size_t instance, const std::function<Call(std::size_t)>& make);
  std::vector<Job> take();
  void answer(const Call& call, std::vector<Job>& jobs);
  void stop() noexcept;

  PoolOptions options_;
  std::size_t image_values_;
  std::mutex mutex_;
  std::condition_variable has_room_;
  std::condition_variable has_work_;
  std::condition_variable is_ready_;
  std::deque<Job> queue_;
  std::size_t ready_ = 0;  // instances that are made, or failed
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace deploybench
