// What LibTorch says in free text, read for the few facts that it offers nowhere else. Needs none of its headers.
#pragma once

#include <string>

namespace deploybench {

// The line of a torch message that says what happened. An error inside TorchScript comes as a traceback of model code
// with the reason in its last line, "RuntimeError: ..."; any other has the reason first and the C++ stack below.
std::string essence(const std::string& message);

// Whether the message is that of an allocator, on the CPU or on a device: inside TorchScript the type of the exception
// is lost.
bool is_memory_shortage(const std::string& message);

// Whether a package was sound, but the folder it is unpacked into missing, full, or mounted without leave to run code.
bool is_unpacking_problem(const std::string& message);

// at::show_config()'s "..., CUDA_VERSION=13.0, ..., TORCH_VERSION=2.13.0, ..." as wheels are named: "2.13.0+cu130", or
// "2.13.0+cpu" without CUDA. The headers' TORCH_VERSION would be that of the build, not of the library that was loaded.
std::string version_from_config(const std::string& config);

}  // namespace deploybench
