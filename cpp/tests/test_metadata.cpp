// deploybench.json as good as it should be, and as bad as a file can be.
#include "deploybench/metadata.hpp"

#include <nlohmann/json.hpp>
#include <string>

#include "check.hpp"

namespace {

using nlohmann::json;

json good() {
  return {{"schema", 2},
          {"model", "tiny"},
          {"factory", "torchvision.models:tiny"},
          {"route", "script"},
          {"precision", "fp32"},
          {"memory_format", "contiguous"},
          {"built_for", {{"cpu_flags", {"avx2", "fma"}}, {"compiler", "g++ 12.2.0"}}},
          {"device", "cpu"},
          {"input_shape", {1, 3, 8, 6}},
          {"batches", {1, 8}},
          {"classes", 2},
          {"labels", {"tench", "goldfish"}},
          {"preprocessing",
           {{"resize", nullptr},
            {"crop", 224},
            {"interpolation", "bicubic"},
            {"antialias", true},
            {"mean", {0.5, 0, -1}},
            {"std", {1, 0.25, 2}}}},
          {"weights", {{"origin", "random"}, {"name", "seed 0"}}},
          {"torch_version", "2.13.0+cpu"},
          {"later_addition", {1, 2, 3}}};
}

deploybench::Metadata parse(const std::string& text) { return deploybench::parse_metadata(text, "a.ts"); }

// The good one with one field replaced.
deploybench::Metadata with(const char* key, const json& value) {
  json changed = good();
  changed[key] = value;
  return parse(changed.dump());
}

TEST(metadata, reads_what_it_needs_and_ignores_the_rest) {
  const auto metadata = parse(good().dump());
  CHECK(metadata.model == "tiny" && metadata.route == "script" && metadata.device == "cpu" && metadata.classes == 2);
  CHECK((metadata.image_shape() == std::array<std::int64_t, 3>{3, 8, 6}));
  CHECK(metadata.batches[1] == 8 && metadata.labels[1] == "goldfish" && metadata.weights_origin == "random");
}

TEST(metadata, every_field_is_required) {
  for (const char* const key :
       {"schema", "model", "factory", "route", "precision", "memory_format", "built_for", "device", "input_shape",
        "batches", "preprocessing", "classes", "labels", "weights", "torch_version"}) {
    json lacking = good();
    lacking.erase(key);
    CHECK_THROWS(parse(lacking.dump()), std::string("a.ts: deploybench.json: ") + key + " is missing");
  }
  CHECK_THROWS(with("weights", json::object()), "weights.origin is missing");
  CHECK_THROWS(with("weights", {{"origin", "random"}}), "weights.name is missing");
  CHECK_THROWS(with("factory", "net"), "factory is not package.module:function");
}

TEST(metadata, flags_of_compiled_code_are_texts) {
  CHECK((parse(good().dump()).built_for_cpu == std::vector<std::string>{"avx2", "fma"}));
  CHECK(with("built_for", json::object()).built_for_cpu.empty());
  CHECK_THROWS(with("built_for", "avx2"), "built_for. is not an object");
  CHECK(with("built_for", {{"gpu", "sm_90"}}).built_for_gpu == "sm_90");
  CHECK_THROWS(with("built_for", {{"gpu", 90}}), "built_for.gpu is not a text");
  CHECK(with("built_for", {{"threads", 2}}).built_for_threads == 2 && parse(good().dump()).built_for_threads == 0);
  CHECK((with("built_for", {{"mapped", {4096, 8192}}}).mapped == std::array<std::int64_t, 2>{4096, 8192}));
  CHECK_THROWS(with("built_for", {{"mapped", {4096}}}), "built_for.mapped is not where it begins and how many bytes");
  CHECK_THROWS(with("built_for", {{"mapped", {0, 1}}}), "built_for.mapped is not a whole number from 1 to 2147483648");
  CHECK_THROWS(with("built_for", {{"threads", 0}}), "built_for.threads is not a whole number from 1 to 1024");
  CHECK_THROWS(with("built_for", {{"cpu_flags", "avx2"}}), "built_for.cpu_flags is not a list of at most 1024 flags");
  const json many(1025, "avx2");
  CHECK_THROWS(with("built_for", {{"cpu_flags", many}}), "built_for.cpu_flags is not a list of at most 1024 flags");
  CHECK_THROWS(with("built_for", {{"cpu_flags", {1}}}), "built_for.cpu_flags is not a text");
}

TEST(metadata, another_schema_is_another_version) {
  for (const json& schema : {json(1), json(0), json("1"), json(1.0), json(true), json(nullptr)}) {
    CHECK_THROWS(with("schema", schema), "made by another version of deploybench; generate it again");
  }
}

TEST(metadata, wrong_types) {
  CHECK_THROWS(with("model", 1), "model is not a text");
  CHECK_THROWS(with("model", ""), "model is not a text");
  CHECK_THROWS(with("model", std::string(1025, 'x')), "model is not a text");
  CHECK_THROWS(with("device", "tpu"), "device is not one of cpu cuda");
  CHECK_THROWS(with("route", "rocket"), "route is not one of eager script trace frozen aoti direct onnx");
  CHECK_THROWS(with("precision", "int3"), "precision is not one of fp32");
  CHECK_THROWS(with("batches", 1), "batches is not [smallest, largest]");
  CHECK_THROWS(with("batches", {1}), "batches is not [smallest, largest]");
  CHECK_THROWS(with("batches", {2, 1}), "batches is not [smallest, largest]");
  CHECK_THROWS(with("weights", "random"), "weights. is not an object");
  CHECK_THROWS(with("labels", {{"tench", 1}}), "labels is not a list of 2");
  CHECK_THROWS(with("labels", {"tench", 1}), "labels is not a text");
  CHECK_THROWS(parse("[]"), "is not an object");
}

TEST(metadata, numbers_out_of_range) {
  for (const json& classes :
       {json(0), json(-1), json(1'000'001), json(2.0), json(1e300), json(18446744073709551615U)}) {
    CHECK_THROWS(with("classes", classes), "classes is not a whole number from 1 to 1000000");
  }
  CHECK_THROWS(with("input_shape", {1, 3, 8}), "input_shape is not [N, channels, height, width]");
  CHECK_THROWS(with("input_shape", {1, 3, 8, 16385}), "input_shape is not a whole number from 1 to 16384");
  CHECK_THROWS(with("input_shape", {1, 3, 8, -8}), "input_shape");
  CHECK_THROWS(parse(R"({"schema": 1e999})"), "is not JSON");
}

// An input that no machine holds must be an error of the file, not one of the allocator.
TEST(metadata, an_input_is_bounded) {
  CHECK(with("input_shape", {1, 3, 8192, 8192}).input_shape[2] == 8192);
  CHECK_THROWS(with("input_shape", {1, 16384, 16384, 16384}), "input_shape is not an image of at most 2^28 values");
  CHECK_THROWS(with("input_shape", {1, 3, 16384, 16384}), "input_shape is not an image of at most 2^28 values");
  json large = good();
  large["input_shape"] = {1, 3, 224, 224};
  large["batches"] = {4096, 1'048'576};
  CHECK(parse(large.dump()).batches[0] == 4096);
  large["batches"] = {1'048'576, 1'048'576};
  CHECK_THROWS(parse(large.dump()), "batches is not of at most 2^31 values at the smallest");
}

// Found by fuzzing: a message repeated what it could not read, whatever its length.
TEST(metadata, an_error_is_short) {
  try {
    (void)parse('"' + std::string(1'000'000, 'x'));
    CHECK(false);
  } catch (const std::exception& error) {
    CHECK(std::string(error.what()).size() < 4000);
  }
}

TEST(metadata, as_many_labels_as_classes) {
  CHECK_THROWS(with("labels", {"tench"}), "labels is not a list of 2 labels");
  CHECK_THROWS(with("classes", 3), "labels is not a list of 3 labels");
}

TEST(metadata, text_that_is_no_json) {
  for (const char* const text :
       {"", "{", "nonsense", "{\"schema\":1", "{'schema':1}", "\xff\xfe", "{\"model\":\"\xc3\x28\"}"}) {
    CHECK_THROWS(parse(text), "a.ts: deploybench.json is not JSON");
  }
}

TEST(metadata, nesting_is_bounded) {
  const std::string deep(1'000'000, '[');
  CHECK_THROWS(parse(deep), "nested deeper than 16 levels");
  CHECK_THROWS(parse(R"({"later": )" + std::string(100, '[') + std::string(100, ']') + "}"), "nested deeper");
}

TEST(metadata, size_is_bounded) {
  CHECK_THROWS(parse(std::string(deploybench::most_metadata_bytes + 1, ' ')), "larger than 4 MiB");
}

TEST(metadata, batches_that_an_artifact_was_not_made_for) {
  const auto ranged = parse(good().dump());  // 1 to 8
  deploybench::check_batch("a.ts", ranged, 1);
  deploybench::check_batch("a.ts", ranged, 8);
  CHECK_THROWS(deploybench::check_batch("a.ts", ranged, 9),
               "a.ts: takes batches of 1 to 8, not 9; use --batch-size 1, --routes script, or generate --routes aoti");
  CHECK_THROWS(deploybench::check_batch("a.ts", with("batches", {4, 4}), 1), "takes batches of 4 only, not 1; use");
}

}  // namespace
