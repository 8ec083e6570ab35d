#include "deploybench/version.hpp"

#include "deploybench/error.hpp"

namespace deploybench {

std::string_view public_version(std::string_view version) { return version.substr(0, version.find('+')); }

std::vector<std::string> version_warnings(const std::string& artifact, const std::string& made_with,
                                          const std::string& running, bool strict) {
  if (public_version(made_with) == public_version(running)) return {};
  const Error mismatch(Code::artifact_version, artifact,
                       "made with torch " + made_with + ", but LibTorch here is " + running,
                       "make it again with `deploybench generate`, or run `make libtorch` and `make build`");
  if (strict) throw mismatch;
  return {mismatch.what()};
}

}  // namespace deploybench
