// infer: classifies photos, or the images of a tensor file, with one artifact and prints the likeliest classes of each.
#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deploybench/artifact.hpp"
#include "deploybench/console.hpp"
#include "deploybench/error.hpp"
#include "deploybench/labels.hpp"
#include "deploybench/options.hpp"
#include "deploybench/predictions.hpp"
#include "deploybench/preprocess.hpp"
#include "deploybench/record.hpp"
#include "deploybench/tensor_file.hpp"
#include "deploybench/version.hpp"

namespace deploybench {
namespace {

// How many classes to print: what was asked for, else five or all there are.
std::int64_t checked_top_k(std::int64_t top_k, std::int64_t classes) {
  if (top_k == 0) return std::min<std::int64_t>(5, classes);
  if (top_k <= classes) return top_k;
  throw Error(Code::usage, "--top-k",
              "'" + std::to_string(top_k) + "' is more than the artifact's " + std::to_string(classes) + " classes",
              "give a smaller one");
}

bool is_tensor_file(const std::string& path) { return path.ends_with(".npy") || path.ends_with(".dat"); }

// float32 [N,channels,height,width] flattened: photos through the artifact's own transform, or one tensor file as it
// is.
std::vector<float> read_inputs(const std::vector<std::string>& inputs, const Metadata& metadata,
                               const std::string& path) {
  const auto tensor = std::ranges::find_if(inputs, is_tensor_file);
  if (tensor != inputs.end()) {
    if (inputs.size() == 1) return read_tensor_file(*tensor, metadata.image_shape()).values;
    throw Error(Code::usage, *tensor, "goes alone", "give either one tensor file or photos, not both");
  }
  return preprocess(inputs, metadata, path);
}

std::vector<std::vector<Prediction>> predict(Artifact& artifact, std::span<const float> images, std::int64_t top_k,
                                             const std::string& path) {
  artifact.feed(images);
  artifact.call();
  const std::span<const float> output = artifact.output();
  if (!std::ranges::all_of(output, [](float value) { return std::isfinite(value); })) {
    throw Error(Code::runtime, path, "its output holds NaN or infinity", "check the weights it was made with");
  }
  const auto classes = static_cast<std::size_t>(artifact.metadata().classes);
  std::vector<std::vector<Prediction>> predictions;
  for (std::size_t at = 0; at < output.size(); at += classes) {
    predictions.push_back(top_predictions(output.subspan(at, classes), static_cast<std::size_t>(top_k)));
  }
  return predictions;
}

std::string text_of(const Inference& inference) {
  std::string text;
  for (std::size_t image = 0; image < inference.predictions.size(); ++image) {
    if (inference.predictions.size() > 1) text += "image " + std::to_string(image) + ":\n";
    text += prediction_lines(inference.predictions[image], inference.labels);
  }
  return text;
}

void run(const InferOptions& options) {
  Inference inference;
  inference.artifact = options.artifact;
  for (const std::string& input : options.inputs) inference.input += (inference.input.empty() ? "" : ", ") + input;
  inference.runtime = set_up_runtime(options.threads, 1, {.executor = "simple"});
  Artifact artifact = Artifact::load(options.artifact, options.device, "");
  const Metadata& metadata = artifact.metadata();
  inference.warnings =
      version_warnings(options.artifact, metadata.torch_version, inference.runtime.torch_version, options.strict);
  for (const std::string& warning : inference.warnings) warn(warning);
  const std::int64_t top_k = checked_top_k(options.top_k, metadata.classes);
  inference.labels = options.labels.empty() ? metadata.labels : read_labels(options.labels, metadata.classes);
  const std::vector<float> images = read_inputs(options.inputs, metadata, options.artifact);
  inference.predictions = predict(artifact, images, top_k, options.artifact);
  if (metadata.weights_origin == "random")
    notice("random weights: the labels mean nothing (see docs/troubleshooting.md)");
  print(options.json ? inference_json(inference, metadata) + "\n" : text_of(inference));
}

}  // namespace
}  // namespace deploybench

int main(int argc, char** argv) {
  deploybench::InferOptions options;
  try {
    deploybench::ignore_closed_pipes();
    deploybench::parse_infer(std::span(argv, static_cast<std::size_t>(argc)).subspan(1), options);
    if (options.help) {
      deploybench::print(deploybench::infer_help());
    } else {
      deploybench::run(options);
    }
    return 0;
  } catch (...) {
    return deploybench::report_exception(options.json, options.artifact);
  }
}
