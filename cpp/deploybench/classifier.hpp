// deploybench for C++ programs: an image classifier from an artifact, photos in, labels out. This header,
// predictions.hpp and error.hpp are the library's public ones; none shows a type of LibTorch.
//
//   deploybench::Classifier classifier("resnet50.script-fp32-cpu.ts");
//   for (const auto& one : classifier.classify("husky.jpg")) std::cout << one.probability << " " << one.label << "\n";
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "deploybench/error.hpp"
#include "deploybench/export.hpp"
#include "deploybench/predictions.hpp"

namespace deploybench {

struct ClassifierOptions {
  std::string device;          // "cpu" or "cuda"; empty: the artifact's
  std::string route;           // how to run it: "fused", ...; empty: the first for its kind of file. "fused" has the
                               // process to itself: no .ts file by another route beside it
  std::string labels;          // file with one label a line; empty: the artifact's
  std::string sha256;          // of the artifact, checked before anything of it is read; empty: not checked
  std::size_t top_k = 0;       // classes of each image; 0: five, or all where there are fewer
  std::size_t instances = 1;   // images, or batches, that are worked on at the same time; weights are shared
  std::int64_t threads = 0;    // of each instance; 0: the CPUs this process may use, shared out
  std::size_t batch_size = 1;  // images that are waiting go together, up to so many
  std::chrono::microseconds batch_delay{0};  // so long fewer wait for more
  std::size_t queue = 0;                     // images that wait at most; 0: twice what all instances take at once
  bool warm_up = true;  // false: the first answer comes sooner, later ones take longer (TorchScript)
  bool strict = false;  // refuse an artifact of another torch version, not only warn
};

// What runs, for messages and logs.
struct ClassifierInfo {
  std::string model;                          // "resnet50"
  std::string route;                          // "script"
  std::string precision;                      // "fp32", "bf16" or "fp16"; images and answers are float32 all the same
  std::string device;                         // "cpu" or "cuda"
  std::string weights_origin;                 // "random", "pretrained" or "file"
  std::string torch_version;                  // LibTorch that runs it, "2.13.0+cpu"
  std::array<std::int64_t, 3> image_shape{};  // channels, height, width
  std::vector<std::string> labels;            // of all classes, in their order
  std::vector<std::string> warnings;  // of another torch version, or other threads, than the artifact was made with
};

// Owns the model, and a thread for each instance. All member functions but the constructor and the destructor may be
// called from any thread, at the same time. All throw Error; its code() says which kind.
class DEPLOYBENCH_EXPORT Classifier {
 public:
  // Loads `artifact`, a .ts or .pt2 of `deploybench generate`, and answers a few times to black images (warm_up). A .ts
  // or .pt2 file is code: load only what you trust, or pin it with sha256. Throws Error: usage, artifact_missing,
  // artifact_invalid, artifact_device, artifact_version, labels_invalid, device_unavailable, out_of_memory, runtime.
  explicit Classifier(const std::string& artifact, const ClassifierOptions& options = {});
  Classifier(Classifier&& other) noexcept;
  Classifier(const Classifier&) = delete;
  Classifier& operator=(const Classifier&) = delete;
  Classifier& operator=(Classifier&&) = delete;
  // Waits until all that was handed over is answered.
  ~Classifier();

  // Of a JPEG or PNG file, and of one that is in memory: turned, resized, cut and normalised as the artifact says. The
  // caller's thread does that. Throws Error: input_missing, input_invalid, runtime, out_of_memory.
  [[nodiscard]] Predictions classify(const std::string& photo);
  [[nodiscard]] Predictions classify(std::span<const std::uint8_t> photo);
  // Of several files, in their order; the first one that cannot be read ends it.
  [[nodiscard]] std::vector<Predictions> classify(std::span<const std::string> photos);
  // Of images that are ready, float32 [N,channels,height,width] in C order, N >= 1. Throws Error: input_invalid where
  // the number of values is no multiple of an image's.
  [[nodiscard]] std::vector<Predictions> classify(std::span<const float> images);

  // Photo to image, float32 [3,height,width] in C order, without classifying it.
  [[nodiscard]] std::vector<float> prepare(const std::string& photo) const;
  [[nodiscard]] std::vector<float> prepare(std::span<const std::uint8_t> photo) const;
  // Hands one image over and returns at once, unless the queue is full: then it waits. get() throws as classify does.
  [[nodiscard]] std::future<Predictions> submit(std::vector<float> image);

  [[nodiscard]] const ClassifierInfo& info() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace deploybench
