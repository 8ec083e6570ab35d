#include "deploybench/options.hpp"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "deploybench/error.hpp"
#include "deploybench/flags.hpp"
#include "deploybench/host.hpp"
#include "deploybench/metadata.hpp"

namespace deploybench {
namespace {

// More threads than any machine has cores would only make OpenMP end the process when it cannot start them.
constexpr std::int64_t most_threads = 1024;
constexpr std::int64_t most_calls = 1'000'000'000;

Flag threads_flag(RuntimeOptions& options) {
  return {"--threads", "N", "intra-op threads", "usable CPUs", into_count(options.threads, 1, most_threads)};
}

Flag device_flag(RuntimeOptions& options) {
  return {"--device", "cpu|cuda", "must be the artifact's own", "the artifact's",
          into_choice(options.device, {"cpu", "cuda"})};
}

Group general_group(RuntimeOptions& options, std::string json_help) {
  return {"general",
          {{"--strict", "", "refuse another torch version than the artifact's, not only warn", "",
            into_switch(options.strict)},
           {"--json", "", std::move(json_help), "", into_switch(options.json)},
           {"--help", "", "show this", "", into_switch(options.help)}}};
}

Group knobs_group(Knobs& knobs) {
  const auto knob = [](const char* name, std::vector<std::string> values, const char* does, std::string& value) {
    std::string listed;
    for (const std::string& one : values) listed += (listed.empty() ? "" : "|") + one;
    return Flag{name, listed, does, value, into_choice(value, std::move(values))};
  };
  return {
      "how the runtime is set up",
      {knob("--allocator", {"huge", "keep", "system"}, "freed memory: kept in huge pages, kept, or the system's way",
            knobs.allocator),
       knob("--bind", {"off", "on"}, "each intra-op thread stays on a core of its own", knobs.bind),
       knob("--executor", {"profiling", "simple"},
            "TorchScript specialises in its first calls, or runs the graph as it is", knobs.executor),
       knob("--fusion-strategy", {"mixed", "static", "dynamic"},
            "TorchScript's fuser: mixed compiles for 2 shapes, then 10 times for any; or 20 times in one way",
            knobs.fusion_strategy),
       knob("--flush-denormal", {"off", "on"}, "numbers below 1e-38 become zero", knobs.flush_denormal),
       knob("--tf32", {"off", "on"}, "fp32 products on CUDA with 10 bits of mantissa", knobs.tf32),
       knob("--cudnn-benchmark", {"off", "on"}, "cuDNN tries its algorithms in the first call", knobs.cudnn_benchmark),
       knob("--cuda-graph", {"off", "on"}, "on CUDA the kernels of a call are recorded once and replayed",
            knobs.cuda_graph)}};
}

// One row a flag; docs/measuring.md gives the reasons behind the defaults.
CommandLine bench_line(BenchOptions& o) {
  Group what = {
      "what runs",
      {{"--artifact", "FILE", "file of `deploybench generate` (required)", "", into_text(o.artifact)},
       {"--route", "NAME", "how to run it: fused, ...", "the first for its kind", into_text(o.route)},
       {"--input", "FILE", "tensor file, .npy or .dat", "a seeded normal input", into_text(o.input)},
       {"--batch-size", "N", "images a call, taken cyclically", "the file's, or 1",
        into_count(o.batch_size, 1, most_images)},
       {"--seed", "N", "seed of the input made without --input", "0", into_seed(o.seed)},
       {"--output", "FILE", "write the last timed output, float32 [N,classes] .npy", "", into_text(o.output)}}};
  Group where = {"where it runs",
                 {device_flag(o),
                  threads_flag(o),
                  {"--interop-threads", "N", "inter-op threads", "1", into_count(o.interop_threads, 1, most_threads)}}};
  Group how_long = {
      "how long it runs",
      {{"--warmup", "N", "warm-up calls at least, three times as many at most", "10",
        into_count(o.warmup, 0, most_calls)},
       {"--runs", "N", "timed calls at least", "100", into_count(o.limits.runs, 1, most_calls)},
       {"--min-seconds", "S", "timed calls for at least so long in sum", "0", into_seconds(o.limits.min_seconds, true)},
       {"--max-seconds", "S", "stop after so long in sum, not before 3 calls", "60",
        into_seconds(o.limits.max_seconds, false)},
       {"--turn", "N", "pause after every N timed calls until standard input gives a line", "never",
        into_count(o.limits.turn, 0, most_calls)}}};
  return {"bench",
          "Runs an artifact many times and prints how long each call took. Twin of `python -m deploybench worker`.",
          {},
          {std::move(what), std::move(where), knobs_group(o.knobs), std::move(how_long),
           general_group(o, "print the record as one line of JSON")}};
}

CommandLine infer_line(InferOptions& o) {
  Group what = {
      "what is shown",
      {{"--top-k", "K", "classes an image", "5, or all where there are fewer",
        into_count(o.top_k, 1, std::numeric_limits<std::int32_t>::max())},
       {"--labels", "FILE", "one label a line, as many as there are classes", "the artifact's", into_text(o.labels)}}};
  return {"infer",
          "Classifies photos, or the images of a tensor file, and prints the likeliest classes of each.",
          {{"ARTIFACT", "file of `deploybench generate`", into_text(o.artifact)},
           {"INPUT", "photos (JPEG, PNG), or one tensor file of `deploybench preprocess`, .npy or .dat",
            into_texts(o.inputs), /*several=*/true}},
          {std::move(what),
           {"where it runs", {device_flag(o), threads_flag(o)}},
           general_group(o, "print one line of JSON")}};
}

CommandLine preprocess_line(PreprocessOptions& o) {
  return {
      "preprocess",
      "Writes photos as one tensor file, by the transform that the artifact carries. Twin of `deploybench preprocess`.",
      {{"ARTIFACT", "file of `deploybench generate`", into_text(o.artifact)},
       {"PHOTO", "JPEG or PNG; several make a batch", into_texts(o.photos), /*several=*/true}},
      {{"general",
        {{"--output", "FILE", "tensor file, .npy or headerless .dat (required)", "", into_text(o.output)},
         {"--help", "", "show this", "", into_switch(o.help)}}}}};
}

void prepare(std::span<const char* const> arguments, RuntimeOptions& options) {
  options.json = std::ranges::find(arguments, std::string_view("--json")) != arguments.end();
  options.threads = usable_cpus();
}

void require(bool help, const std::string& value, std::string_view name, std::string_view program) {
  if (value.empty() && !help) {
    throw Error(Code::usage, name, "is required", "see " + std::string(program) + " --help");
  }
}

}  // namespace

void parse_bench(std::span<const char* const> arguments, BenchOptions& options) {
  prepare(arguments, options);
  parse(bench_line(options), arguments);
  require(options.help, options.artifact, "--artifact", "bench");
}

void parse_infer(std::span<const char* const> arguments, InferOptions& options) {
  prepare(arguments, options);
  parse(infer_line(options), arguments);
  require(options.help, options.artifact, "ARTIFACT", "infer");
  require(options.help, options.inputs.empty() ? "" : options.inputs.front(), "INPUT", "infer");
}

void parse_preprocess(std::span<const char* const> arguments, PreprocessOptions& options) {
  parse(preprocess_line(options), arguments);
  require(options.help, options.artifact, "ARTIFACT", "preprocess");
  require(options.help, options.photos.empty() ? "" : options.photos.front(), "PHOTO", "preprocess");
  require(options.help, options.output, "--output", "preprocess");
}

std::string bench_help() {
  BenchOptions options;
  return help_text(bench_line(options));
}

std::string infer_help() {
  InferOptions options;
  return help_text(infer_line(options));
}

std::string preprocess_help() {
  PreprocessOptions options;
  return help_text(preprocess_line(options));
}

}  // namespace deploybench
