// bench: runs one artifact many times and prints one record. Twin of `python -m deploybench worker`: same flags, same
// record.
#include <chrono>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deploybench/artifact.hpp"
#include "deploybench/console.hpp"
#include "deploybench/crc32.hpp"
#include "deploybench/file.hpp"
#include "deploybench/host.hpp"
#include "deploybench/measurement.hpp"
#include "deploybench/options.hpp"
#include "deploybench/record.hpp"
#include "deploybench/tensor_file.hpp"
#include "deploybench/version.hpp"

namespace deploybench {
namespace {

// The images of the file, over and over, until there are `batch` of them.
std::vector<float> repeated(const TensorFile& file, std::int64_t batch) {
  const std::size_t image = file.values.size() / static_cast<std::size_t>(file.images);
  std::vector<float> values;
  values.reserve(image * static_cast<std::size_t>(batch));
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto begin = file.values.begin() + static_cast<std::ptrdiff_t>(image) * (i % file.images);
    values.insert(values.end(), begin, begin + static_cast<std::ptrdiff_t>(image));
  }
  return values;
}

// The input as fed; settles record.batch_size, seed and input_crc32.
std::vector<float> make_input(const BenchOptions& options, const Metadata& metadata, Record& record) {
  std::vector<float> values;
  if (options.input.empty()) {
    record.batch_size = options.batch_size == 0 ? 1 : options.batch_size;
    record.seed = options.seed.value_or(0);
    values = seeded_input(*record.seed, record.batch_size, metadata);
  } else {
    TensorFile file = read_tensor_file(options.input, metadata.image_shape());
    record.batch_size = options.batch_size == 0 ? file.images : options.batch_size;
    values = record.batch_size == file.images ? std::move(file.values) : repeated(file, record.batch_size);
  }
  record.input_crc32 = crc32(std::as_bytes(std::span(values)));
  return values;
}

void run(const BenchOptions& options) {
  if (!options.output.empty()) check_writable(options.output);
  Record record;
  record.artifact = options.artifact;
  set_allocator(options.knobs.allocator);
  record.runtime = set_up_runtime(options.threads, options.interop_threads, options.knobs);
  const auto begin = std::chrono::steady_clock::now();
  Artifact artifact = Artifact::load(
      options.artifact,
      {.device = options.device, .route = options.route, .cuda_graph = options.knobs.cuda_graph == "on"});
  record.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  record.artifact_bytes = std::filesystem::file_size(options.artifact);
  record.metadata = artifact.metadata();
  record.route = artifact.route();
  record.warnings =
      version_warnings(options.artifact, record.metadata.torch_version, record.runtime.torch_version, options.strict);
  for (const std::string& warning : record.warnings) warn(warning);

  artifact.feed(make_input(options, record.metadata, record));
  bool answered = options.limits.turn == 0;  // who waits for turns measures the cold start from outside
  const auto call = [&] {
    const CallTime time = artifact.call();
    if (!answered) print("answered\n");
    answered = true;
    return time;
  };
  record.measurement = measure(call, [&] { return artifact.output(); }, options.warmup, options.limits, await_turn);
  record.peak_rss_bytes = peak_rss_bytes();
  if (!options.output.empty()) {
    write_npy(options.output, artifact.output(), {record.batch_size, record.metadata.classes});
  }
  print(options.json ? record_json(record) + "\n" : record_summary(record));
}

}  // namespace
}  // namespace deploybench

int main(int argc, char** argv) {
  deploybench::BenchOptions options;
  try {
    deploybench::ignore_closed_pipes();
    deploybench::parse_bench(std::span(argv, static_cast<std::size_t>(argc)).subspan(1), options);
    if (options.help) {
      deploybench::print(deploybench::bench_help());
    } else {
      if (options.knobs.bind == "on") deploybench::bind_threads(argv);
      deploybench::run(options);
    }
    return 0;
  } catch (...) {
    return deploybench::report_exception(options.json, options.artifact);
  }
}
