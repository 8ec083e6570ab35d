// What `infer` prints: an answer for each image, as text, as lines of JSON or as CSV. Twin of the printing in
// python/deploybench/answers.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "deploybench/classifier.hpp"

namespace deploybench {

struct Answer {
  std::string input;        // the file
  std::int64_t image = 0;   // in a tensor file, from 0
  Predictions predictions;  // empty where there is a problem
  std::optional<Error> problem;
};

enum class Format { text, json, csv };

// What comes before the first answer; empty but for CSV.
std::string_view answers_begin(Format format);

// Lines, each with its newline: text has a line for each class, below the name of the image where there are `several`;
// JSON one line; CSV a line for each class, or one with the error. Text that is not UTF-8 gets U+FFFD in JSON.
std::string answer_lines(const Answer& answer, Format format, const std::string& artifact, const ClassifierInfo& info,
                         bool several);

}  // namespace deploybench
