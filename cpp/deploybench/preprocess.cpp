#include "deploybench/preprocess.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "deploybench/error.hpp"
#include "deploybench/resize.hpp"

namespace deploybench {
namespace {

constexpr double most_resized_pixels = 1e8;  // a shorter edge of 256 turns 60000x1 pixels into 15,360,000x256

// The longer edge is cut to whole pixels, as torchvision does.
Photo with_shorter_edge(const Photo& photo, std::int64_t edge, Filter filter, const std::string& name) {
  const auto [shorter, longer] = std::minmax(photo.height, photo.width);
  const auto side = static_cast<double>(edge);
  if (side * side * static_cast<double>(longer) / static_cast<double>(shorter) > most_resized_pixels) {
    throw Error(Code::input_invalid, name,
                "is too long and thin (" + std::to_string(photo.width) + "x" + std::to_string(photo.height) +
                    ") to resize its shorter edge to " + std::to_string(edge),
                "give another photo");
  }
  if (shorter == edge) return photo;
  const auto other = static_cast<std::int64_t>(static_cast<double>(edge * longer) / static_cast<double>(shorter));
  return photo.height < photo.width ? resized(photo, edge, other, filter) : resized(photo, other, edge, filter);
}

// Where the cut begins; negative: so many black pixels come first. Python rounds halves to the even side, and pads the
// smaller half first.
std::int64_t begin_of_centre(std::int64_t size, std::int64_t side) {
  if (size < side) return -((side - size) / 2);
  return std::lrint(static_cast<double>(size - side) / 2);
}

}  // namespace

std::vector<float> preprocess(const Photo& photo, const std::string& name, const Preprocessing& how) {
  const Filter filter = how.bicubic ? Filter::bicubic : Filter::bilinear;
  const Photo sized = how.resize ? with_shorter_edge(photo, *how.resize, filter, name) : photo;
  const std::int64_t side = how.crop;
  const std::int64_t top = begin_of_centre(sized.height, side);
  const std::int64_t left = begin_of_centre(sized.width, side);
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(3 * side * side));
  for (std::size_t c = 0; c < 3; ++c) {
    const auto mean = static_cast<float>(how.mean[c]);
    const auto std = static_cast<float>(how.std[c]);
    for (std::int64_t y = top; y < top + side; ++y) {
      for (std::int64_t x = left; x < left + side; ++x) {
        const bool inside = y >= 0 && x >= 0 && y < sized.height && x < sized.width;
        const int pixel = inside ? sized.pixels[static_cast<std::size_t>(3 * (y * sized.width + x)) + c] : 0;
        values.push_back((static_cast<float>(pixel) / 255.0F - mean) / std);
      }
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
                "generate it again: `deploybench generate --models " + metadata.model + " --force`");
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

}  // namespace deploybench
