// SHA-256 against the examples of NIST, and a file against its pin.
#include "deploybench/sha256.hpp"

#include <algorithm>

#include "check.hpp"
#include "scratch_folder.hpp"

namespace {

using deploybench::check_sha256;
using deploybench::Code;
using deploybench::OpenFile;
using deploybench::Sha256;
using deploybench::check::ScratchFolder;

std::string digest(const std::string& text, std::size_t piece) {
  Sha256 sha;
  const auto bytes = std::as_bytes(std::span(text));
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    sha.update(bytes.subspan(at, std::min(piece, bytes.size() - at)));
  }
  return sha.digest();
}

// https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values, and of a million times "a".
TEST(sha256, the_published_examples) {
  CHECK(digest("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 100) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(digest(std::string(1'000'000, 'a'), 4096) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(sha256, the_pieces_do_not_matter) {
  const std::string text(1000, 'x');
  for (const std::size_t piece : {1U, 63U, 64U, 65U, 127U, 999U}) CHECK(digest(text, piece) == digest(text, 1000));
}

TEST(sha256, a_file_and_its_pin) {
  const ScratchFolder folder;
  const std::string path = folder.write("a.bin", "abc");
  const OpenFile file(path, {Code::artifact_missing, Code::artifact_invalid, "r"});
  check_sha256(file, path, "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_THROWS(check_sha256(file, path, std::string(64, '0')), "a.bin: its SHA-256 is ba7816bf");
  CHECK_THROWS(check_sha256(file, path, "ba78"), "is not 64 hexadecimal digits");
  CHECK_THROWS(check_sha256(file, path, std::string(64, 'g')), "is not 64 hexadecimal digits");
}

TEST(sha256, what_is_checked_is_what_is_read) {
  const ScratchFolder folder;
  const std::string path = folder.write("a.bin", "abc");
  const OpenFile file(path, {Code::artifact_missing, Code::artifact_invalid, "r"});
  std::filesystem::rename(folder.write("new", "an attacker's"), path);
  check_sha256(file, path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(deploybench::check::content_of(file.readable()) == "abc");
}

}  // namespace
