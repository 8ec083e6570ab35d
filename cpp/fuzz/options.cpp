// Fuzzes the command lines of the three programs: each line of the input is an argument.
#include "deploybench/options.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fuzz/finding.hpp"

namespace {

using deploybench::fuzz::demand;
using deploybench::fuzz::value_or_error;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

void check(const deploybench::BenchOptions& options) {
  demand(options.help || !options.artifact.empty(), "bench has an artifact");
  demand(options.threads >= 1 && options.threads <= 1024 && options.interop_threads >= 1, "bench's threads");
  demand(options.batch_size >= 0 && options.warmup >= 0 && options.limits.runs >= 1, "bench's counts");
  demand(std::isfinite(options.limits.min_seconds) && options.limits.min_seconds >= 0, "bench's least seconds");
  demand(std::isfinite(options.limits.max_seconds) && options.limits.max_seconds > 0, "bench's seconds");
  demand(options.load.rate >= 0 && options.load.rate <= 1e5 && options.load.seconds > 0 && options.load.seconds <= 600,
         "what arrives at bench");
}

void check(const deploybench::InferOptions& options) {
  const bool has_input = !options.inputs.empty() || !options.list.empty();
  demand(options.help || (!options.artifact.empty() && has_input), "infer has artifact and input");
  demand(options.classifier.batch_size >= 1 && options.classifier.instances <= 1024, "infer's counts");
}

void check(const deploybench::PreprocessOptions& options) {
  demand(options.help || (!options.artifact.empty() && !options.photos.empty()), "preprocess has artifact and photo");
}

template <typename Options, typename Parse>
void try_line(std::span<const char* const> arguments, const Parse& parse) {
  value_or_error([&] {
    Options options;
    parse(arguments, options);
    check(options);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::string> lines = lines_of({reinterpret_cast<const char*>(data), size});
  std::vector<const char*> arguments;
  arguments.reserve(lines.size());
  for (const std::string& line : lines) arguments.push_back(line.c_str());
  try_line<deploybench::BenchOptions>(arguments, deploybench::parse_bench);
  try_line<deploybench::InferOptions>(arguments, deploybench::parse_infer);
  try_line<deploybench::PreprocessOptions>(arguments, deploybench::parse_preprocess);
  return 0;
}
