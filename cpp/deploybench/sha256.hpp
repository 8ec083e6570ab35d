// SHA-256, the checksum that pins an artifact. Our own, as it is 50 lines and a crypto library would be the largest
// part of a bundle but for LibTorch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "deploybench/file.hpp"

namespace deploybench {

// FIPS 180-4, section 6.2. Fed in pieces of any size.
class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  // 64 hexadecimal digits in lower case; the object is spent.
  std::string digest();

 private:
  void block(const std::byte* bytes);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> rest_{};
  std::uint64_t bytes_ = 0;
};

// Throws Error(artifact_invalid), naming `path`, where the file's SHA-256 is not `expected`, in either case of letters;
// Error(usage) where that is no SHA-256.
void check_sha256(const OpenFile& file, const std::string& path, const std::string& expected);

}  // namespace deploybench
