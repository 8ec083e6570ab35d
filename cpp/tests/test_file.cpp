// Writing all or nothing.
#include "deploybench/file.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <string_view>

#include "check.hpp"
#include "scratch_folder.hpp"

namespace {

using deploybench::check_writable;
using deploybench::write_atomically;
using deploybench::check::content_of;
using deploybench::check::ScratchFolder;

constexpr std::array<std::string_view, 2> pieces = {"new ", "content"};

std::ptrdiff_t entries(const ScratchFolder& folder) {
  return std::distance(std::filesystem::directory_iterator(folder.path()), std::filesystem::directory_iterator{});
}

TEST(file, replaces_what_was_there) {
  const ScratchFolder folder;
  const std::string path = folder.write("a", "old");
  write_atomically(path, pieces);
  CHECK(content_of(path) == "new content" && entries(folder) == 1);
}

// A limit of 4 bytes a file is the full disk that a test can have: the write stops half-way.
TEST(file, a_failed_write_leaves_nothing) {
  const ScratchFolder folder;
  const std::string path = folder.write("a", "old");
  rlimit before{};
  (void)getrlimit(RLIMIT_FSIZE, &before);
  const rlimit four{.rlim_cur = 4, .rlim_max = before.rlim_max};
  (void)std::signal(SIGXFSZ, SIG_IGN);
  (void)setrlimit(RLIMIT_FSIZE, &four);
  CHECK_THROWS(write_atomically(path, pieces), "a: File too large; choose another --output");
  (void)setrlimit(RLIMIT_FSIZE, &before);
  CHECK(content_of(path) == "old" && entries(folder) == 1);
}

// A killed program leaves its temporary file, and in a container the next one has the same number.
TEST(file, what_a_killed_program_left_is_not_in_the_way) {
  const ScratchFolder folder;
  (void)folder.write("a." + std::to_string(getpid()) + ".tmp", "half");
  write_atomically(folder.file("a"), pieces);
  CHECK(content_of(folder.file("a")) == "new content" && entries(folder) == 2);
}

TEST(file, only_a_file_is_replaced) {
  const ScratchFolder folder;
  CHECK_THROWS(write_atomically(folder.path(), pieces), "not a file; choose another --output");
  CHECK_THROWS(check_writable("/dev/null"), "not a file");
}

TEST(file, a_folder_that_is_missing) {
  const ScratchFolder folder;
  CHECK_THROWS(write_atomically(folder.file("no/a"), pieces), "No such file or directory");
  CHECK_THROWS(check_writable(folder.file("no/a")), "No such file or directory");
  const std::string program = folder.write("program", "x");
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  CHECK_THROWS(check_writable(program + "/a"), "Not a directory");
  check_writable(folder.file("a"));
  check_writable("in-the-working-folder");
}

TEST(file, a_full_disk_is_an_error_number) {
  std::FILE* const full = std::fopen("/dev/full", "w");
  if (full == nullptr) return;  // a sandbox without it
  CHECK(deploybench::write_all(fileno(full), "text") == ENOSPC);
  (void)std::fclose(full);
}

}  // namespace
