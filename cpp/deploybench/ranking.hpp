// From a model's output to the classes it names.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "deploybench/predictions.hpp"

namespace deploybench {

// softmax in double: exp(x - max) / sum of the same over all classes. `logits` must be finite and not empty.
std::vector<double> softmax(std::span<const float> logits);

// The `k` likeliest classes of one image, likeliest first, the lower index first among equals. 1 <= k <= logits.size(),
// and as many labels as logits.
Predictions top_predictions(std::span<const float> logits, std::span<const std::string> labels, std::size_t k);

// Lines like `49.52% Siberian husky`, one a prediction.
std::string prediction_lines(const Predictions& predictions);

}  // namespace deploybench
