// Label files of a user's own.
#include "deploybench/labels.hpp"

#include "check.hpp"
#include "scratch_folder.hpp"

namespace {

using deploybench::read_labels;
using deploybench::check::ScratchFolder;

TEST(labels, final_newline_and_windows_line_ends) {
  const ScratchFolder folder;
  const std::vector<std::string> expected = {"tench", "great white shark"};
  for (const char* const text :
       {"tench\ngreat white shark", "tench\ngreat white shark\n", "tench\r\ngreat white shark\r\n"}) {
    CHECK(read_labels(folder.write("l.txt", text), 2) == expected);
  }
}

TEST(labels, too_few_too_many_or_empty) {
  const ScratchFolder folder;
  CHECK_THROWS(read_labels(folder.write("l.txt", "a\nb\nc\n"), 2),
               "holds 3 labels, but the artifact has 2 classes; give --labels");
  CHECK_THROWS(read_labels(folder.write("l.txt", "a\n"), 2), "holds 1 labels");
  CHECK_THROWS(read_labels(folder.write("l.txt", "a\n\nb\n"), 2), "line 2 is empty");
  CHECK_THROWS(read_labels(folder.write("l.txt", "a\nb\n\n"), 2), "line 3 is empty");
  CHECK_THROWS(read_labels(folder.write("l.txt", "a\n" + std::string(1025, 'b')), 2), "line 2 is too long");
  CHECK(read_labels(folder.write("l.txt", "a\n" + std::string(1024, 'b')), 2)[1].size() == 1024);
  CHECK_THROWS(read_labels(folder.write("l.txt", ""), 2), "the file is empty");
  CHECK_THROWS(read_labels(folder.write("l.txt", "a\n\xff\xfe\n"), 2), "is not UTF-8 text");
  CHECK_THROWS(read_labels(folder.file("none.txt"), 2), "no such file");
  CHECK_THROWS(read_labels(folder.path(), 2), "not a file");
}

}  // namespace
