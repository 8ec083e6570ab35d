#include "deploybench/ranking.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace deploybench {

std::vector<double> softmax(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  std::vector<double> probabilities(logits.size());
  std::ranges::transform(logits, probabilities.begin(), [largest](float x) { return std::exp(double{x} - largest); });
  const double sum = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  for (double& probability : probabilities) probability /= sum;
  return probabilities;
}

Predictions top_predictions(std::span<const float> logits, std::span<const std::string> labels, std::size_t k) {
  const std::vector<double> probabilities = softmax(logits);
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto likelier = [&logits](std::size_t a, std::size_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::ranges::partial_sort(order, order.begin() + static_cast<std::ptrdiff_t>(k), likelier);
  Predictions top;
  top.reserve(k);
  for (const std::size_t at : std::span(order).first(k)) {
    top.push_back({static_cast<std::int64_t>(at), probabilities[at], labels[at]});
  }
  return top;
}

std::string prediction_lines(const Predictions& predictions) {
  std::string lines;
  for (const Prediction& prediction : predictions) {
    std::array<char, 16> percent{};
    (void)std::snprintf(percent.data(), percent.size(), "%.2f%% ", 100 * prediction.probability);
    lines += percent.data() + prediction.label + "\n";
  }
  return lines;
}

}  // namespace deploybench
