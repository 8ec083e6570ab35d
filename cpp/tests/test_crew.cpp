// Instances that call at the same time, with functions in the place of models. The thread sanitizer runs these too.
#include "deploybench/crew.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "check.hpp"
#include "deploybench/measurement.hpp"

namespace {

using deploybench::CallTime;
using deploybench::Crew;
using namespace std::chrono_literals;

// The first instance is the slowest by far: its fifth call ends when each of the others has begun its sixth, and so has
// its fifth counted.
TEST(crew, nobody_stops_before_the_slowest_has_made_its_calls) {
  std::array<std::atomic<int>, 3> begun{};
  Crew crew(begun.size(), [&](std::size_t instance) -> Crew::Call {
    return [&, instance] {
      const bool last = ++begun.at(instance) == 5 && instance == 0;
      while (last && (begun[1] < 6 || begun[2] < 6)) std::this_thread::yield();
      return CallTime{.seconds = static_cast<double>(instance), .device_seconds = {}};
    };
  });
  for (int i = 0; i < 3; ++i) {
    for (std::atomic<int>& count : begun) count = 0;
    const Crew::Turn turn = crew.turn(5);
    CHECK(turn.calls.size() == 3 && turn.calls[0].size() == 5 && turn.calls[1].size() >= 6 &&
          turn.calls[2].size() >= 6);
    CHECK(turn.seconds > 0);
    for (std::size_t instance = 0; instance < 3; ++instance) {
      for (const CallTime& time : turn.calls[instance]) CHECK(time.seconds == static_cast<double>(instance));
    }
  }
}

TEST(crew, all_call_at_the_same_time) {
  std::atomic<int> inside = 0;
  std::atomic<int> most = 0;
  Crew crew(3, [&](std::size_t) -> Crew::Call {
    return [&] {
      const int now = ++inside;
      for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
      }
      std::this_thread::sleep_for(2ms);
      --inside;
      return CallTime{};
    };
  });
  (void)crew.turn(20);
  CHECK(most == 3);
}

TEST(crew, one_that_cannot_be_made) {
  const auto make = [](std::size_t instance) -> Crew::Call {
    if (instance == 1) throw std::runtime_error("no memory for it");
    return [] { return CallTime{}; };
  };
  CHECK_THROWS(Crew(3, make), "no memory for it");
}

TEST(crew, a_call_that_throws_ends_the_turn) {
  std::atomic<int> calls = 0;
  Crew crew(2, [&calls](std::size_t instance) -> Crew::Call {
    return [&calls, instance] {
      if (instance == 1 && ++calls == 3) throw std::runtime_error("broke");
      std::this_thread::sleep_for(1ms);
      return CallTime{};
    };
  });
  CHECK_THROWS(crew.turn(1000), "broke");
  CHECK(crew.turn(2).calls[1].size() >= 2);
}

TEST(crew, its_turns_are_measured_together) {
  Crew crew(2, [](std::size_t) { return [] { return CallTime{}; }; });
  int waited = 0;
  std::vector<bool> timed;
  const auto result = deploybench::measure(
      crew, 0, {.runs = 6, .min_seconds = 0, .max_seconds = 60, .turn = 3},
      [&timed](bool now) { timed.push_back(now); }, [&waited] { ++waited; });
  CHECK(waited == 2 && result.turn_calls.size() == 2 && result.turn_seconds.size() == 2);
  CHECK((timed == std::vector<bool>{false, false, true, false, true}));  // nor is the first call of a turn
  CHECK(result.turn_calls[0] >= 6 && result.settle_seconds.size() == 2 && !result.turn_rates);
  CHECK(static_cast<std::int64_t>(result.run_seconds.size()) == result.turn_calls[0] + result.turn_calls[1]);
}

// 2 ms a call: without an end in time 4,000 of them take 8 s.
TEST(crew, its_time_is_limited) {
  Crew crew(2, [](std::size_t) {
    return [] {
      std::this_thread::sleep_for(2ms);
      return CallTime{};
    };
  });
  const auto calls = [&crew](double most) {
    return deploybench::measure(crew, 0, {.runs = 4000, .max_seconds = most}, [](bool) {}, [] {}).turn_calls;
  };
  // Three of each instance, however short; an instance goes on while the other is kept from its three, so once of ten.
  const auto within = [&calls](double seconds, std::int64_t most) {
    for (int attempt = 0; attempt < 10; ++attempt) {
      const auto turns = calls(seconds);
      CHECK(turns.size() == 1 && turns.at(0) >= 6 && turns.at(0) < 1000);
      if (turns.at(0) < most) return true;
    }
    return false;
  };
  CHECK(within(0.1, 200));
  CHECK(within(1e-6, 20));
}

}  // namespace
