#include "deploybench/pool.hpp"

#include <algorithm>
#include <utility>

namespace deploybench {

Pool::Pool(const PoolOptions& options, std::size_t image_values, const std::function<Call(std::size_t)>& make)
    : options_(options), image_values_(image_values) {
  if (options_.queue == 0) options_.queue = 2 * options_.instances * options_.most_batch;
  try {
    for (std::size_t i = 0; i < options_.instances; ++i) threads_.emplace_back([this, i, &make] { work(i, make); });
  } catch (...) {  // the system has no thread left: `make` must outlive those that began
    stop();
    throw;
  }
  std::unique_lock lock(mutex_);
  is_ready_.wait(lock, [this] { return ready_ == options_.instances; });
  if (!failure_) return;
  lock.unlock();
  stop();
  std::rethrow_exception(failure_);
}

Pool::~Pool() { stop(); }

void Pool::stop() noexcept {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  has_work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::submit(Image image, Done done) {
  {
    std::unique_lock lock(mutex_);
    has_room_.wait(lock, [this] { return queue_.size() < options_.queue; });
    queue_.push_back({std::move(image), std::move(done)});
  }
  has_work_.notify_one();
}

void Pool::work(std::size_t instance, const std::function<Call(std::size_t)>& make) {
  Call call;
  std::exception_ptr problem;
  try {
    call = make(instance);
  } catch (...) {
    problem = std::current_exception();
  }
  {
    // Told under the lock: the constructor may return, and the pool end, as soon as it is let go.
    const std::scoped_lock lock(mutex_);
    ++ready_;
    if (problem && !failure_) failure_ = problem;
    is_ready_.notify_all();
  }
  if (problem) return;
  for (std::vector<Job> jobs = take(); !jobs.empty(); jobs = take()) answer(call, jobs);
}

// What one call takes; empty: the pool ends.
std::vector<Pool::Job> Pool::take() {
  std::vector<Job> jobs;
  std::unique_lock lock(mutex_);
  const auto enough = [this] { return queue_.size() >= options_.most_batch || stopping_; };
  do {  // again when another instance took all of it during the delay
    has_work_.wait(lock, [this] { return !queue_.empty() || stopping_; });
    if (queue_.empty()) return jobs;
    if (options_.most_delay.count() > 0) has_work_.wait_for(lock, options_.most_delay, enough);
  } while (queue_.empty());
  const std::size_t count = std::min(queue_.size(), options_.most_batch);
  jobs.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    jobs.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  const bool more = !queue_.empty();
  lock.unlock();
  has_room_.notify_all();
  if (more) has_work_.notify_one();  // one call to notify_one may have been for the image that went with another
  return jobs;
}

void Pool::answer(const Call& call, std::vector<Job>& jobs) {
  std::vector<float> logits;
  std::exception_ptr problem;
  try {
    std::vector<float> joined;
    const std::size_t images = std::max(jobs.size(), options_.least_batch);
    if (images > 1) {
      joined.reserve(images * image_values_);
      for (std::size_t i = 0; i < images; ++i) {
        const std::vector<float>& image = *jobs[std::min(i, jobs.size() - 1)].image;
        joined.insert(joined.end(), image.begin(), image.end());
      }
    }
    logits = call(images > 1 ? std::span<const float>(joined) : std::span<const float>(*jobs[0].image));
    logits.resize(logits.size() / images * jobs.size());
  } catch (...) {
    problem = std::current_exception();
  }
  const std::size_t classes = logits.size() / jobs.size();
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].done(problem ? std::span<const float>() : std::span<const float>(logits).subspan(i * classes, classes),
                 problem);
  }
}

}  // namespace deploybench
