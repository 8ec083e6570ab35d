// The stream of photos, with functions in the place of the classifier. The thread sanitizer runs these too.
#include "deploybench/stream.hpp"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "check.hpp"
#include "deploybench/photo.hpp"
#include "scratch_folder.hpp"

namespace {

using deploybench::Answer;
using deploybench::Code;
using deploybench::Error;
using deploybench::listed_files;
using deploybench::photo_files;
using deploybench::Predictions;
using deploybench::stream;
using deploybench::check::ScratchFolder;
using namespace std::chrono_literals;

std::vector<std::string> numbers(int count) {
  std::vector<std::string> names;
  names.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

// Answers with the number that is the photo's name; the later the sooner, within ten.
std::future<Predictions> submit(const std::string& photo) {
  const int number = std::stoi(photo);
  if (number % 7 == 3) throw Error(Code::input_invalid, photo, "is damaged", "give another");
  return std::async(std::launch::async, [number] {
    std::this_thread::sleep_for(std::chrono::microseconds(100 * (10 - number % 10)));
    if (number % 7 == 5) throw Error(Code::input_missing, "x", "no such file", "give another");
    return Predictions{{number, 1.0, "a"}};
  });
}

TEST(stream, answers_come_in_order_and_problems_stay_with_their_photo) {
  for (const std::size_t readers : {1U, 3U, 200U}) {
    int shown = 0;
    const auto show = [&shown](const Answer& answer) {
      CHECK(answer.input == std::to_string(shown));
      const bool broken = shown % 7 == 3 || shown % 7 == 5;
      CHECK(answer.problem.has_value() == broken);
      if (!broken) CHECK(answer.predictions[0].index == shown);
      ++shown;
    };
    stream(numbers(150), readers, 64, submit, show, false);
    CHECK(shown == 150);
  }
}

TEST(stream, of_nothing) {
  stream({}, 2, 64, submit, [](const Answer&) { CHECK(false); }, false);
}

TEST(stream, stopped_it_shows_what_was_begun) {
  std::atomic<bool> stop = false;
  std::atomic<int> begun = 0;
  int shown = 0;
  stream(
      numbers(1000), 2, 64,
      [&begun](const std::string& photo) {
        ++begun;
        return submit(photo);
      },
      [&](const Answer&) {
        if (++shown == 5) stop = true;
      },
      stop);
  CHECK(shown >= 5 && shown < 200 && begun == shown);
}

TEST(stream, an_exception_of_show_ends_it) {
  int shown = 0;
  const auto full_disk = [&shown](const Answer&) {
    if (++shown == 3) throw std::runtime_error("No space left");
  };
  CHECK_THROWS(stream(numbers(1000), 2, 64, submit, full_disk, false), "No space left");
  CHECK(shown == 3);
}

TEST(stream, a_model_that_fails_ends_it) {
  const auto failing = [](const std::string& photo) {
    return photo == "4" ? std::async(std::launch::deferred,
                                     []() -> Predictions { throw Error(Code::runtime, "model", "failed", "again"); })
                        : std::async(std::launch::deferred, [] { return Predictions{{0, 1.0, "a"}}; });
  };
  int shown = 0;
  CHECK_THROWS(stream(numbers(1000), 2, 64, failing, [&shown](const Answer&) { ++shown; }, false), "model: failed");
  CHECK(shown == 4);
}

TEST(stream, photos_are_read_while_an_answer_is_awaited) {
  std::mutex mutex;
  std::set<std::string> seen;
  const auto counted = [&](const std::string& photo) {
    const std::scoped_lock lock(mutex);
    seen.insert(photo);
    return std::async(std::launch::async, [photo, &mutex, &seen] {
      for (int i = 0; photo == "0" && i < 500; ++i) {  // until others are here, 5 s at most
        std::this_thread::sleep_for(10ms);
        const std::scoped_lock inner(mutex);
        if (seen.size() >= 200) break;
      }
      return Predictions{{0, 1.0, "a"}};
    });
  };
  std::size_t at_first = 0;
  const auto show = [&](const Answer& answer) {
    const std::scoped_lock lock(mutex);
    if (answer.input == "0") at_first = seen.size();
  };
  stream(numbers(300), 2, 200, counted, show, false);
  CHECK(at_first >= 200);
}

TEST(stream, a_list_gives_its_lines) {
  const ScratchFolder folder;
  CHECK(listed_files(folder.write("whole", "a.jpg\nb c.png\n")) == std::vector<std::string>({"a.jpg", "b c.png"}));
  CHECK(listed_files(folder.write("cut", "a.jpg\n\xff.png")) == std::vector<std::string>({"a.jpg", "\xff.png"}));
  CHECK_THROWS(listed_files(folder.write("gap", "a.jpg\n\nb.jpg\n")), "gap: line 2 is empty");
  CHECK_THROWS(listed_files(folder.write("end", "a.jpg\n\n")), "end: line 2 is empty");
  CHECK_THROWS(listed_files(folder.write("line", "\n")), "line: line 1 is empty");
  CHECK_THROWS(listed_files(folder.write("empty", "")), "empty: the file is empty");
  CHECK_THROWS(listed_files(folder.file("none")), "none: no such file");
  CHECK_THROWS(listed_files(folder.path()), folder.path());
}

TEST(stream, a_folder_gives_its_photos_by_name) {
  const ScratchFolder folder;
  std::filesystem::create_directories(folder.file("in/deep"));
  for (const char* name : {"in/b.JPG", "in/a.png", "in/deep/c.jpeg", "in/note.txt", "in/d.jpg.part"}) {
    (void)folder.write(name, "x");
  }
  std::filesystem::create_symlink(folder.file("nowhere"), folder.file("in/gone.jpg"));
  const std::vector<std::string> given = {"first.webp", folder.file("in")};
  CHECK(photo_files(given) == std::vector<std::string>({"first.webp", folder.file("in/a.png"), folder.file("in/b.JPG"),
                                                        folder.file("in/deep/c.jpeg")}));
  std::filesystem::create_directory(folder.file("in/shut"));
  std::filesystem::permissions(folder.file("in/shut"), std::filesystem::perms::none);
  std::filesystem::permissions(folder.path(), std::filesystem::perms::all);
  const uid_t user = geteuid();
  if (user == 0) (void)seteuid(65534);  // to root no folder is shut
  const auto with_shut = photo_files(given);
  CHECK(with_shut.size() == 5 && with_shut.back() == folder.file("in/shut"));
  CHECK_THROWS(deploybench::read_photo(with_shut.back()), "in/shut: cannot be opened: Permission denied");
  if (user == 0) (void)seteuid(user);
  std::filesystem::create_directory(folder.file("empty"));
  const std::vector<std::string> empty = {folder.file("empty")};
  CHECK_THROWS(photo_files(empty), "empty: no photo in it");
}

}  // namespace
