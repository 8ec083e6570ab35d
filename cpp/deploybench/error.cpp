#include "deploybench/error.hpp"

#include <array>

#include "deploybench/utf8.hpp"

namespace deploybench {
namespace {

// What a file, a library or a command line says may be of any length, and is meant to be read.
std::string shortened(std::string_view text, std::size_t most) {
  return text.size() <= most ? std::string(text) : std::string(text.substr(0, most)) + "...";
}

constexpr std::size_t most_subject = 4096;  // bytes, as of a path
constexpr std::size_t most_problem = 1024;

}  // namespace

std::string_view code_name(Code code) {
  // In the order of the enum.
  static constexpr std::array<std::string_view, 12> names = {
      "usage",           "artifact_missing",  "artifact_invalid",
      "artifact_device", "artifact_version",  "input_missing",
      "input_invalid",   "labels_invalid",    "device_unavailable",
      "out_of_memory",   "output_unwritable", "runtime"};
  return names.at(static_cast<std::size_t>(code));
}

Error::Error(Code code, std::string_view subject, std::string_view problem, std::string_view remedy)
    : std::runtime_error(one_line(shortened(subject, most_subject) + ": " + shortened(problem, most_problem) + "; " +
                                  shortened(remedy, 2 * most_problem))),
      code_(code) {}

}  // namespace deploybench
