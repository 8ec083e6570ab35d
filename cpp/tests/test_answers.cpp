// What infer prints, letter by letter.
#include "deploybench/answers.hpp"

#include <nlohmann/json.hpp>

#include "check.hpp"

namespace {

using deploybench::Answer;
using deploybench::answer_lines;
using deploybench::Code;
using deploybench::Error;
using deploybench::Format;

deploybench::ClassifierInfo info() {
  deploybench::ClassifierInfo made;
  made.model = "tiny";
  made.weights_origin = "random";
  made.warnings = {"one"};
  return made;
}

Answer good() { return {"a \"b\",c.jpg", 0, {{1, 0.75, "gold\"fish"}, {0, 0.25, "tench"}}, {}}; }
Answer bad() { return {"b.jpg", 0, {}, Error(Code::input_invalid, "b.jpg", "is no photo", "give one")}; }

std::string lines(const Answer& answer, Format format, bool several = true) {
  return answer_lines(answer, format, "tiny.ts", info(), several);
}

TEST(answers, text) {
  CHECK(answers_begin(Format::text).empty());
  CHECK(lines(good(), Format::text, false) == "75.00% gold\"fish\n25.00% tench\n");
  CHECK(lines(good(), Format::text) == "a \"b\",c.jpg:\n75.00% gold\"fish\n25.00% tench\n");
  CHECK(lines(bad(), Format::text) == "b.jpg:\nerror: b.jpg: is no photo; give one\n");
  CHECK(lines(bad(), Format::text, false).empty());
  CHECK(lines({"x.npy", 3, good().predictions, {}}, Format::text).starts_with("image 3:\n75.00%"));
}

TEST(answers, csv) {
  CHECK(answers_begin(Format::csv) == "input,image,rank,index,label,probability,error\n");
  CHECK(lines(good(), Format::csv) ==
        "\"a \"\"b\"\",c.jpg\",0,1,1,\"gold\"\"fish\",0.75,\n\"a \"\"b\"\",c.jpg\",0,2,0,tench,0.25,\n");
  CHECK(lines(bad(), Format::csv) == "b.jpg,0,,,,,b.jpg: is no photo; give one\n");
}

TEST(answers, json_is_one_line) {
  const std::string line = lines(good(), Format::json);
  CHECK(line.find('\n') == line.size() - 1);
  const auto read = nlohmann::json::parse(line);
  CHECK(read["input"] == good().input && read["model"] == "tiny" && read["warnings"][0] == "one");
  CHECK(read["predictions"][0] == nlohmann::json::parse(R"({"index":1,"label":"gold\"fish","probability":0.75})"));
  const auto failed = nlohmann::json::parse(lines(bad(), Format::json));
  CHECK(failed["error"]["code"] == "input_invalid" && !failed.contains("predictions"));
  CHECK(nlohmann::json::parse(lines({"\xff.jpg", 0, {}, {}}, Format::json))["input"] == "\xef\xbf\xbd.jpg");
}

}  // namespace
