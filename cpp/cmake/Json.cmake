# The target `deploybench_json`: nlohmann/json.hpp. One header, from PyPI (package nlohmann-json), so no system package is needed.
set(DEPLOYBENCH_JSON_INCLUDE "" CACHE PATH "Folder that holds nlohmann/json.hpp")
if(NOT DEPLOYBENCH_JSON_INCLUDE)
  find_path(DEPLOYBENCH_JSON_FOUND nlohmann/json.hpp)
  set(json_include "${DEPLOYBENCH_JSON_FOUND}")
else()
  set(json_include "${DEPLOYBENCH_JSON_INCLUDE}")
endif()
if(NOT EXISTS "${json_include}/nlohmann/json.hpp")
  message(FATAL_ERROR "nlohmann/json.hpp was not found (looked in '${json_include}'). Run `make build`, which sets everything up, "
    "or `pip install nlohmann-json` and configure with -DDEPLOYBENCH_JSON_INCLUDE=<its include folder>.")
endif()
add_library(deploybench_json INTERFACE)
target_include_directories(deploybench_json SYSTEM INTERFACE "${json_include}")
