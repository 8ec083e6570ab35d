// What only CUDA has, for artifact.cpp alone, of which this is a part: including it anywhere else costs LibTorch's
// headers once more. CUDA's own headers come with its toolkit, which need not be there; hence torch's device-neutral
// ways.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <c10/core/StreamGuard.h>
#include <dlfcn.h>
#if __has_include(<ATen/accelerator/Graph.h>)
#include <ATen/accelerator/Graph.h>
#define DEPLOYBENCH_RECORDS_GRAPHS
#endif

#include <optional>
#include <string>

#include "deploybench/error.hpp"

namespace deploybench {

// The architecture of the first GPU, "sm_90"; empty where there is none. Asked of the CUDA runtime that libtorch_cuda
// has brought into the process: torch tells it in CUDA's headers only.
inline std::string gpu_architecture() {
  using GetAttribute = int (*)(int* value, int attribute, int device);
  constexpr int major_version = 75;  // cudaDevAttrComputeCapabilityMajor and Minor
  constexpr int minor_version = 76;
  auto* const ask = reinterpret_cast<GetAttribute>(dlsym(RTLD_DEFAULT, "cudaDeviceGetAttribute"));
  int major = 0;
  int minor = 0;
  if (ask == nullptr || ask(&major, major_version, 0) != 0 || ask(&minor, minor_version, 0) != 0) return "";
  return "sm_" + std::to_string(major) + std::to_string(minor);
}

#ifdef DEPLOYBENCH_RECORDS_GRAPHS

// The kernels of one call, recorded and then launched together, so that the host's time per kernel (about 5 us) is paid
// once. Twin of python/deploybench/routes/cuda_graph.py.
class CudaGraph {
 public:
  // `forward`, a tensor -> an output, is recorded in the first call, on zeros: an answer to the images shows that they
  // were read. The output is valid until the next call.
  template <typename Forward>
  const c10::IValue& call(const Forward& forward, const at::Tensor& images) {
    if (!input_.defined()) record(forward, images);
    input_.copy_(images);
    graph_.replay();
    return output_;
  }

 private:
  template <typename Forward>
  void record(const Forward& forward, const at::Tensor& images) {
    constexpr int calls_before = 3;  // TorchScript profiles in the first and compiles in the second: not to be recorded
    const c10::impl::VirtualGuardImpl cuda(images.device().type());
    at::Tensor zeros = at::zeros_like(images);
    cuda.synchronizeDevice(images.device().index());
    {
      const c10::StreamGuard guard(cuda.getStreamFromGlobalPool(images.device()));  // the default cannot be recorded
      for (int i = 0; i < calls_before; ++i) (void)forward(zeros);
      cuda.synchronizeDevice(images.device().index());
      graph_.capture_begin();
      output_ = forward(zeros);
      graph_.capture_end();
    }
    input_ = std::move(zeros);
  }

  at::accelerator::Graph graph_;
  at::Tensor input_;  // where the recorded kernels read
  c10::IValue output_;
};

inline std::unique_ptr<CudaGraph> make_cuda_graph() { return std::make_unique<CudaGraph>(); }

#else

// A LibTorch without a way to record a graph that needs no header of CUDA's.
struct CudaGraph {
  template <typename Forward>
  c10::IValue call(const Forward& forward, const at::Tensor& images) {
    return forward(images);
  }
};

inline std::unique_ptr<CudaGraph> make_cuda_graph() {
  throw Error(Code::runtime, "--cuda-graph on", "this LibTorch has no at::accelerator::Graph",
              "take a newer one (`make libtorch`) and `make build`");
}

#endif

}  // namespace deploybench
