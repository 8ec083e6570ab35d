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
#include "deploybench/pool.hpp"

namespace deploybench {
namespace {

constexpr std::int64_t most_calls = 1'000'000'000;
// Both together: a list of when images arrive must fit into memory.
constexpr std::int64_t most_rate = 100'000;  // images a second
constexpr std::int64_t most_load_seconds = 600;

Flag threads_flag(std::int64_t& threads, const char* preset) {
  return {"--threads", "N", "intra-op threads", preset, into_count(threads, 1, most_threads)};
}

Flag device_flag(std::string& device) {
  return {"--device", "cpu|cuda", "must be the artifact's own", "the artifact's", into_choice(device, {"cpu", "cuda"})};
}

Flag strict_flag(bool& strict) {
  return {"--strict", "", "refuse another torch version than the artifact's, not only warn", "", into_switch(strict)};
}

Flag quiet_flag(bool& quiet) { return {"--quiet", "", "no notices; errors and warnings stay", "", into_switch(quiet)}; }

Flag help_flag(bool& help) { return {"--help", "", "show this", "", into_switch(help)}; }

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

Group load_group(BenchOptions& o) {
  return {"images that arrive by themselves",
          {{"--rate", "R", "images a second, in the mean of a Poisson process; times are from arrival to answer",
            "none", into_number(o.load.rate, most_rate, "images a second")},
           {"--latency-bound", "S", "search the highest rate at which 99 of 100 answers take at most so long", "none",
            into_seconds(o.load.latency_bound, false)},
           {"--load-seconds", "S", "images arrive for so long in each turn", "2",
            into_number(o.load.seconds, most_load_seconds, "seconds")},
           {"--batch-delay", "US", "an instance waits so many microseconds until --batch-size images are there", "0",
            into_count(o.batch_delay_us, 0, most_delay_us)}}};
}

// One row a flag; docs/measuring.md gives the reasons behind the defaults.
CommandLine bench_line(BenchOptions& o) {
  Group what = {
      "what runs",
      {{"--artifact", "FILE", "file of `deploybench generate` (required)", "", into_text(o.artifact)},
       {"--route", "NAME", "how to run it: fused, ...", "the first for its kind", into_text(o.route)},
       {"--input", "FILE", "tensor file, .npy or .dat", "a seeded normal input", into_text(o.input)},
       {"--batch-size", "N", "images a call, taken cyclically", "the file's, or as few as can be",
        into_count(o.batch_size, 1, most_images)},
       {"--seed", "N", "seed of the input made without --input", "0", into_seed(o.seed)},
       {"--output", "FILE", "write the last timed output, float32 [N,classes] .npy", "", into_text(o.output)}}};
  Group where = {"where it runs",
                 {device_flag(o.device),
                  threads_flag(o.threads, "usable CPUs"),
                  {"--instances", "N", "make calls at the same time, over the same weights, each with its own threads",
                   "1", into_count(o.instances, 1, most_threads)},
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
          {std::move(what),
           std::move(where),
           knobs_group(o.knobs),
           std::move(how_long),
           load_group(o),
           {"general",
            {strict_flag(o.strict),
             {"--json", "", "print the record as one line of JSON", "", into_switch(o.json)},
             quiet_flag(o.quiet),
             help_flag(o.help)}}},
          "bench --artifact artifacts/resnet50.script-fp32-cpu.ts --runs 20"};
}

CommandLine infer_line(InferOptions& o) {
  ClassifierOptions& c = o.classifier;
  Group which = {
      "what is classified",
      {{"--list", "FILE", "a file that names photos, one a line, or - for standard input", "", into_text(o.list)}}};
  Group what = {
      "what is shown",
      {{"--top-k", "K", "classes an image", "5, or all where there are fewer",
        into_count(c.top_k, 1, std::numeric_limits<std::int32_t>::max())},
       {"--labels", "FILE", "one label a line, as many as there are classes", "the artifact's", into_text(c.labels)},
       {"--json", "", "print a line of JSON for each image", "", into_switch(o.format, Format::json)},
       {"--csv", "", "print CSV, a line for each class of each image", "", into_switch(o.format, Format::csv)}}};
  Group where = {"where it runs",
                 {device_flag(c.device),
                  {"--route", "NAME", "how to run it: fused, ...", "the first for its kind", into_text(c.route)},
                  {"--instances", "N", "images, or batches, that are classified at the same time",
                   "1, for many photos as many as usable CPUs", into_count(c.instances, 1, most_threads)},
                  threads_flag(c.threads, "usable CPUs, shared out among the instances"),
                  {"--batch-size", "N", "images that are classified together at most", "1",
                   into_count(c.batch_size, 1, most_images)}}};
  Group general = {"general",
                   {{"--sha256", "DIGITS", "of the artifact: refuse another file before anything of it is read", "",
                     into_text(c.sha256)},
                    strict_flag(c.strict),
                    quiet_flag(o.quiet),
                    help_flag(o.help)}};
  return {"infer",
          "Classifies photos, folders of photos, or the images of a tensor file, and prints the likeliest classes of "
          "each. A photo that cannot be read is an error of its own, and the rest goes on.",
          {{"ARTIFACT", "file of `deploybench generate`", into_text(o.artifact)},
           {"INPUT", "photos (JPEG, PNG) or folders of them, or one tensor file of `deploybench preprocess`",
            into_texts(o.inputs), /*several=*/true}},
          {std::move(which), std::move(what), std::move(where), std::move(general)},
          "infer artifacts/resnet50.script-fp32-cpu.ts data/images --top-k 1"};
}

CommandLine preprocess_line(PreprocessOptions& o) {
  return {
      "preprocess",
      "Writes photos as one tensor file, by the transform that the artifact carries. Twin of `deploybench preprocess`.",
      {{"ARTIFACT", "file of `deploybench generate`", into_text(o.artifact)},
       {"PHOTO", "JPEG or PNG; several make a batch", into_texts(o.photos), /*several=*/true}},
      {{"general",
        {{"--output", "FILE", "tensor file, .npy or headerless .dat (required)", "", into_text(o.output)},
         {"--json", "", "print what was written as a line of JSON", "", into_switch(o.json)},
         quiet_flag(o.quiet),
         help_flag(o.help)}}},
      "preprocess artifacts/resnet50.script-fp32-cpu.ts cat.jpg --output cat.npy"};
}

bool is_there(std::span<const char* const> arguments, std::string_view flag) {
  return std::ranges::find(arguments, flag) != arguments.end();
}

void check_together(const BenchOptions& o) {
  const bool load = o.load.rate > 0 || o.load.latency_bound > 0;
  if (o.load.rate > 0 && o.load.latency_bound > 0) {
    throw Error(Code::usage, "--latency-bound", "searches the rate, and --rate gives it", "give one of them");
  }
  if (o.knobs.cuda_graph == "on" && load) {
    throw Error(Code::usage, "--cuda-graph on", "is for calls of one size, and images that arrive come in many",
                "use --cuda-graph off");
  }
  if (o.instances == 1) return;
  if (o.knobs.cuda_graph == "on") {
    throw Error(Code::usage, "--cuda-graph on", "records the calls of one instance only",
                "give --instances 1 or --cuda-graph off");
  }
  if (o.knobs.bind == "on") {
    throw Error(Code::usage, "--bind on", "would keep all instances on the same cores",
                "give --instances 1 or --bind off");
  }
}

void require(bool help, const std::string& value, std::string_view name, std::string_view program) {
  if (value.empty() && !help) {
    throw Error(Code::usage, name, "is required", "see " + std::string(program) + " --help");
  }
}

}  // namespace

void parse_bench(std::span<const char* const> arguments, BenchOptions& options) {
  options.json = is_there(arguments, "--json");
  options.threads = usable_cpus();
  parse(bench_line(options), arguments);
  require(options.help, options.artifact, "--artifact", "bench");
  check_together(options);
}

void parse_infer(std::span<const char* const> arguments, InferOptions& options) {
  if (is_there(arguments, "--json")) options.format = Format::json;
  parse(infer_line(options), arguments);
  if (is_there(arguments, "--json") && is_there(arguments, "--csv")) {
    options.format = Format::json;  // of the failure, whichever came last
    throw Error(Code::usage, "--csv", "goes not with --json", "give one of them");
  }
  require(options.help, options.artifact, "ARTIFACT", "infer");
  require(options.help, options.inputs.empty() ? options.list : options.inputs.front(), "INPUT", "infer");
}

void parse_preprocess(std::span<const char* const> arguments, PreprocessOptions& options) {
  options.json = is_there(arguments, "--json");
  parse(preprocess_line(options), arguments);
  require(options.help, options.artifact, "ARTIFACT", "preprocess");
  require(options.help, options.photos.empty() ? "" : options.photos.front(), "PHOTO", "preprocess");
  require(options.help, options.output, "--output", "preprocess");
}

std::string bench_help(bool bold) {
  BenchOptions options;
  return help_text(bench_line(options), bold);
}

std::string infer_help(bool bold) {
  InferOptions options;
  return help_text(infer_line(options), bold);
}

std::string preprocess_help(bool bold) {
  PreprocessOptions options;
  return help_text(preprocess_line(options), bold);
}

}  // namespace deploybench
