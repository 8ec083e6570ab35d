// CRC-32 against published check values.
#include <span>
#include <string_view>

#include "check.hpp"
#include "deploybench/crc32.hpp"

namespace {

std::uint32_t crc_of(std::string_view text) { return deploybench::crc32(std::as_bytes(std::span(text))); }

TEST(crc32, check_value_of_the_polynomial) { CHECK(crc_of("123456789") == 0xcbf43926U); }
TEST(crc32, of_nothing_is_zero) { CHECK(crc_of("") == 0U); }
TEST(crc32, of_one_letter) { CHECK(crc_of("a") == 0xe8b7be43U); }

}  // namespace
