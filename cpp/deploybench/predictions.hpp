// What a classifier says of one image.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deploybench {

struct Prediction {
  std::int64_t index = 0;    // class, from 0
  double probability = 0.0;  // 0..1
  std::string label;         // the class's name
};

// Of one image, likeliest first.
using Predictions = std::vector<Prediction>;

}  // namespace deploybench
