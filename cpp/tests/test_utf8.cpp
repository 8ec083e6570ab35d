// UTF-8 against the borders of RFC 3629.
#include "deploybench/utf8.hpp"

#include "check.hpp"

namespace {

using deploybench::is_utf8;
using deploybench::one_line;

TEST(utf8, the_first_and_last_character_of_each_length) {
  for (const char* const text : {"", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                                 "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "caf\xc3\xa9"}) {
    CHECK(is_utf8(text));
    CHECK(one_line(text) == (std::string(text) == "\x7f" ? " " : text));
  }
}

TEST(utf8, what_lies_just_outside) {
  for (const char* const text :
       {"\x80", "\xbf", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "ok\xff"}) {
    CHECK(!is_utf8(text));
    CHECK(is_utf8(one_line(text)));
  }
}

TEST(utf8, one_line_of_what_would_break_a_terminal) {
  CHECK(one_line("a\nb\tc\x1b[31m\xff.") == "a b c [31m\xef\xbf\xbd.");
  CHECK(one_line(std::string_view("a\0b", 3)) == "a b");
}

}  // namespace
