// Versions of torch: "2.13.0+cpu" is the public version 2.13.0 in its cpu build.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deploybench {

// "2.13.0+cpu" -> "2.13.0"
std::string_view public_version(std::string_view version);

// No warning when the public versions agree, else one that names both and the artifact's file. With `strict` that is
// not a warning but Error(artifact_version).
std::vector<std::string> version_warnings(const std::string& artifact, const std::string& made_with,
                                          const std::string& running, bool strict);

}  // namespace deploybench
