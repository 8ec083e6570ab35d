// What the programs hand to others: one line of JSON each. Field by field the record of data/record.schema.json.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "deploybench/error.hpp"
#include "deploybench/knobs.hpp"
#include "deploybench/measurement.hpp"
#include "deploybench/metadata.hpp"

namespace deploybench {

// What LibTorch says of itself once it is set up.
struct RuntimeInfo {
  std::string torch_version;   // with its build, e.g. "2.13.0+cpu"
  std::string cpu_capability;  // e.g. "AVX512"
  std::int64_t threads = 0;    // in effect, read back
  std::int64_t interop_threads = 0;
  Knobs knobs;
};

// One run of `bench`. Times in seconds, sizes in bytes, raw values only.
struct Record {
  std::string artifact;  // path as given
  std::uint64_t artifact_bytes = 0;
  Metadata metadata;
  std::string route;  // the way it was run
  std::int64_t batch_size = 0;
  std::uint32_t input_crc32 = 0;      // of the float32 bytes as fed
  std::optional<std::uint64_t> seed;  // none when the input came from a file
  std::size_t instances = 1;
  RuntimeInfo runtime;
  double load_seconds = 0.0;  // from the artifact's file to a module on the device, metadata included
  Measurement measurement;
  std::int64_t peak_rss_bytes = 0;
  std::vector<std::string> warnings;
};

// Each returns one line without its newline. Text that is not UTF-8 (a file name may be anything) gets U+FFFD in its
// place.
std::string record_json(const Record& record);
std::string failure_json(const Error& error, const std::string& artifact);

// The record for human eyes: a few lines, times in milliseconds.
std::string record_summary(const Record& record);

// "cpp/script/fp32"
std::string runner_name(const Record& record);

}  // namespace deploybench
