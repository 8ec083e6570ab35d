// Photo to tensor, as the artifact's metadata says. Twin of `tensor` and `load_batch` in python/deploybench/images.py:
// the same steps, and for the same pixels the same bits.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "deploybench/metadata.hpp"
#include "deploybench/photo.hpp"

namespace deploybench {

// float32 [3,crop,crop] flattened: the shorter edge resized, the centre cut out (black where the photo is smaller),
// values 0..1, then (value - mean) / std for R, G and B. Throws Error(input_invalid), naming `name`, where resizing a
// long, thin photo would fill the memory.
std::vector<float> preprocess(const Photo& photo, const std::string& name, const Preprocessing& how);

// The same, for an artifact. Throws also Error(artifact_invalid), naming the artifact, where its photos are not the
// size of its input.
std::vector<float> preprocess(const Photo& photo, const std::string& name, const Metadata& metadata,
                              const std::string& artifact);

// Photo files to one batch, float32 [N,3,crop,crop] flattened, in the order given. Throws Error: those of read_photo,
// and of the above.
std::vector<float> preprocess(const std::vector<std::string>& photos, const Metadata& metadata,
                              const std::string& artifact);

// What was written, as a line of JSON: the keys of `deploybench preprocess --json`.
std::string written_json(const std::string& model, const std::string& file, const std::array<std::int64_t, 4>& shape);

}  // namespace deploybench
