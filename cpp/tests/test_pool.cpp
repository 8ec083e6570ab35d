// The pool of instances with functions in the place of models. The thread sanitizer runs these too.
#include "deploybench/pool.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "check.hpp"

namespace {

using deploybench::Pool;
using namespace std::chrono_literals;

// The answer to an image of two numbers is their sum and the batch it went with.
std::vector<float> sums(std::span<const float> images) {
  std::vector<float> answers;
  for (std::size_t at = 0; at < images.size(); at += 2) {
    answers.push_back(images[at] + images[at + 1]);
    answers.push_back(static_cast<float>(images.size()) / 2);
  }
  return answers;
}

Pool::Call adding(std::size_t /*instance*/) { return sums; }

std::future<std::vector<float>> submit(Pool& pool, std::vector<float> image) {
  const auto promise = std::make_shared<std::promise<std::vector<float>>>();
  auto answer = promise->get_future();
  pool.submit(std::make_shared<const std::vector<float>>(std::move(image)),
              [promise](std::span<const float> logits, const std::exception_ptr& problem) {
                if (problem) {
                  promise->set_exception(problem);
                } else {
                  promise->set_value({logits.begin(), logits.end()});
                }
              });
  return answer;
}

// Holds every call until it is opened.
class Gate {
 public:
  void pass() const { opened_.wait(); }
  void open() { promise_.set_value(); }

 private:
  std::promise<void> promise_;
  std::shared_future<void> opened_ = promise_.get_future().share();
};

TEST(pool, each_image_gets_its_own_answer) {
  Pool pool({.instances = 3, .most_batch = 4}, 2, adding);
  std::vector<std::future<std::vector<float>>> answers;
  answers.reserve(500);
  for (int i = 0; i < 500; ++i) answers.push_back(submit(pool, {static_cast<float>(i), 0.5F}));
  for (int i = 0; i < 500; ++i) CHECK(answers[static_cast<std::size_t>(i)].get()[0] == static_cast<float>(i) + 0.5F);
}

TEST(pool, from_many_threads) {
  Pool pool({.instances = 2, .queue = 3, .most_batch = 2, .most_delay = 50us}, 2, adding);
  std::atomic<int> right = 0;
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&pool, &right, t] {
        for (int i = 0; i < 100; ++i) {
          const auto value = static_cast<float>(1000 * t + i);
          if (submit(pool, {value, 1}).get()[0] == value + 1) ++right;
        }
      });
    }
  }
  CHECK(right == 400);
}

TEST(pool, waiting_images_go_together) {
  Gate gate;
  Pool pool({.instances = 1, .queue = 8, .most_batch = 3}, 2, [&gate](std::size_t) -> Pool::Call {
    return [&gate](std::span<const float> images) {
      gate.pass();
      return sums(images);
    };
  });
  std::vector<std::future<std::vector<float>>> answers;
  answers.reserve(8);
  for (int i = 0; i < 8; ++i) answers.push_back(submit(pool, {0, 0}));
  gate.open();
  // The first one or more are taken before the others come; those that waited go by threes.
  std::vector<float> sizes;
  sizes.reserve(8);
  for (auto& answer : answers) sizes.push_back(answer.get()[1]);
  CHECK(std::ranges::count(sizes, 3.0F) >= 3 && std::ranges::max(sizes) == 3.0F);
}

TEST(pool, a_delay_waits_for_company) {
  Pool pool({.instances = 1, .queue = 4, .most_batch = 2, .most_delay = 10s}, 2, adding);
  auto first = submit(pool, {1, 0});
  auto second = submit(pool, {2, 0});
  CHECK(first.get()[1] == 2.0F && second.get()[1] == 2.0F);
}

TEST(pool, a_short_delay_ends) {
  Pool pool({.instances = 1, .queue = 4, .most_batch = 2, .most_delay = 1ms}, 2, adding);
  CHECK(submit(pool, {1, 0}).get()[1] == 1.0F);
}

TEST(pool, a_batch_too_small_is_filled_up) {
  Pool pool({.instances = 1, .least_batch = 4, .most_batch = 4}, 2, adding);
  const std::vector<float> answer = submit(pool, {1, 2}).get();
  CHECK(answer == std::vector<float>({3, 4}));
}

TEST(pool, an_exception_reaches_its_image_and_the_instance_goes_on) {
  Pool pool({.instances = 2}, 2, [](std::size_t) -> Pool::Call {
    return [](std::span<const float> images) {
      if (images[0] < 0) throw std::runtime_error("negative");
      return sums(images);
    };
  });
  for (int i = 0; i < 50; ++i) {
    auto bad = submit(pool, {-1, 0});
    auto good = submit(pool, {2, 3});
    CHECK_THROWS(bad.get(), "negative");
    CHECK(good.get()[0] == 5.0F);
  }
}

TEST(pool, an_instance_that_cannot_be_made) {
  for (const std::size_t failing : {0U, 1U, 2U}) {
    const auto make = [failing](std::size_t instance) -> Pool::Call {
      if (instance == failing) throw std::runtime_error("no memory for it");
      return sums;
    };
    CHECK_THROWS(Pool({.instances = 3}, 2, make), "no memory for it");
  }
}

TEST(pool, the_end_answers_what_was_handed_over) {
  std::atomic<int> answered = 0;
  {
    Pool pool({.instances = 2, .queue = 200, .most_batch = 4, .most_delay = 10s}, 2, adding);
    const auto image = std::make_shared<const std::vector<float>>(2);
    for (int i = 0; i < 99; ++i) pool.submit(image, [&answered](auto, const auto&) { ++answered; });
  }
  CHECK(answered == 99);
}

TEST(pool, a_full_queue_waits) {
  Gate gate;
  std::atomic<int> answered = 0;
  {
    Pool pool({.instances = 1, .queue = 2}, 2, [&gate](std::size_t) -> Pool::Call {
      return [&gate](std::span<const float> images) {
        gate.pass();
        return sums(images);
      };
    });
    const auto image = std::make_shared<const std::vector<float>>(2);
    const Pool::Done done = [&answered](auto, const auto&) { ++answered; };
    std::atomic<int> taken = 0;
    const std::jthread submitting([&] {
      for (; taken < 4; ++taken) pool.submit(image, done);
    });
    // One is with the instance as soon as its thread has taken it, two wait, and the fourth is kept waiting.
    const auto deadline = std::chrono::steady_clock::now() + 60s;
    while (taken < 3 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(200ms);
    CHECK(taken == 3);
    gate.open();
  }
  CHECK(answered == 4);
}

TEST(pool, each_instance_is_made_on_the_thread_that_calls_it) {
  std::atomic<int> elsewhere = 0;
  Pool pool({.instances = 3}, 2, [&elsewhere](std::size_t) -> Pool::Call {
    return [&elsewhere, mine = std::this_thread::get_id()](std::span<const float> images) {
      if (std::this_thread::get_id() != mine) ++elsewhere;
      return sums(images);
    };
  });
  for (int i = 0; i < 30; ++i) (void)submit(pool, {0, 0}).get();
  CHECK(elsewhere == 0);
}

}  // namespace
