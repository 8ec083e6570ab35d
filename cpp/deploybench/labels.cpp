#include "deploybench/labels.hpp"

#include <sstream>
#include <utility>

#include "deploybench/file.hpp"
#include "deploybench/utf8.hpp"

namespace deploybench {

std::vector<std::string> read_labels(const std::string& path, std::int64_t classes) {
  constexpr std::uint64_t most_bytes = 16U << 20U;
  constexpr std::size_t most_label_bytes = 1024;  // as in an artifact
  const FileBlame blame{Code::labels_invalid, Code::labels_invalid,
                        "give --labels a text file with " + std::to_string(classes) + " lines, one label each"};
  if (checked_size(path, blame) > most_bytes) throw Error(blame.invalid, path, "larger than 16 MiB", blame.remedy);
  std::string text = read_prefix(path, most_bytes, blame);
  if (!is_utf8(text)) throw Error(blame.invalid, path, "is not UTF-8 text", blame.remedy);
  std::istringstream stream(std::move(text));
  std::vector<std::string> labels;
  for (std::string line; std::getline(stream, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.size() > most_label_bytes) {
      throw Error(blame.invalid, path,
                  "line " + std::to_string(labels.size() + 1) + (line.empty() ? " is empty" : " is too long"),
                  blame.remedy);
    }
    labels.push_back(std::move(line));
  }
  if (labels.size() != static_cast<std::size_t>(classes)) {
    throw Error(blame.invalid, path,
                "holds " + std::to_string(labels.size()) + " labels, but the artifact has " + std::to_string(classes) +
                    " classes",
                blame.remedy);
  }
  return labels;
}

}  // namespace deploybench
