// Files as a whole: looked at before they are opened, written so that a reader sees all of one or nothing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "deploybench/error.hpp"

namespace deploybench {

// How to report a file that cannot be read: the codes for one that is missing and one that is no good, and what to
// type.
struct FileBlame {
  Code missing;
  Code invalid;
  std::string remedy;
};

// Size in bytes of a regular, non-empty file; throws Error.
std::uint64_t checked_size(const std::string& path, const FileBlame& blame);

// A file that is opened once, so that all who read it see the same bytes, also where another program puts a new file
// under its name meanwhile.
class OpenFile {
 public:
  OpenFile(const std::string& path, const FileBlame& blame);  // throws Error
  OpenFile(OpenFile&& other) noexcept;
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  OpenFile& operator=(OpenFile&&) = delete;
  ~OpenFile();

  // A path to this very file for those who take no descriptor; without /proc it is the path as given.
  [[nodiscard]] const std::string& readable() const noexcept { return readable_; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

 private:
  int descriptor_;
  std::string readable_;
};

// Up to `most` bytes from the start of the file; throws Error when it cannot be read.
std::string read_prefix(const std::string& path, std::uint64_t most, const FileBlame& blame);

// Throws Error(output_unwritable) when the folder of `path` is missing or read-only, or `path` is no file: asked before
// the work.
void check_writable(const std::string& path);

// Writes the pieces, in order, to a temporary file beside `path` and renames it. On failure nothing is left, what was
// at `path` before stays, and Error(output_unwritable) is thrown.
void write_atomically(const std::string& path, std::span<const std::string_view> pieces);

// Writes all of `text` to a descriptor; returns 0 or errno.
int write_all(int descriptor, std::string_view text) noexcept;

}  // namespace deploybench
