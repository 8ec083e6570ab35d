// Records: one line, the contract's keys in the contract's order, text escaped.
#include "deploybench/record.hpp"

#include <limits>
#include <nlohmann/json.hpp>

#include "check.hpp"

namespace {

using deploybench::Code;
using deploybench::Error;
using deploybench::Record;
using json = nlohmann::ordered_json;

Record sample() {
  Record record;
  record.artifact = "odd \"name\"\n\t\\\x01.ts";
  record.artifact_bytes = 5;
  record.metadata.model = "tiny";
  record.metadata.route = "script";
  record.metadata.memory_format = "contiguous";
  record.route = "script";
  record.metadata.precision = "fp32";
  record.metadata.device = "cpu";
  record.metadata.input_shape = {1, 3, 8, 6};
  record.batch_size = 2;
  record.input_crc32 = 0xabc;
  record.measurement.run_seconds = {0.1, 1e-7};
  record.warnings = {"one"};
  return record;
}

TEST(record, is_one_line_with_the_keys_in_order) {
  const std::string line = record_json(sample());
  CHECK(line.find('\n') == std::string::npos);
  std::string keys;
  const json read = json::parse(line);
  for (const auto& [key, value] : read.items()) keys += key + " ";
  CHECK(
      keys ==
      "schema runner runtime route precision memory_format device model weights_origin artifact artifact_bytes "
      "batch_size "
      "input_shape "
      "input_crc32 seed instances threads interop_threads allocator bind executor fusion_strategy flush_denormal tf32 "
      "cudnn_benchmark "
      "cuda_graph "
      "load_seconds warmup_seconds warmup_steady "
      "run_seconds device_seconds "
      "settle_seconds turn_calls turn_seconds turn_rates "
      "output_drift output_finite peak_rss_bytes torch_version cpu_capability toolchain build_type warnings ");
}

TEST(record, values_come_back_as_they_went_in) {
  const json read = json::parse(record_json(sample()));
  CHECK(read["artifact"] == sample().artifact && read["runner"] == "cpp/script/fp32" &&
        read["input_crc32"] == "00000abc");
  CHECK(read["input_shape"] == json({2, 3, 8, 6}) && read["run_seconds"] == json({0.1, 1e-7}));
  CHECK(read["seed"].is_null() && read["device_seconds"].is_null() && read["warmup_seconds"] == json::array());
  CHECK(read["warnings"] == json::array({"one"}));
}

TEST(record, what_may_be_null_may_be_there) {
  Record record = sample();
  record.seed = std::numeric_limits<std::uint64_t>::max();
  record.measurement.device_seconds = {0.5};
  const json read = json::parse(record_json(record));
  CHECK(read["seed"] == 18446744073709551615U && read["device_seconds"] == json::array({0.5}));
}

TEST(record, a_failure_is_a_record) {
  const Error error(Code::artifact_missing, "a.ts", "no such file", "make one\nnow");
  CHECK(failure_json(error, "a.ts") ==
        R"({"schema":2,"runtime":"cpp","artifact":"a.ts","error":{"code":"artifact_missing",)"
        R"("message":"a.ts: no such file; make one now"}})");
  CHECK(json::parse(failure_json(error, ""))["artifact"].is_null());
}

TEST(record, a_name_that_is_not_utf8_still_makes_json) {
  Record record = sample();
  record.artifact = "\xff.ts";
  CHECK(json::parse(record_json(record))["artifact"] == "\xef\xbf\xbd.ts");
}

TEST(record, the_summary_of_a_run_without_warmup) {
  CHECK(record_summary(sample()).find("median      50.000 ms over 2 calls\n") != std::string::npos);
}

}  // namespace
