// Errors as the user meets them: one line that says which file or flag, what is wrong and what to type next.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "deploybench/export.hpp"

namespace deploybench {

// The same codes as on the Python side, save `unsupported`, which only `generate` gives; they go into the failure
// record.
enum class Code {
  usage,
  artifact_missing,
  artifact_invalid,
  artifact_device,
  artifact_version,
  input_missing,
  input_invalid,
  labels_invalid,
  device_unavailable,
  out_of_memory,
  output_unwritable,
  runtime,
};

// The name as it stands in a record, e.g. "artifact_missing".
DEPLOYBENCH_EXPORT std::string_view code_name(Code code);

// what() is "<subject>: <problem>; <remedy>", on one line and shortened: a file name or a library's message may hold
// anything.
class DEPLOYBENCH_EXPORT Error : public std::runtime_error {
 public:
  Error(Code code, std::string_view subject, std::string_view problem, std::string_view remedy);

  [[nodiscard]] Code code() const noexcept { return code_; }

 private:
  Code code_;
};

}  // namespace deploybench
