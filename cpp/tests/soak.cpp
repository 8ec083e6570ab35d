// soak ARTIFACT calls|instances TOTAL SETTLED: does the library keep its memory over a long time? Makes TOTAL calls of
// one Classifier, or TOTAL classifiers one after the other, and fails where resident memory grows by more than 2 %
// after the first SETTLED. Photos and batches are of many sizes, as pytorch issues 25646 and 29893 want it.
// docs/reliability.md has what was measured.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "deploybench/classifier.hpp"
#include "deploybench/preprocess.hpp"

namespace {

using deploybench::Classifier;

constexpr double most_growth = 0.02;
constexpr std::int64_t most_side = 160;  // pixels of a photo
constexpr std::int64_t most_images = 8;  // of a call

double rss_mebibytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kibibytes = 0;
    if (word == "VmRSS:" && status >> kibibytes) return kibibytes / 1024;
  }
  throw std::runtime_error("/proc/self/status has no VmRSS");
}

// Calls of random size, the same in each run.
// NOLINTNEXTLINE(bugprone-random-generator-seed)
class Caller {
 public:
  void call(Classifier& classifier) {
    const auto& shape = classifier.info().image_shape;
    const auto images = static_cast<std::size_t>(between(1, most_images));
    std::vector<float> batch;
    for (std::size_t i = 0; i < images; ++i) {
      const std::vector<float> image = deploybench::preprocess(photo(), "photo", transform(shape[1]));
      batch.insert(batch.end(), image.begin(), image.end());
    }
    const auto answers = classifier.classify(std::span<const float>(batch));
    if (answers.size() != images) throw std::runtime_error("not one answer for each image");
  }

 private:
  std::int64_t between(std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution(least, most)(random_);
  }

  deploybench::Photo photo() {
    deploybench::Photo made{between(1, most_side), between(1, most_side), {}};
    const auto values = static_cast<std::size_t>(3 * made.height * made.width);
    made.pixels.assign(values, static_cast<std::uint8_t>(between(0, 255)));
    return made;
  }

  deploybench::Preprocessing transform(std::int64_t side) {
    return {.resize = side, .crop = side, .bicubic = between(0, 1) == 1, .mean = {0.5, 0.5, 0.5}, .std = {1, 1, 1}};
  }

  std::mt19937_64 random_;
};

double median(std::span<const double> values) {
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  return sorted[sorted.size() / 2];
}

// Prints memory 40 times and says whether it grew too much: by the medians of the first and the last fifth of the
// readings from `settled` on, since what the threads of a classifier leave behind differs by 10 % from one to the next.
template <typename Step>
bool stays(std::int64_t total, std::int64_t settled, const Step& step) {
  const std::int64_t read = std::max<std::int64_t>(1, total / 1000);
  const std::int64_t print = std::max<std::int64_t>(1, total / 40);
  std::vector<double> readings;
  for (std::int64_t done = 1; done <= total; ++done) {
    step();
    if (done % read != 0 && done != total) continue;
    const double now = rss_mebibytes();
    if (done >= settled) readings.push_back(now);
    if (done % print != 0 && done != total) continue;
    std::printf("%lld %.1f MiB\n", static_cast<long long>(done), now);
    (void)std::fflush(stdout);
  }
  const std::span<const double> all(readings);
  const std::size_t window = std::max<std::size_t>(1, all.size() / 5);
  const double before = median(all.first(window));
  const double now = median(all.last(window));
  const double growth = now / before - 1;
  std::printf("%.1f MiB, then %.1f: growth %.2f %% after %lld, %.0f %% allowed\n", before, now, 100 * growth,
              static_cast<long long>(settled), 100 * most_growth);
  return growth <= most_growth;
}

bool soak(const std::string& artifact, std::string_view what, std::int64_t total, std::int64_t settled) {
  const deploybench::ClassifierOptions options{.instances = 2, .threads = 1, .batch_size = 4};
  Caller caller;
  if (what == "calls") {
    Classifier classifier(artifact, options);
    return stays(total, settled, [&] { caller.call(classifier); });
  }
  return stays(total, settled, [&] {
    Classifier classifier(artifact, options);
    for (int i = 0; i < 3; ++i) caller.call(classifier);
  });
}

std::int64_t count(std::string_view text) {
  std::int64_t value = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv, static_cast<std::size_t>(argc));
  const std::int64_t total = arguments.size() == 5 ? count(arguments[3]) : 0;
  const std::int64_t settled = total > 0 ? count(arguments[4]) : 0;
  const std::string_view what = total > 0 ? arguments[2] : "";
  if (settled < 1 || settled > total || (what != "calls" && what != "instances")) {
    std::fputs("usage: soak ARTIFACT calls|instances TOTAL SETTLED\n", stderr);
    return 2;
  }
  try {
    return soak(arguments[1], what, total, settled) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
