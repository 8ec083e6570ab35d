#include "deploybench/file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <system_error>
#include <utility>

namespace deploybench {
namespace {

std::string reason(int number) { return std::generic_category().message(number); }

[[noreturn]] void throw_unwritable(const std::string& path, const std::string& problem) {
  throw Error(Code::output_unwritable, path, problem, "choose another --output");
}

}  // namespace

std::uint64_t checked_size(const std::string& path, const FileBlame& blame) {
  std::error_code problem;
  const auto status = std::filesystem::status(path, problem);
  if (status.type() == std::filesystem::file_type::not_found)
    throw Error(blame.missing, path, "no such file", blame.remedy);
  if (problem) throw Error(blame.invalid, path, problem.message(), blame.remedy);
  if (!std::filesystem::is_regular_file(status)) throw Error(blame.invalid, path, "not a file", blame.remedy);
  const std::uint64_t size = std::filesystem::file_size(path, problem);
  if (problem) throw Error(blame.invalid, path, problem.message(), blame.remedy);
  if (size == 0) throw Error(blame.invalid, path, "the file is empty", blame.remedy);
  return size;
}

OpenFile::OpenFile(const std::string& path, const FileBlame& blame)
    : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)), readable_("/proc/self/fd/" + std::to_string(descriptor_)) {
  if (descriptor_ < 0) {
    throw Error(errno == ENOENT ? blame.missing : blame.invalid, path, "cannot be opened: " + reason(errno),
                blame.remedy);
  }
  if (access(readable_.c_str(), R_OK) != 0) readable_ = path;
}

OpenFile::OpenFile(OpenFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), readable_(std::move(other.readable_)) {}

OpenFile::~OpenFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

std::string read_prefix(const std::string& path, std::uint64_t most, const FileBlame& blame) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw Error(blame.invalid, path, "cannot be opened: " + reason(errno), blame.remedy);
  std::string text(std::min(most, checked_size(path, blame)), '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!stream) throw Error(blame.invalid, path, "cannot be read to its end", blame.remedy);
  return text;
}

void check_writable(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const std::filesystem::path folder = parent.empty() ? "." : parent;
  if (access(folder.c_str(), W_OK | X_OK) != 0) throw_unwritable(path, reason(errno));
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) throw_unwritable(path, reason(ENOTDIR));
  // A device would be replaced by the rename, and root may do that even to /dev/null.
  const auto status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw_unwritable(path, "not a file");
}

void write_atomically(const std::string& path, std::span<const std::string_view> pieces) {
  check_writable(path);
  const std::string temporary = path + "." + std::to_string(std::random_device()()) + ".tmp";
  const int descriptor = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) throw_unwritable(path, reason(errno));
  int problem = 0;
  for (const std::string_view piece : pieces) {
    if (problem == 0) problem = write_all(descriptor, piece);
  }
  // Network file systems and quotas report a full disk only here.
  if (close(descriptor) != 0 && problem == 0) problem = errno;
  if (problem == 0 && std::rename(temporary.c_str(), path.c_str()) != 0) problem = errno;
  if (problem != 0) {
    unlink(temporary.c_str());
    throw_unwritable(path, reason(problem));
  }
}

int write_all(int descriptor, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace deploybench
