#include "deploybench/record.hpp"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>

#include "deploybench/host.hpp"

namespace deploybench {
namespace {

// Keeps the keys in the order written here, which is the order of the contract.
using json = nlohmann::ordered_json;

constexpr int schema = 2;

template <typename T>
json or_null(const std::optional<T>& value) {
  return value ? json(*value) : json(nullptr);
}

std::string line_of(const json& object) { return object.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string hexadecimal(std::uint32_t value) {
  std::array<char, 9> text{};
  (void)std::snprintf(text.data(), text.size(), "%08x", value);
  return text.data();
}

std::string milliseconds(double seconds) {
  std::array<char, 32> text{};
  (void)std::snprintf(text.data(), text.size(), "%.3f ms", 1000 * seconds);
  return text.data();
}

std::string rounded(double value) {
  std::array<char, 32> text{};
  (void)std::snprintf(text.data(), text.size(), "%.1f", value);
  return text.data();
}

json knobs_of(const Knobs& knobs) {
  return {{"allocator", knobs.allocator},
          {"bind", knobs.bind},
          {"executor", knobs.executor},
          {"fusion_strategy", knobs.fusion_strategy},
          {"flush_denormal", knobs.flush_denormal},
          {"tf32", knobs.tf32},
          {"cudnn_benchmark", knobs.cudnn_benchmark},
          {"cuda_graph", knobs.cuda_graph}};
}

// What the run gave, and what ran it.
json measured_of(const Record& record) {
  const Measurement& measured = record.measurement;
  return {{"load_seconds", record.load_seconds},
          {"warmup_seconds", measured.warmup_seconds},
          {"warmup_steady", measured.warmup_steady},
          {"run_seconds", measured.run_seconds},
          {"device_seconds", or_null(measured.device_seconds)},
          {"settle_seconds", measured.settle_seconds},
          {"turn_calls", measured.turn_calls},
          {"turn_seconds", measured.turn_seconds},
          {"turn_rates", or_null(measured.turn_rates)},
          {"output_drift", measured.output_drift},
          {"output_finite", measured.output_finite},
          {"peak_rss_bytes", record.peak_rss_bytes},
          {"torch_version", record.runtime.torch_version},
          {"cpu_capability", record.runtime.cpu_capability},
          {"toolchain", toolchain()},
          {"build_type", build_type()},
          {"warnings", record.warnings}};
}

}  // namespace

std::string runner_name(const Record& record) { return "cpp/" + record.route + "/" + record.metadata.precision; }

std::string record_json(const Record& record) {
  const Metadata& metadata = record.metadata;
  const auto& shape = metadata.input_shape;
  json line = {{"schema", schema},
               {"runner", runner_name(record)},
               {"runtime", "cpp"},
               {"route", record.route},
               {"precision", metadata.precision},
               {"memory_format", metadata.memory_format},
               {"device", metadata.device},
               {"model", metadata.model},
               {"weights_origin", metadata.weights_origin},
               {"artifact", record.artifact},
               {"artifact_bytes", record.artifact_bytes},
               {"batch_size", record.batch_size},
               {"input_shape", json::array({record.batch_size, shape[1], shape[2], shape[3]})},
               {"input_crc32", hexadecimal(record.input_crc32)},
               {"seed", or_null(record.seed)},
               {"instances", record.instances},
               {"threads", record.runtime.threads},
               {"interop_threads", record.runtime.interop_threads}};
  line.update(knobs_of(record.runtime.knobs));
  line.update(measured_of(record));
  return line_of(line);
}

std::string failure_json(const Error& error, const std::string& artifact) {
  return line_of({{"schema", schema},
                  {"runtime", "cpp"},
                  {"artifact", artifact.empty() ? json(nullptr) : json(artifact)},
                  {"error", {{"code", code_name(error.code())}, {"message", error.what()}}}});
}

std::string record_summary(const Record& record) {
  const Measurement& measured = record.measurement;
  const std::vector<double>& warmup = measured.warmup_seconds;
  std::string text = record.metadata.model + "  " + runner_name(record) + "  " + record.metadata.device + "  batch " +
                     std::to_string(record.batch_size) + "  threads " + std::to_string(record.runtime.threads) +
                     (record.instances > 1 ? "  instances " + std::to_string(record.instances) : "") + "\n";
  text += "load        " + milliseconds(record.load_seconds) + "\n";
  if (!warmup.empty()) {
    text += "first call  " + milliseconds(warmup.front()) + "\n";
    text += "warm-up     " + std::to_string(warmup.size()) + " calls, " +
            (measured.warmup_steady ? "steady at the end" : "not steady at the end") + "\n";
  }
  text += "median      " + milliseconds(median(measured.run_seconds)) + " over " +
          std::to_string(measured.run_seconds.size()) + " calls\n";
  if (measured.turn_rates) {
    std::size_t at = 0;
    for (std::size_t turn = 0; turn < measured.turn_calls.size(); ++turn) {
      const auto count = static_cast<std::size_t>(measured.turn_calls[turn]);
      const auto latencies = std::span(measured.run_seconds).subspan(at, count);
      text += "rate        " + rounded((*measured.turn_rates)[turn]) + " images/s: p99 " +
              milliseconds(quantile(latencies, 0.99)) + "\n";
      at += count;
    }
  } else if (record.instances > 1) {
    const double seconds = std::accumulate(measured.turn_seconds.begin(), measured.turn_seconds.end(), 0.0);
    const auto images = static_cast<double>(measured.run_seconds.size()) * static_cast<double>(record.batch_size);
    text += "throughput  " + rounded(images / seconds) + " images/s\n";
  }
  text += "peak RSS    " + std::to_string(record.peak_rss_bytes / 1048576) + " MiB\n";
  return text;
}

}  // namespace deploybench
