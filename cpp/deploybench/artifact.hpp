// An artifact on its device, ready to be called. Everything of LibTorch stays behind this header: artifact.cpp (with
// cuda.hpp) alone includes its headers (13 s to compile), and a new route that C++ can run is one more branch in there.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "deploybench/knobs.hpp"
#include "deploybench/measurement.hpp"
#include "deploybench/metadata.hpp"
#include "deploybench/record.hpp"

namespace deploybench {

// What a scripted model prints goes to stderr from then on. Twin of own_stdout() in python/deploybench/terminal.py.
void keep_stdout_for_data();

// Sets LibTorch up for this thread, and for those that begin later, before anything else of it is used; returns what is
// in effect. Threads >= 1. The knobs `allocator` and `bind` are the process's own: see host.hpp.
RuntimeInfo set_up_runtime(std::int64_t threads, std::int64_t interop_threads, const Knobs& knobs);

// The same for a thread that runs an instance of its own: LibTorch keeps the executor's settings for each thread
// (pytorch issue 27902), and OpenMP the number of threads.
void set_up_thread(std::int64_t threads, const Knobs& knobs);

// With its build, e.g. "2.13.0+cpu".
std::string libtorch_version();

// float32 [batch,channels,height,width] flattened, bit for bit what Python's torch.manual_seed(seed);
// torch.randn(shape) gives.
std::vector<float> seeded_input(std::uint64_t seed, std::int64_t batch, const Metadata& metadata);

// What the file says of itself; nothing of it is loaded. `sha256` as in LoadOptions. Throws Error: artifact_missing,
// artifact_invalid, usage.
Metadata read_metadata(const std::string& path, const std::string& sha256 = "");

// How an artifact is loaded; what is empty is the artifact's own choice.
struct LoadOptions {
  std::string device;         // "cpu" or "cuda"
  std::string route;          // how to run it; empty: the first for its kind
  bool cuda_graph = false;    // the kernels of a call are recorded in the first one and replayed
  std::size_t instances = 1;  // how many will run at the same time
  std::string sha256;         // of the file, 64 hexadecimal digits: checked before anything of it is read
};

class Artifact {
 public:
  // Checks the file, reads its metadata, then loads it onto its device. The file is opened once: what is checked is
  // what is loaded, also where another program replaces it meanwhile. Throws Error: usage, artifact_missing,
  // artifact_invalid, artifact_device, artifact_version, device_unavailable, out_of_memory, runtime.
  static Artifact load(const std::string& path, const LoadOptions& options = {});

  // One more instance over the same weights, with its own input and output. Instances may be called at the same time,
  // each from one thread.
  [[nodiscard]] Artifact another() const;

  Artifact(Artifact&& other) noexcept;
  Artifact(const Artifact&) = delete;
  Artifact& operator=(const Artifact&) = delete;
  Artifact& operator=(Artifact&&) = delete;
  ~Artifact();

  [[nodiscard]] const Metadata& metadata() const;
  [[nodiscard]] std::string route() const;

  // Copies the images, float32 [batch,channels,height,width] flattened, to the device. Throws Error(input_invalid) when
  // the artifact takes another batch size only.
  void feed(std::span<const float> images);

  // One call on what was fed, device synchronised before each reading of the clock. Throws Error(artifact_invalid) when
  // the output is not one floating-point tensor [batch,classes].
  CallTime call();

  // The last call's output on the host, float32 [batch,classes] flattened; valid until the next call.
  [[nodiscard]] std::span<const float> output() const;

 private:
  struct Model;
  struct State;
  explicit Artifact(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace deploybench
