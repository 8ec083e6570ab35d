// How a worker sets its runtime up. Twin of KNOBS in python/deploybench/record.py; docs/measuring.md has what each
// gave.
#pragma once

#include <string>

namespace deploybench {

struct Knobs {
  std::string allocator = "huge";         // or keep, system: see set_allocator in host.hpp
  std::string bind = "off";               // or on: each intra-op thread stays on a core of its own
  std::string executor = "profiling";     // or simple: TorchScript runs the graph as it is, for a program of one call
  std::string fusion_strategy = "mixed";  // or static, dynamic: for which shapes TorchScript compiles
  std::string flush_denormal = "off";     // or on: numbers below 1e-38 become zero
  std::string tf32 = "off";               // or on: fp32 products on CUDA with 10 bits of mantissa
  std::string cudnn_benchmark = "off";    // or on: cuDNN tries its algorithms in the first call
  std::string cuda_graph = "off";         // or on: on CUDA the kernels of a call are recorded once and replayed
};

}  // namespace deploybench
