// infer: classifies photos, folders of photos, or the images of a tensor file, and prints the likeliest classes of
// each. Twin of `deploybench infer`.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "deploybench/answers.hpp"
#include "deploybench/artifact.hpp"
#include "deploybench/classifier.hpp"
#include "deploybench/console.hpp"
#include "deploybench/error.hpp"
#include "deploybench/host.hpp"
#include "deploybench/options.hpp"
#include "deploybench/stream.hpp"
#include "deploybench/tensor_file.hpp"

namespace deploybench {
namespace {

std::atomic<bool> stop = false;
std::atomic<int> stop_signal = 0;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

// The first Ctrl-C or SIGTERM lets the images at hand finish, a second one ends the program at once.
void stop_softly() {
  struct sigaction action{};
  action.sa_handler = [](int number) {
    stop_signal = number;
    stop = true;
  };
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  for (const int number : {SIGINT, SIGTERM}) (void)sigaction(number, &action, nullptr);
}

bool is_tensor_file(const std::string& path) { return path.ends_with(".npy") || path.ends_with(".dat"); }

// From two photos for each CPU on, many small instances give more images a second than one that has all CPUs, and the
// first calls, in which TorchScript compiles, are worth their time. Not where weights are packed for more threads.
ClassifierOptions classifier_options(const InferOptions& options, const Metadata& metadata, std::size_t images) {
  const auto cpus = static_cast<std::size_t>(usable_cpus());
  const bool many = images >= 2 * cpus;
  ClassifierOptions chosen = options.classifier;
  const bool small = many && metadata.device != "cuda" && metadata.built_for_threads <= 1;
  if (chosen.instances == 0) chosen.instances = small ? cpus : 1;
  chosen.warm_up = many;
  return chosen;
}

// Photos and images that are begun before an earlier one is shown: twice what all instances take at once, or a batch
// would never be full.
std::size_t begun_ahead(const ClassifierOptions& options, const Metadata& metadata) {
  constexpr std::size_t least = 64;
  const std::size_t batch = std::max(options.batch_size, static_cast<std::size_t>(metadata.batches[0]));
  return std::max(least, 2 * options.instances * batch);
}

// As `stream` does photos: at most `ahead` images are submitted before an earlier one is shown, and none once `stop`.
void classify_tensor_file(Classifier& classifier, const std::string& file, const TensorFile& tensor, std::size_t ahead,
                          const std::function<void(const Answer&)>& show) {
  const auto images = std::span(tensor.values);
  const std::size_t one = images.size() / static_cast<std::size_t>(tensor.images);
  std::deque<std::future<Predictions>> answers;
  std::int64_t number = 0;
  const auto show_first = [&] {
    show({file, number++, answers.front().get(), {}});
    answers.pop_front();
  };
  for (std::size_t at = 0; at < images.size() && !stop; at += one) {
    if (answers.size() == ahead) show_first();
    const auto image = images.subspan(at, one);
    answers.push_back(classifier.submit({image.begin(), image.end()}));
  }
  while (!answers.empty()) show_first();
}

int run(const InferOptions& options) {
  std::vector<std::string> inputs = options.inputs;
  if (!options.list.empty()) std::ranges::move(listed_files(options.list), std::back_inserter(inputs));
  const auto tensor = std::ranges::find_if(inputs, is_tensor_file);
  const bool photos_only = tensor == inputs.end();
  if (!photos_only && inputs.size() > 1) {
    throw Error(Code::usage, *tensor, "goes alone", "give either one tensor file or photos, not both");
  }
  const std::vector<std::string> photos = photos_only ? photo_files(inputs) : std::vector<std::string>();
  set_allocator("huge");
  const Metadata metadata = read_metadata(options.artifact, options.classifier.sha256);
  TensorFile file;
  if (!photos_only) file = read_tensor_file(*tensor, metadata.image_shape());
  const std::size_t images = photos_only ? photos.size() : static_cast<std::size_t>(file.images);
  const ClassifierOptions chosen = classifier_options(options, metadata, images);
  keep_stdout_for_data();
  Classifier classifier(options.artifact, chosen);
  const ClassifierInfo& info = classifier.info();
  for (const std::string& warning : info.warnings) warn(warning);
  if (info.weights_origin == "random") notice("random weights: the labels mean nothing (see docs/troubleshooting.md)");

  std::size_t broken = 0;
  print(answers_begin(options.format));
  const auto show = [&](const Answer& answer) {
    if (answer.problem) {
      ++broken;
      report(*answer.problem);
    }
    print(answer_lines(answer, options.format, options.artifact, info, images > 1));
  };
  stop_softly();
  const std::size_t ahead = begun_ahead(chosen, metadata);
  if (photos_only) {
    const auto submit = [&](const std::string& photo) { return classifier.submit(classifier.prepare(photo)); };
    stream(photos, static_cast<std::size_t>(usable_cpus()), ahead, submit, show, stop);
  } else {
    classify_tensor_file(classifier, *tensor, file, ahead, show);
  }
  return broken == 0 ? 0 : 1;
}

}  // namespace
}  // namespace deploybench

int main(int argc, char** argv) {
  deploybench::InferOptions options;
  int status = 0;
  try {
    deploybench::ignore_closed_pipes();
    deploybench::parse_infer(std::span(argv, static_cast<std::size_t>(argc)).subspan(1), options);
    deploybench::set_quiet(options.quiet);
    if (options.help) {
      deploybench::print(deploybench::infer_help(deploybench::stdout_takes_colours()));
    } else {
      status = deploybench::run(options);
    }
  } catch (...) {
    status = deploybench::report_exception(options.format == deploybench::Format::json, options.artifact);
  }
  // As a signal that nobody handles, now that all is written.
  if (deploybench::stop_signal != 0) (void)std::raise(deploybench::stop_signal);
  return status;
}
