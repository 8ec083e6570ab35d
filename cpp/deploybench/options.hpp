// The command lines of the programs. `bench` takes the same flags as its twin, `python -m deploybench worker`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "deploybench/answers.hpp"
#include "deploybench/classifier.hpp"
#include "deploybench/knobs.hpp"
#include "deploybench/load.hpp"
#include "deploybench/timing.hpp"

namespace deploybench {

struct BenchOptions {
  std::string artifact;      // path as given
  std::string device;        // "cpu" or "cuda"; empty: the artifact's
  std::int64_t threads = 0;  // intra-op; 0 until parsed, then the usable CPUs unless given
  bool strict = false;       // refuse, not only warn, on another torch version than the artifact's
  bool json = false;
  bool quiet = false;
  bool help = false;
  std::string route;            // how to run it; empty: the first route for this kind of file
  std::string input;            // tensor file; empty: a seeded input
  std::int64_t batch_size = 0;  // images a call; 0: as many as the tensor file holds, but as the artifact takes
  std::int64_t interop_threads = 1;
  std::size_t instances = 1;        // that call at the same time, each with its own threads
  LoadLimits load;                  // with a rate or a bound: images arrive by themselves
  std::int64_t batch_delay_us = 0;  // so long an instance waits for more of them
  Knobs knobs;
  std::int64_t warmup = 10;  // calls at least; see timing.hpp for when warm-up ends
  TimingLimits limits;
  std::optional<std::uint64_t> seed;  // 0 unless given
  std::string output;                 // where the last output goes; empty: nowhere
};

struct InferOptions {
  std::string artifact;                          // path as given
  std::vector<std::string> inputs;               // photos and folders of photos, or one tensor file
  std::string list;                              // a file that names more of them
  ClassifierOptions classifier{.instances = 0};  // 0 instances until given: what suits the number of photos
  Format format = Format::text;
  bool quiet = false;
  bool help = false;
};

// Of the twin of `deploybench preprocess`.
struct PreprocessOptions {
  std::string artifact;             // path as given
  std::vector<std::string> photos;  // in the order of the batch
  std::string output;               // .npy or .dat
  bool json = false;
  bool quiet = false;
  bool help = false;
};

// All fill `options` from left to right, so that after a throw it holds what was read until then (the failure record
// names the artifact); the switch for JSON is read beforehand, wherever in the line it stands. All throw Error(usage).
// With --help nothing is required.
void parse_bench(std::span<const char* const> arguments, BenchOptions& options);
void parse_infer(std::span<const char* const> arguments, InferOptions& options);
void parse_preprocess(std::span<const char* const> arguments, PreprocessOptions& options);

std::string bench_help(bool bold);
std::string infer_help(bool bold);
std::string preprocess_help(bool bold);

}  // namespace deploybench
