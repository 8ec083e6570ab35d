#include "deploybench/sha256.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cerrno>
#include <system_error>
#include <vector>

namespace deploybench {
namespace {

// FIPS 180-4, section 4.2.2: of the cube roots of the first 64 primes.
constexpr std::array<std::uint32_t, 64> constants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::array<std::uint32_t, 64> schedule(const std::byte* bytes) {
  std::array<std::uint32_t, 64> words{};
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t b = 0; b < 4; ++b) words[i] = words[i] << 8U | std::to_integer<std::uint32_t>(bytes[4 * i + b]);
  }
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t a = words[i - 15];
    const std::uint32_t b = words[i - 2];
    words[i] = words[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3U) + words[i - 7] +
               (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10U);
  }
  return words;
}

}  // namespace

void Sha256::block(const std::byte* bytes) {
  const std::array<std::uint32_t, 64> words = schedule(bytes);
  auto [a, b, c, d, e, f, g, h] = state_;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t first =
        h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + words[i];
    const std::uint32_t second =
        (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + first;
    d = c;
    c = b;
    b = a;
    a = first + second;
  }
  const std::array<std::uint32_t, 8> added = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < 8; ++i) state_[i] += added[i];
}

void Sha256::update(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t held = bytes_ % rest_.size();
    const std::size_t taken = std::min(bytes.size(), rest_.size() - held);
    if (taken == rest_.size()) {  // a whole block where it lies
      block(bytes.data());
    } else {
      std::ranges::copy(bytes.first(taken), rest_.begin() + static_cast<std::ptrdiff_t>(held));
      if (held + taken == rest_.size()) block(rest_.data());
    }
    bytes_ += taken;
    bytes = bytes.subspan(taken);
  }
}

std::string Sha256::digest() {
  const std::uint64_t bits = 8 * bytes_;
  std::vector<std::byte> padding = {std::byte{0x80}};
  while ((bytes_ + padding.size()) % rest_.size() != 56) padding.push_back(std::byte{0});
  for (unsigned byte = 8; byte-- > 0;) padding.push_back(static_cast<std::byte>(bits >> 8 * byte));
  update(padding);
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const std::uint32_t word : state_) {
    for (unsigned digit = 8; digit-- > 0;) text += digits[word >> 4 * digit & 0xFU];
  }
  return text;
}

void check_sha256(const OpenFile& file, const std::string& path, const std::string& expected) {
  std::string wanted = expected;
  std::ranges::transform(wanted, wanted.begin(), [](unsigned char letter) { return std::tolower(letter); });
  if (wanted.size() != 64 || wanted.find_first_not_of("0123456789abcdef") != std::string::npos) {
    throw Error(Code::usage, "--sha256", "'" + expected + "' is not 64 hexadecimal digits",
                "see `sha256sum " + path + "`");
  }
  Sha256 sha;
  std::vector<std::byte> buffer(1U << 20U);
  for (std::uint64_t at = 0;;) {
    const ssize_t count = pread(file.descriptor(), buffer.data(), buffer.size(), static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw Error(Code::artifact_invalid, path, "cannot be read: " + std::generic_category().message(errno),
                  "copy it anew");
    }
    if (count == 0) break;
    sha.update(std::span(buffer).first(static_cast<std::size_t>(count)));
    at += static_cast<std::uint64_t>(count);
  }
  const std::string found = sha.digest();
  if (found != wanted) {
    throw Error(Code::artifact_invalid, path, "its SHA-256 is " + found + ", not the one of --sha256",
                "do not use it; copy it anew from where you trust it");
  }
}

}  // namespace deploybench
