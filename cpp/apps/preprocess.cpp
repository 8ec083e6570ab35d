// preprocess: photos to one tensor file, without Python. Twin of `deploybench preprocess`.
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "deploybench/artifact.hpp"
#include "deploybench/console.hpp"
#include "deploybench/file.hpp"
#include "deploybench/options.hpp"
#include "deploybench/preprocess.hpp"
#include "deploybench/tensor_file.hpp"

namespace deploybench {
namespace {

void run(const PreprocessOptions& options) {
  check_tensor_name(options.output);
  check_writable(options.output);
  const Metadata metadata = read_metadata(options.artifact);
  const std::vector<float> values = preprocess(options.photos, metadata, options.artifact);
  const auto count = static_cast<std::int64_t>(options.photos.size());
  const auto [channels, height, width] = metadata.image_shape();
  write_tensor_file(options.output, values, {count, channels, height, width});
  if (options.json) return print(written_json(metadata.model, options.output, {count, channels, height, width}));
  print(options.output + ": float32 [" + std::to_string(count) + ", " + std::to_string(channels) + ", " +
        std::to_string(height) + ", " + std::to_string(width) + "], " +
        std::to_string(std::filesystem::file_size(options.output)) + " bytes\n");
}

}  // namespace
}  // namespace deploybench

int main(int argc, char** argv) {
  deploybench::PreprocessOptions options;
  try {
    deploybench::ignore_closed_pipes();
    deploybench::parse_preprocess(std::span(argv, static_cast<std::size_t>(argc)).subspan(1), options);
    deploybench::set_quiet(options.quiet);
    if (options.help) {
      deploybench::print(deploybench::preprocess_help(deploybench::stdout_takes_colours()));
    } else {
      deploybench::run(options);
    }
    return 0;
  } catch (...) {
    return deploybench::report_exception(options.json, options.artifact);
  }
}
