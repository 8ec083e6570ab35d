// Text that others wrote: labels, file names, messages. Whether it is UTF-8, and how to show it all the same.
#pragma once

#include <string>
#include <string_view>

namespace deploybench {

// Whether the whole text is UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

// The text on one line of valid UTF-8: control characters become spaces, bytes that are not UTF-8 become U+FFFD.
std::string one_line(std::string_view text);

}  // namespace deploybench
