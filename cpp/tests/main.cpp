// unit_tests [IDEA]: runs the tests of one idea, or all of them.
#include <exception>
#include <iostream>
#include <span>
#include <string_view>

#include "check.hpp"

int main(int argc, char** argv) {
  const std::span<const char* const> arguments(argv, static_cast<std::size_t>(argc));
  const std::string_view wanted = arguments.size() > 1 ? arguments[1] : "";
  int ran = 0;
  for (const auto& test : deploybench::check::tests) {
    if (!wanted.empty() && test.idea != wanted) continue;
    ++ran;
    try {
      test.body();
    } catch (const std::exception& problem) {
      ++deploybench::check::failures;
      std::cerr << test.idea << "." << test.name << " threw: " << problem.what() << "\n";
    }
  }
  std::cout << ran << " tests, " << deploybench::check::failures << " failures\n";
  // A name that matches nothing must not pass.
  return ran == 0 || deploybench::check::failures != 0 ? 1 : 0;
}

#ifdef __SANITIZE_THREAD__
// libstdc++ counts by atomic operations who holds an exception, and the last one deletes it; the sanitizer does not see
// those operations, in a library that was not compiled for it.
extern "C" [[gnu::visibility("default")]] const char*
__tsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "race:std::__exception_ptr::exception_ptr::_M_release\nrace:std::runtime_error::~runtime_error\n";
}
#endif
