// From a model's output to the classes it names.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace deploybench {

struct Prediction {
  std::int64_t index = 0;    // class, from 0
  double probability = 0.0;  // 0..1
};

// softmax in double: exp(x - max) / sum of the same over all classes. `logits` must be finite and not empty.
std::vector<double> softmax(std::span<const float> logits);

// The `k` likeliest classes of one image, likeliest first, the lower index first among equals. 1 <= k <= logits.size().
std::vector<Prediction> top_predictions(std::span<const float> logits, std::size_t k);

// Lines like `49.52% Siberian husky`, one a prediction.
std::string prediction_lines(std::span<const Prediction> predictions, std::span<const std::string> labels);

}  // namespace deploybench
