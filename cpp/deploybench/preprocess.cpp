#include "deploybench/preprocess.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "deploybench/error.hpp"
#include "deploybench/resize.hpp"
#include "deploybench/routes.hpp"

namespace deploybench {
namespace {

constexpr double most_resized_pixels = 1e8;  // a shorter edge of 256 turns 60000x1 pixels into 15,360,000x256

struct Size {
  std::int64_t height;
  std::int64_t width;
};

// With the shorter edge at `edge`. The longer one is cut to whole pixels, as torchvision does.
Size with_shorter_edge(const Photo& photo, std::int64_t edge, const std::string& name) {
  const auto [shorter, longer] = std::minmax(photo.height, photo.width);
  const auto side = static_cast<double>(edge);
  if (side * side * static_cast<double>(longer) / static_cast<double>(shorter) > most_resized_pixels) {
    throw Error(Code::input_invalid, name,
                "is too long and thin (" + std::to_string(photo.width) + "x" + std::to_string(photo.height) +
                    ") to resize its shorter edge to " + std::to_string(edge),
                "give another photo");
  }
  const auto other = static_cast<std::int64_t>(static_cast<double>(edge * longer) / static_cast<double>(shorter));
  return photo.height < photo.width ? Size{edge, other} : Size{other, edge};
}

// Where the cut begins; negative: so many black pixels come first. Python rounds halves to the even side, and pads the
// smaller half first.
std::int64_t begin_of_centre(std::int64_t size, std::int64_t side) {
  if (size < side) return -((side - size) / 2);
  return std::lrint(static_cast<double>(size - side) / 2);
}

}  // namespace

std::vector<float> preprocess(const Photo& photo, const std::string& name, const Preprocessing& how) {
  const Size size = how.resize ? with_shorter_edge(photo, *how.resize, name) : Size{photo.height, photo.width};
  const std::int64_t side = how.crop;
  const std::int64_t top = begin_of_centre(size.height, side);
  const std::int64_t left = begin_of_centre(size.width, side);
  // Of the resized photo only what the cut keeps is made: of 341x256 pixels 224x224.
  const Region part{std::max<std::int64_t>(0, top), std::max<std::int64_t>(0, left), std::min(side, size.height),
                    std::min(side, size.width)};
  const Photo kept = resized(photo, size.height, size.width, how.bicubic ? Filter::bicubic : Filter::bilinear, part);
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(3 * side * side));
  for (std::size_t c = 0; c < 3; ++c) {
    std::array<float, 256> normalised{};
    for (std::size_t level = 0; level < normalised.size(); ++level) {
      normalised[level] =
          (static_cast<float>(level) / 255.0F - static_cast<float>(how.mean[c])) / static_cast<float>(how.std[c]);
    }
    const std::size_t begin = values.size();
    values.resize(begin + static_cast<std::size_t>(side * side), normalised[0]);
    for (std::int64_t y = 0; y < kept.height; ++y) {
      const std::uint8_t* from = kept.pixels.data() + static_cast<std::size_t>(3 * y * kept.width) + c;
      float* to = values.data() + begin + (y + part.top - top) * side + part.left - left;
      for (std::int64_t x = 0; x < kept.width; ++x) to[x] = normalised[from[3 * x]];
    }
  }
  return values;
}

std::vector<float> preprocess(const Photo& photo, const std::string& name, const Metadata& metadata,
                              const std::string& artifact) {
  const std::int64_t side = metadata.preprocessing.crop;
  if (metadata.image_shape() != std::array<std::int64_t, 3>{3, side, side}) {
    throw Error(Code::artifact_invalid, artifact,
                "preprocessing.crop " + std::to_string(side) + " is not its input's size",
                "make it again: " + making(artifact, metadata) + " with --force");
  }
  return preprocess(photo, name, metadata.preprocessing);
}

std::vector<float> preprocess(const std::vector<std::string>& photos, const Metadata& metadata,
                              const std::string& artifact) {
  std::vector<float> values;
  for (const std::string& photo : photos) {
    const std::vector<float> one = preprocess(read_photo(photo), photo, metadata, artifact);
    values.insert(values.end(), one.begin(), one.end());
  }
  return values;
}

std::string written_json(const std::string& model, const std::string& file, const std::array<std::int64_t, 4>& shape) {
  using json = nlohmann::ordered_json;
  const json line = {{"model", model},
                     {"file", file},
                     {"shape", shape},
                     {"dtype", "float32"},
                     {"bytes", std::filesystem::file_size(file)}};
  return line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace deploybench
