#include "deploybench/crc32.hpp"

#include <array>

namespace deploybench {
namespace {

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t entry = i;
    for (int bit = 0; bit < 8; ++bit) entry = (entry & 1U) != 0 ? (entry >> 1U) ^ 0xEDB88320U : entry >> 1U;
    table[i] = entry;
  }
  return table;
}

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes) {
  static constexpr auto table = make_table();
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const std::byte byte : bytes) crc = table[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xFFU] ^ (crc >> 8U);
  return crc ^ 0xFFFFFFFFU;
}

}  // namespace deploybench
