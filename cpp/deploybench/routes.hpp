// The ways to run an artifact in C++. Twin of python/deploybench/routes: a route is one row here and one branch in
// artifact.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "deploybench/metadata.hpp"

namespace deploybench {

struct Route {
  std::string_view name;
  std::string_view kind;  // of artifact, as its metadata's `route` says
  bool fp16;              // fp32 and bf16 all can
  bool cuda;
  bool package = false;  // compiled code, for LibTorch's package loader; else TorchScript
};

// The route called `wish`, or, where that is empty, the first for this kind of file. Throws Error: usage where there is
// no such route or it cannot run this artifact, artifact_invalid where the file is of a kind that runs in Python only.
const Route& choose_route(const std::string& path, const Metadata& metadata, const std::string& wish);

// The command that makes what lies at `path` again, or its like for another route, device or number of threads. Of
// weights in a file it has the name alone, and nothing of what else was asked for (--mean, --labels). Twin of making()
// in python/deploybench/routes.
std::string making(const std::string& path, const Metadata& metadata, std::string_view route = "",
                   std::string_view device = "", std::int64_t threads = 0);

// A warning where weights are packed for another number of threads than run them. Twin of packing_warnings in
// python/deploybench/running.py.
std::vector<std::string> packing_warnings(const std::string& path, const Metadata& metadata, std::int64_t threads);

// Refuses compiled code that this machine or this LibTorch cannot run, before it ends the process by SIGILL (pytorch
// issue 121516). `cpu_flags`: this machine's; empty: not known, and not checked. `gpu`: its architecture, "sm_90";
// empty: there is none or it is not known. Throws Error: artifact_device, artifact_version.
void check_machine(const std::string& path, const Metadata& metadata, const std::vector<std::string>& cpu_flags,
                   const std::string& torch_version, const std::string& gpu);

}  // namespace deploybench
