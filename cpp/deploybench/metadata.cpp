#include "deploybench/metadata.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "deploybench/error.hpp"
#include "deploybench/host.hpp"

namespace deploybench {
namespace {

using nlohmann::json;

constexpr int most_nesting = 16;
constexpr std::size_t most_text = 1024;  // bytes of one string
constexpr std::int64_t most_side = 16384;
constexpr std::int64_t most_classes = 1'000'000;
constexpr std::int64_t most_image_values = 268'435'456;    // 2^28, 1 GiB, above three channels of 8192x8192
constexpr std::int64_t most_batch_values = 2'147'483'648;  // 2^31, 8 GiB that the smallest batch takes
constexpr std::size_t most_cpu_flags = 1024;               // /proc/cpuinfo has 150
constexpr std::int64_t most_mapped = 2'147'483'648;        // 2^31 bytes of a library, as far as its code reaches

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  throw Error(Code::artifact_invalid, path, problem, "make it again with `deploybench generate --models MODEL`");
}

// One object of the metadata, with the name of the file for the messages.
class Fields {
 public:
  Fields(const json& object, std::string path, std::string where)
      : object_(object), path_(std::move(path)), where_(std::move(where)) {
    if (!object_.is_object()) refuse(path_, "deploybench.json: " + where_ + " is not an object");
  }

  [[nodiscard]] const json& at(const std::string& key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) refuse(path_, "deploybench.json: " + where_ + key + " is missing");
    return *found;
  }

  [[nodiscard]] std::string text(const std::string& key) const { return text_of(at(key), key); }

  [[nodiscard]] std::string text_of(const json& value, const std::string& key) const {
    const auto* const text = value.get_ptr<const std::string*>();
    if (text == nullptr || text->empty() || text->size() > most_text) bad(key, "a text of 1 to 1024 bytes");
    return *text;
  }

  [[nodiscard]] std::string choice(const std::string& key, std::initializer_list<const char*> choices) const {
    std::string value = text(key);
    std::string expected = "one of";
    for (const char* const one : choices) expected += std::string(" ") + one;
    if (std::ranges::none_of(choices, [&value](const char* one) { return value == one; })) bad(key, expected);
    return value;
  }

  [[nodiscard]] std::int64_t count_of(const json& value, const std::string& key, std::int64_t most) const {
    // nlohmann keeps what does not fit int64 as unsigned or double, which a plain get<int64_t>() would wrap or cut.
    const bool whole = value.is_number_unsigned() && value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most);
    if (!whole || value.get<std::int64_t>() < 1) bad(key, "a whole number from 1 to " + std::to_string(most));
    return value.get<std::int64_t>();
  }

  [[noreturn]] void bad(const std::string& key, const std::string& expected) const {
    refuse(path_, "deploybench.json: " + where_ + key + " is not " + expected);
  }

 private:
  const json& object_;
  std::string path_;
  std::string where_;
};

// Nesting is bounded while parsing: the file decides how deep, and we need 3 levels.
json parse_json(std::string_view text, const std::string& path) {
  if (text.size() > most_metadata_bytes) refuse(path, "deploybench.json is larger than 4 MiB");
  const auto bounded = [&path](int depth, json::parse_event_t, const json&) {
    if (depth > most_nesting) refuse(path, "deploybench.json is nested deeper than 16 levels");
    return true;
  };
  try {
    return json::parse(text, bounded);
  } catch (const json::exception& problem) {
    refuse(path, std::string("deploybench.json is not JSON: ") + problem.what());
  }
}

void check_schema(const Fields& fields, const std::string& path) {
  const json& schema = fields.at("schema");
  if (schema.is_number_integer() && schema == 2) return;
  throw Error(Code::artifact_invalid, path, "made by another version of deploybench",
              "generate it again: `deploybench generate --models MODEL`");
}

std::array<std::int64_t, 4> read_shape(const Fields& fields) {
  const json& shape = fields.at("input_shape");
  if (!shape.is_array() || shape.size() != 4) fields.bad("input_shape", "[N, channels, height, width]");
  std::array<std::int64_t, 4> read{};
  std::ranges::transform(shape, read.begin(),
                         [&](const json& side) { return fields.count_of(side, "input_shape", most_side); });
  // Each is at most 2^14, so that the product fits.
  if (read[1] * read[2] * read[3] > most_image_values) fields.bad("input_shape", "an image of at most 2^28 values");
  return read;
}

std::array<std::int64_t, 2> read_batches(const Fields& fields) {
  constexpr const char* expected = "[smallest, largest] number of images";
  const json& range = fields.at("batches");
  if (!range.is_array() || range.size() != 2) fields.bad("batches", expected);
  const std::array<std::int64_t, 2> read = {fields.count_of(range[0], "batches", most_images),
                                            fields.count_of(range[1], "batches", most_images)};
  if (read[0] > read[1]) fields.bad("batches", expected);
  return read;
}

std::vector<std::string> read_label_list(const Fields& fields, std::int64_t classes) {
  const json& labels = fields.at("labels");
  if (!labels.is_array() || labels.size() != static_cast<std::size_t>(classes)) {
    fields.bad("labels", "a list of " + std::to_string(classes) + " labels, one for each class");
  }
  std::vector<std::string> read;
  for (const json& label : labels) read.push_back(fields.text_of(label, "labels"));
  return read;
}

std::array<double, 3> read_channels(const Fields& fields, const std::string& key, double least) {
  constexpr double most = 1e6;
  const json& list = fields.at(key);
  const auto sound = [&](const json& one) {
    return one.is_number() && one.get<double>() >= least && one.get<double>() <= most;
  };
  if (!list.is_array() || list.size() != 3 || !std::ranges::all_of(list, sound)) {
    fields.bad(key, "three numbers in range");
  }
  return {list[0].get<double>(), list[1].get<double>(), list[2].get<double>()};
}

// Twin of Preprocessing.from_json in python/deploybench/images.py.
Preprocessing read_preprocessing(const json& object, const std::string& path) {
  constexpr std::int64_t longest_side = 8192;
  const Fields fields(object, path, "preprocessing.");
  Preprocessing read;
  if (!fields.at("resize").is_null()) read.resize = fields.count_of(fields.at("resize"), "resize", longest_side);
  read.crop = fields.count_of(fields.at("crop"), "crop", longest_side);
  read.bicubic = fields.choice("interpolation", {"bilinear", "bicubic"}) == "bicubic";
  if (!fields.at("antialias").is_boolean()) fields.bad("antialias", "true or false");
  read.mean = read_channels(fields, "mean", -1e6);
  read.std = read_channels(fields, "std", 1e-6);
  return read;
}

std::vector<std::string> read_cpu_flags(const json& built_for, const std::string& path) {
  const Fields fields(built_for, path, "built_for.");
  std::vector<std::string> read;
  if (!built_for.contains("cpu_flags")) return read;
  const json& flags = fields.at("cpu_flags");
  if (!flags.is_array() || flags.size() > most_cpu_flags) fields.bad("cpu_flags", "a list of at most 1024 flags");
  for (const json& flag : flags) read.push_back(fields.text_of(flag, "cpu_flags"));
  return read;
}

std::array<std::int64_t, 2> read_mapped(const Fields& built_for) {
  const json& pair = built_for.at("mapped");
  if (!pair.is_array() || pair.size() != 2) built_for.bad("mapped", "where it begins and how many bytes");
  return {built_for.count_of(pair[0], "mapped", most_mapped), built_for.count_of(pair[1], "mapped", most_mapped)};
}

}  // namespace

Metadata parse_metadata(std::string_view text, const std::string& path) {
  const json parsed = parse_json(text, path);
  const Fields fields(parsed, path, "");
  check_schema(fields, path);
  Metadata metadata;
  metadata.model = fields.text("model");
  metadata.factory = fields.text("factory");
  if (metadata.factory.find(':') == std::string::npos) fields.bad("factory", "package.module:function");
  metadata.route = fields.choice("route", {"eager", "script", "trace", "frozen", "aoti", "direct", "onnx"});
  metadata.precision = fields.choice("precision", {"fp32", "bf16", "fp16"});
  metadata.memory_format = fields.choice("memory_format", {"contiguous", "channels_last"});
  metadata.device = fields.choice("device", {"cpu", "cuda"});
  metadata.input_shape = read_shape(fields);
  metadata.batches = read_batches(fields);
  const auto [channels, height, width] = metadata.image_shape();
  if (metadata.batches[0] > most_batch_values / (channels * height * width)) {
    fields.bad("batches", "of at most 2^31 values at the smallest");
  }
  metadata.preprocessing = read_preprocessing(fields.at("preprocessing"), path);
  metadata.classes = fields.count_of(fields.at("classes"), "classes", most_classes);
  metadata.labels = read_label_list(fields, metadata.classes);
  const Fields weights(fields.at("weights"), path, "weights.");
  metadata.weights_origin = weights.choice("origin", {"random", "pretrained", "file"});
  metadata.weights_name = weights.text("name");
  const json& built_for = fields.at("built_for");
  metadata.built_for_cpu = read_cpu_flags(built_for, path);
  const Fields of_code(built_for, path, "built_for.");
  if (built_for.contains("threads")) {
    metadata.built_for_threads = of_code.count_of(of_code.at("threads"), "threads", most_threads);
  }
  if (built_for.contains("mapped")) metadata.mapped = read_mapped(of_code);
  if (built_for.contains("gpu")) metadata.built_for_gpu = of_code.text("gpu");
  metadata.torch_version = fields.text("torch_version");
  return metadata;
}

void check_batch(const std::string& path, const Metadata& metadata, std::int64_t images) {
  const auto [least, most] = metadata.batches;
  if (images >= least && images <= most) return;
  const std::string takes = std::to_string(least) + (least == most ? " only" : " to " + std::to_string(most));
  throw Error(Code::input_invalid, path, "takes batches of " + takes + ", not " + std::to_string(images),
              "use --batch-size " + std::to_string(least) +
                  ", --routes script, or generate --routes aoti --dynamic-batch MIN:MAX");
}

}  // namespace deploybench
