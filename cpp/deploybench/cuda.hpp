// What only CUDA has, for artifact.cpp alone, of which this is a part: including it anywhere else costs LibTorch's
// headers once more. CUDA's own headers need not be there: cmake/LibTorch.cmake defines DEPLOYBENCH_CUDA_GRAPH where
// they are.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <dlfcn.h>
#ifdef DEPLOYBENCH_CUDA_GRAPH
#include <ATen/cuda/CUDAGraph.h>  // at::accelerator::Graph would need none of CUDA's headers, but 2.13 has none for CUDA
#include <c10/core/StreamGuard.h>
#include <cuda_runtime_api.h>
#endif

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "deploybench/error.hpp"
#include "deploybench/torch_text.hpp"

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

#ifdef DEPLOYBENCH_CUDA_GRAPH

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
    // By torch's device-neutral guards: those of CUDA would have to be linked with CUDA's runtime.
    const c10::impl::VirtualGuardImpl cuda(c10::kCUDA);
    at::Tensor zeros = at::zeros_like(images);
    cuda.synchronizeDevice(images.get_device());
    {
      const c10::StreamGuard guard(cuda.getStreamFromGlobalPool(images.device()));  // the default cannot be recorded
      for (int i = 0; i < calls_before; ++i) (void)forward(zeros);
      cuda.synchronizeDevice(images.get_device());
      c10::cuda::CUDACachingAllocator::emptyCache();  // the graph has a pool of its own
      graph_.capture_begin();
      capture(forward, zeros);
    }
    input_ = std::move(zeros);
  }

  // TorchScript's interpreter and AOTInductor throw what is no c10::Error.
  template <typename Forward>
  void capture(const Forward& forward, const at::Tensor& zeros) {
    try {
      output_ = forward(zeros);
      graph_.capture_end();
    } catch (const std::bad_alloc&) {
      end_capture();
      throw;
    } catch (const std::exception& error) {
      end_capture();
      if (is_memory_shortage(error.what())) throw;
      throw Error(Code::runtime, "--cuda-graph on", "this model cannot be recorded (" + essence(error.what()) + ")",
                  "use --cuda-graph off");
    }
  }

  // The stream goes back to torch, and must not be recording then. What failed has left the capture invalid, so that
  // its end fails too.
  void end_capture() noexcept {
    try {
      graph_.capture_end();
    } catch (const std::exception& expected) {
      (void)expected;
    }
  }

  at::cuda::CUDAGraph graph_;
  at::Tensor input_;  // where the recorded kernels read
  c10::IValue output_;
};

// Throws Error(runtime) where this program was compiled with the headers of another CUDA than LibTorch was built with.
inline std::unique_ptr<CudaGraph> make_cuda_graph() {
  const std::string version = version_from_config(at::show_config());
  const std::string mine = "+cu" + std::to_string(CUDART_VERSION / 1000);
  if (version.find(mine) == std::string::npos) {
    throw Error(Code::runtime, "--cuda-graph on",
                "compiled with CUDA's headers " + std::to_string(CUDART_VERSION / 1000) + ", LibTorch is " + version,
                "set CUDA_HOME to that CUDA's folder, then `make clean build`");
  }
  return std::make_unique<CudaGraph>();
}

#else

// Never made: see make_cuda_graph.
struct CudaGraph {
  template <typename Forward>
  c10::IValue call(const Forward& forward, const at::Tensor& images) {
    return forward(images);
  }
};

inline std::unique_ptr<CudaGraph> make_cuda_graph() {
  throw Error(Code::runtime, "--cuda-graph on", "this program was built without CUDA's headers",
              "`make libtorch ARGS=--force` brings them for CUDA 13, or set CUDA_HOME; then `make clean build`");
}

#endif

}  // namespace deploybench
