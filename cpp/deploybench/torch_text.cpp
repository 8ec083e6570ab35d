#include "deploybench/torch_text.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace deploybench {
namespace {

// The value of KEY in a list like " A=1, KEY=value, "; empty when it is not there.
std::string setting(const std::string& config, const std::string& key) {
  const std::size_t found = config.find(" " + key + "=");
  if (found == std::string::npos) return "";
  const std::size_t begin = found + key.size() + 2;
  return config.substr(begin, config.find(',', begin) - begin);
}

}  // namespace

std::string essence(const std::string& message) {
  constexpr std::string_view prefix = "\nRuntimeError: ";
  const std::size_t reason = message.rfind(prefix);
  const std::string line = reason == std::string::npos ? message : message.substr(reason + prefix.size());
  return line.substr(0, line.find('\n'));
}

bool is_memory_shortage(const std::string& message) {
  return message.find("can't allocate memory") != std::string::npos ||
         message.find("out of memory") != std::string::npos;
}

bool is_unpacking_problem(const std::string& message) {
  constexpr std::array<const char*, 3> signs = {"generating temporary directory", "write callback failed",
                                                "failed to map segment from shared object"};
  return std::ranges::any_of(signs, [&](const char* sign) { return message.find(sign) != std::string::npos; });
}

std::string version_from_config(const std::string& config) {
  std::string cuda = setting(config, "CUDA_VERSION");
  std::erase(cuda, '.');
  return setting(config, "TORCH_VERSION") + (cuda.empty() ? "+cpu" : "+cu" + cuda);
}

}  // namespace deploybench
