// Messages and settings as LibTorch 2.11 and 2.13 printed them, shortened.
#include "deploybench/torch_text.hpp"

#include "check.hpp"

namespace {

using deploybench::essence;
using deploybench::is_memory_shortage;
using deploybench::is_unpacking_problem;
using deploybench::version_from_config;

const char* const interpreter_error =
    "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript, serialized code (most "
    "recent "
    "call last):\n  File \"code/__torch__/net.py\", line 9, in forward\n    return torch.linear(x, w)\n           ~~~ "
    "<--- "
    "HERE\nRuntimeError: mat1 and mat2 shapes cannot be multiplied (1x3 and 4x2)\n";

TEST(torch_text, the_reason_comes_last_in_a_traceback_of_model_code) {
  CHECK(essence(interpreter_error) == "mat1 and mat2 shapes cannot be multiplied (1x3 and 4x2)");
}

TEST(torch_text, and_first_elsewhere) {
  CHECK(essence("open file failed\nException raised from f at f.cpp:1\nframe #0: g()") == "open file failed");
  CHECK(essence("one line") == "one line" && essence("").empty());
}

TEST(torch_text, allocators_of_both_devices) {
  CHECK(is_memory_shortage(
      "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"));
  CHECK(is_memory_shortage("CUDA out of memory. Tried to allocate 2.00 GiB."));
  CHECK(!is_memory_shortage(interpreter_error));
}

TEST(torch_text, folders_that_packages_cannot_be_unpacked_into) {
  CHECK(is_unpacking_problem("Error generating temporary directory: No such file or directory"));
  CHECK(is_unpacking_problem("Failed to extract zip file a.so to b.so, mz_zip error string: write callback failed"));
  CHECK(is_unpacking_problem("Error in dlopen: /tmp/x.so: failed to map segment from shared object"));
  CHECK(!is_unpacking_problem("Failed to extract zip file a.so to b.so, mz_zip error string: CRC-32 check failed"));
}

TEST(torch_text, the_build_is_named_as_wheels_are) {
  CHECK(version_from_config("  - Build settings: BLAS_INFO=mkl, TORCH_VERSION=2.13.0, USE_CUDA=0, ") == "2.13.0+cpu");
  CHECK(version_from_config("BLAS_INFO=mkl, CUDA_VERSION=13.0, CUDNN_VERSION=9.19.0, TORCH_VERSION=2.11.0, ") ==
        "2.11.0+cu130");
}

}  // namespace
