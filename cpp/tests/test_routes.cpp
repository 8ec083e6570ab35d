// Which route runs which file, and what is refused before it is loaded.
#include "deploybench/routes.hpp"

#include "check.hpp"

namespace {

using deploybench::check_machine;
using deploybench::choose_route;
using deploybench::making;
using deploybench::Metadata;
using deploybench::packing_warnings;

Metadata of(const std::string& kind) {
  Metadata metadata;
  metadata.model = "tiny";
  metadata.route = kind;
  metadata.precision = "fp32";
  metadata.device = "cpu";
  metadata.torch_version = "2.13.0+cpu";
  return metadata;
}

TEST(routes, a_file_is_run_by_the_first_route_of_its_kind) {
  CHECK(choose_route("a.ts", of("script"), "").name == "script");
  CHECK(choose_route("a.ts", of("frozen"), "").name == "frozen");
  CHECK(choose_route("a.ts", of("frozen"), "fused").name == "fused");
  CHECK(choose_route("a.pt2", of("aoti"), "aoti").name == "aoti");
  CHECK(choose_route("a.pt2", of("direct"), "").name == "direct");
}

TEST(routes, the_command_that_makes_a_file) {
  Metadata metadata = of("script");
  metadata.factory = "torchvision.models:tiny";
  metadata.weights_origin = "pretrained";
  CHECK(making("a.ts", metadata) == "`deploybench generate --models tiny --routes script`");
  CHECK(making("artifacts/tiny.script-fp32-cpu.ts", metadata, "aoti", "cuda") ==
        "`deploybench generate --models tiny --routes aoti --device cuda`");
  CHECK(making("tiny.script-fp32-cpu.ts", metadata).ends_with(" --artifacts .`"));
  metadata.factory = "my.nets:tiny";
  metadata.precision = "bf16";
  metadata.weights_origin = "file";
  metadata.weights_name = "it's mine.pth";
  CHECK(making("/my files/tiny.script-bf16-cpu.ts", metadata) ==
        "`deploybench generate --models my.nets:tiny --routes script --precisions bf16 "
        R"(--weights 'it'"'"'s mine.pth' --artifacts '/my files'`)");
  metadata.route = "onnx";
  CHECK(making("a.onnx", metadata).find("--routes script ") != std::string::npos);
}

TEST(routes, weights_packed_for_other_threads_are_warned_of) {
  Metadata metadata = of("aoti");
  metadata.factory = "torchvision.models:tiny";
  metadata.weights_origin = "pretrained";
  CHECK(packing_warnings("a.pt2", metadata, 2).empty());
  metadata.built_for_threads = 1;
  CHECK(packing_warnings("a.pt2", metadata, 1).empty());
  const std::string said = packing_warnings("artifacts/tiny.aoti-fp32-cpu-threads1.pt2", metadata, 2).at(0);
  CHECK(said ==
        "artifacts/tiny.aoti-fp32-cpu-threads1.pt2: packed for 1 thread, run with 2: oneDNN may pack weights again in "
        "every call; make one with `deploybench generate --models tiny --routes aoti --threads 2`");
  CHECK(making("b/tiny.aoti-fp32-cpu-threads1.pt2", metadata) ==
        "`deploybench generate --models tiny --routes aoti --threads 1 --artifacts b`");
  CHECK(making("b/tiny.aoti-fp32-cpu.pt2", metadata) ==
        "`deploybench generate --models tiny --routes aoti --artifacts b`");
}

TEST(routes, what_does_not_fit_is_refused) {
  CHECK_THROWS(choose_route("a.pth", of("eager"), ""), "a.pth: route eager runs in Python only");
  CHECK_THROWS(choose_route("a.ts", of("script"), "fast"), "--route: 'fast' is no route of C++; there are script, ");
  CHECK_THROWS(choose_route("a.ts", of("script"), "fused"), "--route fused: runs frozen files, a.ts is script");
  Metadata half = of("frozen");
  half.precision = "fp16";
  CHECK_THROWS(choose_route("a.ts", half, "fused"), "cannot run precision fp16");
  Metadata cuda = of("frozen");
  cuda.device = "cuda";
  CHECK_THROWS(choose_route("a.ts", cuda, "fused"), "cannot run on cuda");
}

TEST(routes, compiled_code_needs_its_cpu_and_its_torch) {
  const std::vector<std::string> have = {"avx", "avx2", "fma"};
  check_machine("a.ts", of("frozen"), have, "1.0", "");  // nothing compiled, nothing to check
  Metadata metadata = of("aoti");
  metadata.built_for_cpu = {"avx2"};
  check_machine("a.pt2", metadata, have, "2.13.1", "");
  CHECK_THROWS(check_machine("a.pt2", metadata, have, "2.14.0+cpu", ""),
               "compiled for torch 2.13.0+cpu, this is LibTorch 2.14");
  metadata.built_for_gpu = "sm_80";
  check_machine("a.pt2", metadata, have, "2.13.0", "sm_80");
  CHECK_THROWS(check_machine("a.pt2", metadata, have, "2.13.0", "sm_90"),
               "compiled for a GPU of sm_80, this one is sm_90");
  metadata.built_for_cpu = {"avx2", "avx4096", "amx"};
  CHECK_THROWS(check_machine("a.pt2", metadata, have, "2.13.0", ""),
               "a.pt2: compiled for a CPU with avx4096, amx, which this one lacks");
}

TEST(routes, a_machine_that_does_not_tell_its_flags_is_not_refused) {
  Metadata metadata = of("direct");
  metadata.built_for_cpu = {"avx2"};
  check_machine("a.pt2", metadata, {}, "2.13.0", "");
  CHECK_THROWS(check_machine("a.pt2", metadata, {}, "1.0", ""), "compiled for torch 2.13.0+cpu, this is LibTorch 1.0");
}

}  // namespace
