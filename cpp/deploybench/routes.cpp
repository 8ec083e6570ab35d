#include "deploybench/routes.hpp"

#include <algorithm>
#include <array>
#include <filesystem>

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

bool runs_in_cpp(const Metadata& metadata) {
  return std::ranges::any_of(routes, [&](const Route& route) { return route.kind == metadata.route; });
}

// As a shell takes it for one word: a file says what these are.
std::string word(std::string_view text) {
  constexpr std::string_view plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";  // those of Python's shlex.quote
  if (!text.empty() && text.find_first_not_of(plain) == std::string_view::npos) return std::string(text);
  std::string quoted = "'";
  for (const char letter : text) quoted += letter == '\'' ? "'\"'\"'" : std::string(1, letter);
  return quoted + "'";
}

// "2.13" of "2.13.0+cpu"
std::string minor_version(const std::string& version) {
  return version.substr(0, version.find('.', version.find('.') + 1));
}

}  // namespace

std::string making(const std::string& path, const Metadata& metadata, std::string_view route, std::string_view device,
                   std::int64_t threads) {
  if (route.empty()) route = runs_in_cpp(metadata) ? std::string_view(metadata.route) : "script";
  const bool own = !metadata.factory.starts_with("torchvision.models:");
  std::string command = "`deploybench generate --models " + word(own ? metadata.factory : metadata.model);
  const auto say = [&command](const char* flag, std::string_view value) { command += flag + word(value); };
  say(" --routes ", route);
  if (metadata.precision != "fp32") say(" --precisions ", metadata.precision);
  if (!device.empty() || metadata.device != "cpu")
    say(" --device ", device.empty() ? std::string_view(metadata.device) : device);
  if (metadata.weights_origin == "random") say(" --weights ", "random");
  if (metadata.weights_origin == "file") say(" --weights ", metadata.weights_name);
  const std::filesystem::path file(path);
  const std::string of_generate =
      metadata.model + "." + metadata.route + "-" + metadata.precision + "-" + metadata.device;
  const bool named = file.stem() == of_generate + "-threads" + std::to_string(metadata.built_for_threads);
  if (threads > 0 || named) say(" --threads ", std::to_string(threads > 0 ? threads : metadata.built_for_threads));
  const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
  if ((named || file.stem() == of_generate) && folder != "artifacts") say(" --artifacts ", folder);
  return command + "`";
}

std::vector<std::string> packing_warnings(const std::string& path, const Metadata& metadata, std::int64_t threads) {
  const std::int64_t packed = metadata.built_for_threads;
  if (packed == 0 || packed == threads) return {};
  return {path + ": packed for " + std::to_string(packed) + " thread" + (packed == 1 ? "" : "s") + ", run with " +
          std::to_string(threads) + ": oneDNN may pack weights again in every call; make one with " +
          making(path, metadata, "", "", threads)};
}

const Route& choose_route(const std::string& path, const Metadata& metadata, const std::string& wish) {
  if (!runs_in_cpp(metadata)) {
    throw Error(Code::artifact_invalid, path, "route " + metadata.route + " runs in Python only",
                "make one for C++ with " + making(path, metadata, "script"));
  }
  const auto* const found = std::ranges::find_if(
      routes, [&](const Route& route) { return wish.empty() ? route.kind == metadata.route : route.name == wish; });
  if (found == routes.end()) {
    throw Error(Code::usage, "--route", "'" + wish + "' is no route of C++", "there are " + names());
  }
  const std::string subject = "--route " + std::string(found->name);
  if (found->kind != metadata.route) {
    throw Error(Code::usage, subject, "runs " + std::string(found->kind) + " files, " + path + " is " + metadata.route,
                making(path, metadata, found->name));
  }
  if (metadata.precision == "fp16" && !found->fp16) {
    throw Error(Code::usage, subject, "cannot run precision fp16", "it can run fp32 and bf16");
  }
  if (metadata.device == "cuda" && !found->cuda) {
    throw Error(Code::usage, subject, "cannot run on cuda",
                "make one with " + making(path, metadata, found->name, "cpu"));
  }
  return *found;
}

void check_machine(const std::string& path, const Metadata& metadata, const std::vector<std::string>& cpu_flags,
                   const std::string& torch_version, const std::string& gpu) {
  const bool compiled =
      std::ranges::any_of(routes, [&](const Route& route) { return route.kind == metadata.route && route.package; });
  if (!compiled) return;
  const std::string again = making(path, metadata) + " with --force";
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
