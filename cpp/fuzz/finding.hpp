// What the targets demand of the library, whatever bytes it gets: a value, or an Error that a user can read. All else,
// another exception too, ends the process, which is how a fuzzer sees a finding.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "deploybench/error.hpp"
#include "deploybench/utf8.hpp"

namespace deploybench::fuzz {

inline void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "finding: %s\n", what);
  std::abort();
}

// A path, a problem and a remedy, three bytes for each one that is not UTF-8.
inline constexpr std::size_t most_message_bytes = 20'000;

template <typename Work>
void value_or_error(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    const std::string_view text = error.what();
    demand(is_utf8(text) && text.find('\n') == std::string_view::npos, "an error is one line of UTF-8");
    demand(text.size() <= most_message_bytes, "an error is no longer than a screen, whatever is in the file");
  }
}

}  // namespace deploybench::fuzz
