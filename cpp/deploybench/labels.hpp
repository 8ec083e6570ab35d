// Class names from a file of the user's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deploybench {

// One label a line, exactly `classes` of them, none empty; a final newline and Windows line ends are fine.
// Throws Error(labels_invalid).
std::vector<std::string> read_labels(const std::string& path, std::int64_t classes);

}  // namespace deploybench
