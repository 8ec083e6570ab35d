// What an artifact says about itself: the file deploybench.json inside it. As it comes from a file, it is not trusted.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deploybench {

// How the model wants its photos; see preprocess.hpp.
struct Preprocessing {
  std::optional<std::int64_t> resize;  // pixels of the shorter edge, 1..8192; none: left as it is
  std::int64_t crop = 0;               // pixels, 1..8192
  bool bicubic = false;                // or bilinear
  std::array<double, 3> mean{};        // of values 0..1, -1e6..1e6
  std::array<double, 3> std{};         // 1e-6..1e6
};

struct Metadata {
  std::string model;      // "resnet50"
  std::string factory;    // "torchvision.models:resnet50"; of one's own model "package.module:function"
  std::string route;      // the kind of file: "script", "trace", "frozen", "aoti", "direct"; others run in Python only
  std::string precision;  // "fp32", "bf16" or "fp16"; input and output are float32 all the same
  std::string memory_format;                  // "contiguous" or "channels_last"
  std::string device;                         // "cpu" or "cuda"
  std::array<std::int64_t, 4> input_shape{};  // N, channels, height, width; each 1..16384, an image <= 2^28 values
  std::array<std::int64_t, 2> batches{};      // the smallest and the largest N that work; each 1..1048576,
                                              // the smallest <= 2^31 values
  Preprocessing preprocessing;
  std::int64_t classes = 0;                // 1..1000000
  std::vector<std::string> labels;         // `classes` of them
  std::string weights_origin;              // "random", "pretrained" or "file"
  std::string weights_name;                // "seed 0", "IMAGENET1K_V2", or the file's name
  std::vector<std::string> built_for_cpu;  // flags of /proc/cpuinfo that compiled code needs; empty: there is none
  std::int64_t built_for_threads = 0;      // that compiled code has its weights packed for; 0: it does not matter
  std::array<std::int64_t, 2> mapped{};    // weights in a package's library that may be mapped: begin, bytes; 0: none
  std::string built_for_gpu;               // architecture that compiled code needs, "sm_90"; empty: none
  std::string torch_version;               // torch that made it, e.g. "2.13.0+cpu"

  // {channels, height, width}
  [[nodiscard]] std::array<std::int64_t, 3> image_shape() const {
    return {input_shape[1], input_shape[2], input_shape[3]};
  }
};

inline constexpr std::int64_t most_images = 1'048'576;  // in a batch

// Larger than any honest one by far: 1,000 labels make 20 kB.
inline constexpr std::size_t most_metadata_bytes = 4U << 20U;

// Reads the fields above and checks type, length and range of each; other keys are allowed and ignored. Throws
// Error(artifact_invalid) naming `path`.
Metadata parse_metadata(std::string_view json, const std::string& path);

// Throws Error(input_invalid), naming `path`, where the artifact was not made for so many images at once. Twin of
// check_batch in python/deploybench/running.py.
void check_batch(const std::string& path, const Metadata& metadata, std::int64_t images);

}  // namespace deploybench
