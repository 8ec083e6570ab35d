// Fuzzes parse_metadata: the bytes as the deploybench.json of an artifact.
#include "deploybench/metadata.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ranges>

#include "deploybench/routes.hpp"
#include "fuzz/finding.hpp"

namespace {

using deploybench::Metadata;
using deploybench::fuzz::demand;

bool within(std::int64_t value, std::int64_t most) { return value >= 1 && value <= most; }

// What metadata.hpp promises.
void check(const Metadata& metadata) {
  demand(std::ranges::all_of(metadata.input_shape, [](auto side) { return within(side, 16384); }), "input_shape");
  demand(within(metadata.batches[0], metadata.batches[1]) && within(metadata.batches[1], 1'048'576), "batches");
  demand(within(metadata.preprocessing.resize.value_or(1), 8192) && within(metadata.preprocessing.crop, 8192), "sizes");
  for (std::size_t c = 0; c < 3; ++c) {
    demand(metadata.preprocessing.mean[c] >= -1e6 && metadata.preprocessing.mean[c] <= 1e6, "mean");
    demand(metadata.preprocessing.std[c] >= 1e-6 && metadata.preprocessing.std[c] <= 1e6, "std");
  }
  demand(within(metadata.classes, 1'000'000), "classes");
  demand(metadata.built_for_threads >= 0 && metadata.built_for_threads <= 1024, "built_for.threads");
  demand(metadata.labels.size() == static_cast<std::size_t>(metadata.classes), "labels");
  demand(std::ranges::all_of(metadata.labels, deploybench::is_utf8), "labels are UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  deploybench::fuzz::value_or_error([&] {
    const Metadata metadata = deploybench::parse_metadata({reinterpret_cast<const char*>(data), size}, "a.ts");
    check(metadata);
    (void)deploybench::choose_route("a.ts", metadata, "");
  });
  return 0;
}
