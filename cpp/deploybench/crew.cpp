#include "deploybench/crew.hpp"

#include <utility>

namespace deploybench {
namespace {

double since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Crew::Crew(std::size_t instances, const std::function<Call(std::size_t)>& make) : busy_(instances), times_(instances) {
  try {
    for (std::size_t i = 0; i < instances; ++i) threads_.emplace_back([this, i, make] { work(i, make); });
  } catch (...) {  // the system has no thread left
    stop();
    throw;
  }
  std::unique_lock lock(mutex_);
  wait_for_all(lock);
  if (!problem_) return;
  lock.unlock();
  stop();
  std::rethrow_exception(problem_);
}

Crew::~Crew() { stop(); }

void Crew::stop() noexcept {
  {
    const std::scoped_lock lock(mutex_);
    number_ = -1;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Crew::wait_for_all(std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [this] { return busy_ == 0; });
}

Crew::Turn Crew::turn(std::int64_t least, double seconds, std::int64_t fewest) {
  std::unique_lock lock(mutex_);
  least_ = least;
  fewest_ = fewest;
  seconds_ = seconds;
  busy_ = behind_ = threads_.size();
  for (std::vector<CallTime>& times : times_) times.clear();
  ++number_;
  begin_ = std::chrono::steady_clock::now();
  changed_.notify_all();
  wait_for_all(lock);
  const double took = since(begin_);
  if (problem_) std::rethrow_exception(std::exchange(problem_, nullptr));
  return {took, times_};
}

void Crew::work(std::size_t instance, const std::function<Call(std::size_t)>& make) {
  Call call;
  std::int64_t turn = 0;
  for (;;) {
    std::exception_ptr problem;
    try {
      if (turn == 0) {
        call = make(instance);
      } else {
        call_on(call, times_[instance]);
      }
    } catch (...) {
      problem = std::current_exception();
    }
    std::unique_lock lock(mutex_);
    if (problem) {
      if (!problem_) problem_ = problem;
      behind_ = 0;  // the others need not go on
    }
    if (--busy_ == 0) changed_.notify_all();
    changed_.wait(lock, [this, turn] { return number_ != turn; });
    if (number_ < 0) return;
    turn = number_;
  }
}

bool Crew::enough(std::int64_t calls) const {
  return calls >= least_ || (calls >= fewest_ && since(begin_) >= seconds_);
}

// Its own times are written without the lock: nobody reads them before busy_ is 0.
void Crew::call_on(const Call& call, std::vector<CallTime>& times) {
  for (bool counted = false;;) {
    times.push_back(call());
    const std::scoped_lock lock(mutex_);
    if (!counted && enough(static_cast<std::int64_t>(times.size()))) {
      counted = true;
      if (behind_ > 0) --behind_;
    }
    if (behind_ == 0) return;
  }
}

}  // namespace deploybench
