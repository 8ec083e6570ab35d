#include "deploybench/answers.hpp"

#include <nlohmann/json.hpp>

#include "deploybench/ranking.hpp"

namespace deploybench {
namespace {

using json = nlohmann::ordered_json;

std::string text_of(const Answer& answer, bool several) {
  std::string text;
  if (several) {
    const bool tensor_file = answer.input.ends_with(".npy") || answer.input.ends_with(".dat");
    text = (tensor_file ? "image " + std::to_string(answer.image) : answer.input) + ":\n";
  }
  if (!answer.problem) return text + prediction_lines(answer.predictions);
  return several ? text + "error: " + answer.problem->what() + "\n" : text;  // alone it is on stderr
}

std::string json_of(const Answer& answer, const std::string& artifact, const ClassifierInfo& info) {
  json line = {{"model", info.model},
               {"artifact", artifact},
               {"input", answer.input},
               {"image", answer.image},
               {"device", info.device},
               {"torch_version", info.torch_version},
               {"weights_origin", info.weights_origin},
               {"warnings", info.warnings}};
  if (answer.problem) {
    line["error"] = {{"code", code_name(answer.problem->code())}, {"message", answer.problem->what()}};
  } else {
    line["predictions"] = json::array();
    for (const Prediction& one : answer.predictions) {
      line["predictions"].push_back({{"index", one.index}, {"label", one.label}, {"probability", one.probability}});
    }
  }
  return line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

// RFC 4180.
std::string cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char letter : text) quoted += letter == '"' ? "\"\"" : std::string(1, letter);
  return quoted + "\"";
}

std::string csv_of(const Answer& answer) {
  const std::string begin = cell(answer.input) + "," + std::to_string(answer.image) + ",";
  if (answer.problem) return begin + ",,,," + cell(answer.problem->what()) + "\n";
  std::string lines;
  int rank = 0;
  for (const Prediction& one : answer.predictions) {
    lines += begin + std::to_string(++rank) + "," + std::to_string(one.index) + "," + cell(one.label) + "," +
             json(one.probability).dump() + ",\n";
  }
  return lines;
}

}  // namespace

std::string_view answers_begin(Format format) {
  return format == Format::csv ? "input,image,rank,index,label,probability,error\n" : "";
}

std::string answer_lines(const Answer& answer, Format format, const std::string& artifact, const ClassifierInfo& info,
                         bool several) {
  if (format == Format::json) return json_of(answer, artifact, info);
  if (format == Format::csv) return csv_of(answer);
  return text_of(answer, several);
}

}  // namespace deploybench
