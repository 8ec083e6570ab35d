// bench: runs one artifact many times and prints one record. Twin of `python -m deploybench worker`: same flags, same
// record.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <future>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deploybench/artifact.hpp"
#include "deploybench/console.hpp"
#include "deploybench/crc32.hpp"
#include "deploybench/crew.hpp"
#include "deploybench/file.hpp"
#include "deploybench/host.hpp"
#include "deploybench/load.hpp"
#include "deploybench/measurement.hpp"
#include "deploybench/options.hpp"
#include "deploybench/pool.hpp"
#include "deploybench/record.hpp"
#include "deploybench/routes.hpp"
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

// The input as fed; settles record.batch_size, seed and input_crc32. The size is checked before memory is asked for it.
std::vector<float> make_input(const BenchOptions& options, Record& record) {
  const Metadata& metadata = record.metadata;
  TensorFile file;
  if (!options.input.empty()) file = read_tensor_file(options.input, metadata.image_shape());
  record.batch_size = options.batch_size > 0 ? options.batch_size : std::max(file.images, metadata.batches[0]);
  check_batch(options.artifact, metadata, record.batch_size);
  std::vector<float> values;
  if (file.images == 0) {
    record.seed = options.seed.value_or(0);
    values = seeded_input(*record.seed, record.batch_size, metadata);
  } else {
    values = record.batch_size == file.images ? std::move(file.values) : repeated(file, record.batch_size);
  }
  record.input_crc32 = crc32(std::as_bytes(std::span(values)));
  return values;
}

// One instance on its own thread, and what it sees of its output.
struct Instance {
  Artifact artifact;
  OutputWatch watch;
};

// Instances that call at the same time, each on the same input.
void measure_crew(const BenchOptions& options, const Artifact& loaded, const std::vector<float>& input, Record& record,
                  std::vector<float>& output) {
  std::vector<std::unique_ptr<Instance>> instances(options.instances);
  std::atomic<bool> answered = options.limits.turn == 0;
  std::atomic<bool> timed = false;
  const auto make = [&](std::size_t i) -> Crew::Call {
    set_up_thread(options.threads, options.knobs);
    instances[i] = std::make_unique<Instance>(loaded.another(), OutputWatch());
    instances[i]->artifact.feed(input);
    return [&instance = *instances[i], &answered, &timed] {
      const CallTime time = instance.artifact.call();
      // TorchScript's first calls run other kernels than those that it compiles in them.
      if (timed) instance.watch.see(instance.artifact.output());
      if (!answered.exchange(true)) print("answered\n");
      return time;
    };
  };
  Crew crew(options.instances, make);
  record.measurement = measure(crew, options.warmup, options.limits, [&timed](bool now) { timed = now; }, await_turn);
  OutputWatch all;
  for (const auto& instance : instances) all.join(instance->watch);
  record.measurement.output_drift = all.drift();
  record.measurement.output_finite = all.finite();
  output.assign(instances[0]->artifact.output().begin(), instances[0]->artifact.output().end());
}

// What all instances see of their outputs, where images arrive by themselves.
struct Seen {
  std::size_t classes;
  std::mutex mutex;
  OutputWatch watch;
  std::atomic<bool> answered;
};

Pool::Call answering(const Artifact& loaded, const BenchOptions& options, Seen& seen) {
  set_up_thread(options.threads, options.knobs);
  return [instance = std::make_shared<Artifact>(loaded.another()), &seen](std::span<const float> images) {
    instance->feed(images);
    instance->call();
    const std::span<const float> logits = instance->output();
    {
      const std::scoped_lock lock(seen.mutex);
      for (std::size_t at = 0; at < logits.size(); at += seen.classes) {
        seen.watch.see(logits.subspan(at, seen.classes));
      }
    }
    if (!seen.answered.exchange(true)) print("answered\n");
    return std::vector<float>(logits.begin(), logits.end());
  };
}

// Images that arrive by themselves: the first of the input, each on its own.
void measure_arrivals(const BenchOptions& options, const Artifact& loaded, const std::vector<float>& input,
                      Record& record, std::vector<float>& output) {
  const auto [channels, height, width] = record.metadata.image_shape();
  const auto values = static_cast<std::size_t>(channels * height * width);
  const auto image =
      std::make_shared<const std::vector<float>>(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(values));
  const PoolOptions pooled{.instances = options.instances,
                           .queue = std::size_t{1} << 24U,  // of pointers to one image
                           .least_batch = static_cast<std::size_t>(record.metadata.batches[0]),
                           .most_batch = static_cast<std::size_t>(record.batch_size),
                           .most_delay = std::chrono::microseconds(options.batch_delay_us)};
  Seen seen{static_cast<std::size_t>(record.metadata.classes), {}, {}, options.limits.turn == 0};
  Pool pool(pooled, values, [&](std::size_t) { return answering(loaded, options, seen); });
  Measurement& measured = record.measurement;
  const std::int64_t warmup = 3 * std::max<std::int64_t>(1, options.warmup);
  const Burst warm = burst(pool, image, std::vector<double>(static_cast<std::size_t>(warmup) * options.instances));
  measured.warmup_seconds = {warm.latencies.front()};
  seen.watch = OutputWatch();  // of what counts
  if (options.limits.turn > 0) await_turn();
  LoadLimits load = options.load;
  load.seed = options.seed.value_or(0);
  measure_load(pool, image, load, measured);
  measured.output_drift = seen.watch.drift();
  measured.output_finite = seen.watch.finite();
  const auto last = std::make_shared<std::promise<std::vector<float>>>();
  std::future<std::vector<float>> answer = last->get_future();
  pool.submit(image, [last](std::span<const float> logits, const std::exception_ptr& problem) {
    problem ? last->set_exception(problem) : last->set_value({logits.begin(), logits.end()});
  });
  output = answer.get();
}

void measure_alone(const BenchOptions& options, Artifact& artifact, const std::vector<float>& input, Record& record,
                   std::vector<float>& output) {
  artifact.feed(input);
  bool answered = options.limits.turn == 0;  // who waits for turns measures the cold start from outside
  const auto call = [&] {
    const CallTime time = artifact.call();
    if (!answered) print("answered\n");
    answered = true;
    return time;
  };
  record.measurement = measure(call, [&] { return artifact.output(); }, options.warmup, options.limits, await_turn);
  output.assign(artifact.output().begin(), artifact.output().end());
}

void run(const BenchOptions& options) {
  if (!options.output.empty()) check_writable(options.output);
  Record record;
  record.artifact = options.artifact;
  record.instances = options.instances;
  set_allocator(options.knobs.allocator);
  keep_stdout_for_data();
  record.runtime = set_up_runtime(options.threads, options.interop_threads, options.knobs);
  const auto begin = std::chrono::steady_clock::now();
  Artifact artifact = Artifact::load(options.artifact, {.device = options.device,
                                                        .route = options.route,
                                                        .cuda_graph = options.knobs.cuda_graph == "on",
                                                        .instances = options.instances});
  record.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  record.artifact_bytes = std::filesystem::file_size(options.artifact);
  record.metadata = artifact.metadata();
  record.route = artifact.route();
  record.warnings =
      version_warnings(options.artifact, record.metadata.torch_version, record.runtime.torch_version, options.strict);
  std::ranges::copy(packing_warnings(options.artifact, record.metadata, record.runtime.threads),
                    std::back_inserter(record.warnings));
  for (const std::string& warning : record.warnings) warn(warning);

  const std::vector<float> input = make_input(options, record);
  std::vector<float> output;
  if (options.load.rate > 0 || options.load.latency_bound > 0) {
    measure_arrivals(options, artifact, input, record, output);
  } else if (options.instances > 1) {
    measure_crew(options, artifact, input, record, output);
  } else {
    measure_alone(options, artifact, input, record, output);
  }
  record.peak_rss_bytes = peak_rss_bytes();
  if (!options.output.empty()) {
    const auto rows = static_cast<std::int64_t>(output.size()) / record.metadata.classes;
    write_npy(options.output, output, {rows, record.metadata.classes});
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
    deploybench::set_quiet(options.quiet);
    if (options.help) {
      deploybench::print(deploybench::bench_help(deploybench::stdout_takes_colours()));
    } else {
      if (options.knobs.bind == "on") deploybench::bind_threads(argv);
      deploybench::run(options);
    }
    return 0;
  } catch (...) {
    return deploybench::report_exception(options.json, options.artifact);
  }
}
