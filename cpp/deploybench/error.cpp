#include "deploybench/error.hpp"

#include <array>

#include "deploybench/utf8.hpp"

namespace deploybench {

std::string_view code_name(Code code) {
  // In the order of the enum.
  static constexpr std::array<std::string_view, 12> names = {
      "usage",           "artifact_missing",  "artifact_invalid",
      "artifact_device", "artifact_version",  "input_missing",
      "input_invalid",   "labels_invalid",    "device_unavailable",
      "out_of_memory",   "output_unwritable", "runtime"};
  return names.at(static_cast<std::size_t>(code));
}

int exit_status(Code code) { return code == Code::usage ? 2 : 1; }

Error::Error(Code code, std::string_view subject, std::string_view problem, std::string_view remedy)
    : std::runtime_error(one_line(std::string(subject) + ": " + std::string(problem) + "; " + std::string(remedy))),
      code_(code) {}

}  // namespace deploybench
