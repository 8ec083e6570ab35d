#include "deploybench/stream.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <future>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "deploybench/file.hpp"

namespace deploybench {
namespace {

namespace fs = std::filesystem;

bool is_photo_name(const fs::path& path) {
  std::string suffix = path.extension().string();
  std::ranges::transform(suffix, suffix.begin(), [](unsigned char letter) { return std::tolower(letter); });
  constexpr std::array<std::string_view, 3> suffixes = {".jpg", ".jpeg", ".png"};
  return std::ranges::find(suffixes, suffix) != suffixes.end();
}

// A folder that cannot be read stands for its photos: who reads it as one says why, and the others go on.
void add_photos_in(const fs::path& folder, std::vector<std::string>& found) {
  std::error_code problem;
  for (fs::directory_iterator at(folder, problem); !problem && at != fs::directory_iterator(); at.increment(problem)) {
    std::error_code unknown;  // a link to nowhere is left out
    if (at->is_directory(unknown) && !at->is_symlink(unknown)) {
      add_photos_in(at->path(), found);
    } else if (is_photo_name(at->path()) && at->is_regular_file(unknown)) {
      found.push_back(at->path().string());
    }
  }
  if (problem) found.push_back(folder.string());
}

std::vector<std::string> photos_in(const std::string& folder) {
  std::vector<std::string> found;
  add_photos_in(folder, found);
  if (found.empty())
    throw Error(Code::input_missing, folder, "no photo in it", "give a folder with .jpg or .png files");
  std::ranges::sort(found);
  return found;
}

// A photo on its way: in a reader's hands, then with the classifier, or with its problem.
struct Slot {
  bool filled = false;
  std::future<Predictions> answer;  // not valid where it could not be read
  std::exception_ptr problem;
};

// The ring of photos between readers and the thread that shows them: photo i is in slot i modulo its size.
class Ring {
 public:
  Ring(std::size_t size, std::size_t photos) : slots_(size), end_(photos) {}

  // The next photo's number; none: there is none left.
  std::optional<std::size_t> begin_next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return begun_ >= end_ || begun_ < shown_ + slots_.size(); });
    if (begun_ >= end_) return std::nullopt;
    return begun_++;
  }

  void fill(std::size_t photo, Slot slot) {
    const std::scoped_lock lock(mutex_);
    slots_[photo % slots_.size()] = std::move(slot);
    changed_.notify_all();
  }

  // The slots in order; none: all that were begun are shown.
  std::optional<Slot> take() {
    std::unique_lock lock(mutex_);
    if (shown_ >= end_) return std::nullopt;
    Slot& slot = slots_[shown_ % slots_.size()];
    changed_.wait(lock, [&slot] { return slot.filled; });
    Slot taken = std::exchange(slot, Slot());
    ++shown_;
    changed_.notify_all();
    return taken;
  }

  // Nothing new is begun.
  void close() {
    const std::scoped_lock lock(mutex_);
    end_ = std::min(end_, begun_);
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  std::size_t end_;
  std::size_t begun_ = 0;
  std::size_t shown_ = 0;
};

void read_photos(std::span<const std::string> photos, const Submit& submit, Ring& ring) {
  while (const auto photo = ring.begin_next()) {
    Slot slot;
    slot.filled = true;
    try {
      slot.answer = submit(photos[*photo]);
    } catch (...) {
      slot.problem = std::current_exception();
    }
    ring.fill(*photo, std::move(slot));
  }
}

// The answer, or what is wrong with this photo; what is wrong with the model would be so with every other.
Answer answer_of(const std::string& photo, Slot slot) {
  Answer answer;
  answer.input = photo;
  try {
    if (slot.problem) std::rethrow_exception(slot.problem);
    answer.predictions = slot.answer.get();
  } catch (const Error& error) {
    const bool too_large = slot.problem && error.code() == Code::out_of_memory;  // before the model had it
    if (error.code() != Code::input_missing && error.code() != Code::input_invalid && !too_large) throw;
    answer.problem = error;
  }
  return answer;
}

}  // namespace

std::vector<std::string> photo_files(std::span<const std::string> inputs) {
  std::vector<std::string> photos;
  for (const std::string& input : inputs) {
    std::error_code unknown;  // what is not there is said when its turn comes
    if (fs::is_directory(input, unknown)) {
      std::ranges::move(photos_in(input), std::back_inserter(photos));
    } else {
      photos.push_back(input);
    }
  }
  return photos;
}

std::vector<std::string> listed_files(const std::string& list) {
  constexpr std::uint64_t most_bytes = 1U << 30U;
  const FileBlame blame{Code::input_missing, Code::input_invalid, "give --list a file with the path of a photo a line"};
  std::istringstream text;
  if (list != "-") {
    if (checked_size(list, blame) > most_bytes) throw Error(blame.invalid, list, "larger than 1 GiB", blame.remedy);
    text.str(read_prefix(list, most_bytes, blame));
  }
  std::istream& lines = list == "-" ? std::cin : text;
  std::vector<std::string> files;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty())
      throw Error(blame.invalid, list, "line " + std::to_string(files.size() + 1) + " is empty", blame.remedy);
    files.push_back(std::move(line));
  }
  if (files.empty()) throw Error(blame.invalid, list, "the file is empty", blame.remedy);
  return files;
}

void stream(std::span<const std::string> photos, std::size_t readers, std::size_t ahead, const Submit& submit,
            const std::function<void(const Answer&)>& show, const std::atomic<bool>& stop) {
  Ring ring(std::min(ahead, photos.size()), photos.size());
  std::vector<std::jthread> threads;  // joined when this ends, also by an exception
  const std::unique_ptr<Ring, void (*)(Ring*)> closer(&ring, [](Ring* open) { open->close(); });  // before that
  for (std::size_t i = 0; i < std::min(readers, photos.size()); ++i) {
    threads.emplace_back([photos, &submit, &ring] { read_photos(photos, submit, ring); });
  }
  for (std::size_t shown = 0;; ++shown) {
    if (stop) ring.close();
    std::optional<Slot> slot = ring.take();
    if (!slot) return;
    show(answer_of(photos[shown], std::move(*slot)));
  }
}

}  // namespace deploybench
