// Which versions of torch agree.
#include "deploybench/version.hpp"

#include "check.hpp"

namespace {

using deploybench::version_warnings;

TEST(version, the_build_is_not_the_version) {
  CHECK(deploybench::public_version("2.13.0+cpu") == "2.13.0");
  CHECK(deploybench::public_version("2.13.0") == "2.13.0");
  CHECK(version_warnings("a.ts", "2.13.0+cu130", "2.13.0+cpu", true).empty());
}

TEST(version, another_version_is_warned_of_or_refused) {
  const auto warnings = version_warnings("a.ts", "2.11.0", "2.13.0+cpu", false);
  CHECK(warnings.size() == 1 &&
        warnings[0].starts_with("a.ts: made with torch 2.11.0, but LibTorch here is 2.13.0+cpu; "));
  CHECK_THROWS(version_warnings("a.ts", "2.11.0", "2.13.0+cpu", true), "made with torch 2.11.0");
  CHECK(version_warnings("a.ts", "2.13.1", "2.13.10", false).size() == 1);
}

}  // namespace
