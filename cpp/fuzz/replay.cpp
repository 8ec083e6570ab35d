// replay CORPUS [SECONDS [SEED]]: gives a target every file of a folder, then random changes of them for some seconds.
// libFuzzer, which is guided by coverage and finds more, comes with clang only; this needs any compiler, so that the
// targets run under g++'s sanitizers, too, wherever the unit tests do. It is no fuzzer to find the last bug with.
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/scratch_folder.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
// Of the sanitizers' runtime; null without one.
// NOLINTNEXTLINE(bugprone-reserved-identifier)
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace {

constexpr std::size_t most_bytes = 8192;
std::string current;  // what the target has now

// A finding is kept, to become a test.
void keep_current() {
  if (std::FILE* const file = std::fopen("finding.bin", "wb")) {
    (void)std::fwrite(current.data(), 1, current.size(), file);
    (void)std::fclose(file);
    std::fputs("the input is in finding.bin\n", stderr);
  }
}

void run(std::string input) {
  current = std::move(input);
  // A copy of exactly this size, so that the address sanitizer sees the first byte behind it.
  const std::vector<std::uint8_t> bytes(current.begin(), current.end());
  (void)LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::vector<std::string> files_of(const char* folder) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) paths.push_back(entry.path());
  std::ranges::sort(paths);  // the same order, and so the same run, on every machine
  std::vector<std::string> contents;
  contents.reserve(paths.size());
  for (const std::string& path : paths) contents.push_back(deploybench::check::content_of(path));
  return contents;
}

class Mutator {
 public:
  Mutator(std::vector<std::string> seeds, std::uint64_t seed) : seeds_(std::move(seeds)), random_(seed) {}

  std::string next() {
    std::string text = any();
    for (std::size_t changes = below(4); changes > 0; --changes) change(text);
    text.resize(std::min(text.size(), most_bytes));
    return text;
  }

 private:
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % std::max<std::size_t>(1, limit)); }
  const std::string& any() { return seeds_[below(seeds_.size())]; }

  void change(std::string& text) {
    static constexpr std::array<std::uint8_t, 6> interesting = {0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF};
    const std::size_t at = below(text.size());
    switch (text.empty() ? 4 : below(6)) {
      case 0:
        text[at] = static_cast<char>(static_cast<unsigned char>(text[at]) ^ (1U << below(8)));
        break;
      case 1:
        text[at] = static_cast<char>(random_());
        break;
      case 2:
        text.replace(at, std::size_t{1} << below(3), std::size_t{1} << below(3), byte(interesting));
        break;
      case 3:
        text.erase(at, 1 + below(16));
        break;
      case 4:
        splice(text, at);
        break;
      default:
        text.resize(at);
    }
  }

  char byte(std::span<const std::uint8_t> choices) { return static_cast<char>(choices[below(choices.size())]); }

  // A piece of another seed, put in or written over.
  void splice(std::string& text, std::size_t at) {
    const std::string& other = any();
    const std::size_t from = below(other.size());
    text.replace(at, below(2) * below(64), other, from, 1 + below(64));
  }

  std::vector<std::string> seeds_;
  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv, static_cast<std::size_t>(argc));
  if (arguments.size() < 2) {
    std::fputs("usage: replay CORPUS [SECONDS [SEED]]\n", stderr);
    return 2;
  }
  const std::chrono::seconds seconds(arguments.size() > 2 ? std::strtoll(arguments[2], nullptr, 10) : 0);
  const std::uint64_t seed = arguments.size() > 3 ? std::strtoull(arguments[3], nullptr, 10) : 0;
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(keep_current);
  (void)std::signal(SIGABRT, [](int) { keep_current(); });  // of an exception, or of demand()
  const std::vector<std::string> seeds = files_of(arguments[1]);
  if (seeds.empty()) {
    std::fprintf(stderr, "%s: holds no file\n", arguments[1]);
    return 1;
  }
  for (const std::string& file : seeds) run(file);
  std::uint64_t runs = seeds.size();
  Mutator mutator(seeds, seed);
  for (const auto end = std::chrono::steady_clock::now() + seconds; std::chrono::steady_clock::now() < end; ++runs) {
    run(mutator.next());
  }
  std::printf("%llu runs, no finding\n", static_cast<unsigned long long>(runs));
  return 0;
}
