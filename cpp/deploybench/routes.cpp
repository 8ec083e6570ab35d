#include "deploybench/routes.hpp"

#include <algorithm>
#include <array>

#include "deploybench/error.hpp"

namespace deploybench {
namespace {

constexpr std::array<Route, 6> routes = {{
    {.name = "script", .kind = "script", .fp16 = true, .cuda = true},
    {.name = "trace", .kind = "trace", .fp16 = true, .cuda = true},
    {.name = "frozen", .kind = "frozen", .fp16 = true, .cuda = true},
    {.name = "fused", .kind = "frozen", .fp16 = false, .cuda = false},
    {.name = "aoti", .kind = "aoti", .fp16 = true, .cuda = true, .package = true},
    {.name = "direct", .kind = "direct", .fp16 = false, .cuda = false, .package = true},
}};

std::string names() {
  std::string text;
  for (const Route& route : routes) text += (text.empty() ? "" : ", ") + std::string(route.name);
  return text;
}

std::string generate(const Metadata& metadata, std::string_view route) {
  return "`deploybench generate --models " + metadata.model + " --routes " + std::string(route) + "`";
}

// "2.13" of "2.13.0+cpu"
std::string minor_version(const std::string& version) {
  return version.substr(0, version.find('.', version.find('.') + 1));
}

}  // namespace

const Route& choose_route(const std::string& path, const Metadata& metadata, const std::string& wish) {
  const bool known = std::ranges::any_of(routes, [&](const Route& route) { return route.kind == metadata.route; });
  if (!known) {
    throw Error(Code::artifact_invalid, path, "route " + metadata.route + " runs in Python only",
                "make one for C++ with `deploybench generate --models " + metadata.model + "`");
  }
  const auto* const found = std::ranges::find_if(
      routes, [&](const Route& route) { return wish.empty() ? route.kind == metadata.route : route.name == wish; });
  if (found == routes.end()) {
    throw Error(Code::usage, "--route", "'" + wish + "' is no route of C++", "there are " + names());
  }
  const std::string subject = "--route " + std::string(found->name);
  if (found->kind != metadata.route) {
    throw Error(Code::usage, subject, "runs " + std::string(found->kind) + " files, " + path + " is " + metadata.route,
                generate(metadata, found->name));
  }
  if (metadata.precision == "fp16" && !found->fp16) {
    throw Error(Code::usage, subject, "cannot run precision fp16", "it can run fp32 and bf16");
  }
  if (metadata.device == "cuda" && !found->cuda) {
    throw Error(Code::usage, subject, "cannot run on cuda", "make an artifact for the CPU");
  }
  return *found;
}

void check_machine(const std::string& path, const Metadata& metadata, const std::vector<std::string>& cpu_flags,
                   const std::string& torch_version, const std::string& gpu) {
  const bool compiled =
      std::ranges::any_of(routes, [&](const Route& route) { return route.kind == metadata.route && route.package; });
  if (!compiled) return;
  const std::string again = generate(metadata, metadata.route) + " with --force";
  const bool known = !cpu_flags.empty();  // a root without /proc, as of a container of one program, tells nothing
  std::string missing;
  for (const std::string& flag : metadata.built_for_cpu) {
    if (known && std::ranges::find(cpu_flags, flag) == cpu_flags.end()) missing += (missing.empty() ? "" : ", ") + flag;
  }
  if (!missing.empty()) {
    throw Error(Code::artifact_device, path, "compiled for a CPU with " + missing + ", which this one lacks",
                again + ", here or with --portable");
  }
  if (minor_version(metadata.torch_version) != minor_version(torch_version)) {
    throw Error(Code::artifact_version, path,
                "compiled for torch " + metadata.torch_version + ", this is LibTorch " + torch_version, again);
  }
  if (!gpu.empty() && !metadata.built_for_gpu.empty() && gpu != metadata.built_for_gpu) {
    throw Error(Code::artifact_device, path, "compiled for a GPU of " + metadata.built_for_gpu + ", this one is " + gpu,
                again);
  }
}

}  // namespace deploybench
