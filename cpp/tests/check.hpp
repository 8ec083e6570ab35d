// The whole test framework: PyPI carries none, and 40 lines are all that is used of the big ones.
#pragma once

#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace deploybench::check {

struct Test {
  std::string idea;  // the name ctest asks for, e.g. "timing"
  std::string name;
  void (*body)();
};

inline std::vector<Test> tests;  // filled before main by TEST
inline int failures = 0;

// Where memory is short before main there is nobody to tell.
inline bool add(const char* idea, const char* name, void (*body)()) noexcept {
  tests.push_back({idea, name, body});
  return true;
}

inline void that(bool holds, const char* expression, const char* file, int line) {
  if (holds) return;
  ++failures;
  std::cerr << file << ":" << line << ": " << expression << "\n";
}

// Whether `work` throws an exception whose text holds `fragment`; says what it did instead.
template <typename Work>
bool throws(const Work& work, const std::string& fragment) {
  try {
    work();
  } catch (const std::exception& problem) {
    if (std::string(problem.what()).find(fragment) != std::string::npos) return true;
    std::cerr << "threw: " << problem.what() << "\n";
    return false;
  }
  std::cerr << "did not throw\n";
  return false;
}

}  // namespace deploybench::check

#define TEST(idea, name)                                                                                           \
  static void idea##_##name();                                                                                     \
  [[maybe_unused]] static const bool idea##_##name##_added = deploybench::check::add(#idea, #name, idea##_##name); \
  static void idea##_##name()
#define CHECK(expression) deploybench::check::that(static_cast<bool>(expression), #expression, __FILE__, __LINE__)
#define CHECK_THROWS(expression, fragment) CHECK(deploybench::check::throws([&] { (void)(expression); }, fragment))
