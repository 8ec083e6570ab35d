# The target `libtorch`: headers and libraries of the LibTorch in DEPLOYBENCH_LIBTORCH, the CPU build or a CUDA one.
#
# Why not find_package(Torch): for a CUDA LibTorch it wants the whole CUDA toolkit (nvcc, headers, nvToolsExt, which CUDA 12.9
# no longer ships) only to use libraries that are built already. Here a driver is enough, and only to run.
# pytorch/pytorch#139108 and #133293 are that pain; #36437 and #42018 are the linker's (see no_as_needed below).
cmake_path(ABSOLUTE_PATH DEPLOYBENCH_LIBTORCH NORMALIZE OUTPUT_VARIABLE libtorch_root)
set(libtorch_lib "${libtorch_root}/lib")

foreach(needed IN ITEMS include/torch/script.h include/torch/csrc/api/include/torch/cuda.h
                        lib/libtorch.so lib/libtorch_cpu.so lib/libc10.so)
  if(NOT EXISTS "${libtorch_root}/${needed}")
    message(FATAL_ERROR "LibTorch: ${libtorch_root}/${needed} is missing. Run `make libtorch`, "
      "or configure with -DDEPLOYBENCH_LIBTORCH=<folder with include and lib>.")
  endif()
endforeach()

# The version stands in one of two headers, by torch's age, and only its three parts stand there in the same way in all of them.
set(version_header "${libtorch_root}/include/torch/headeronly/version.h")
if(NOT EXISTS "${version_header}")
  set(version_header "${libtorch_root}/include/torch/csrc/api/include/torch/version.h")
endif()
set(libtorch_version "")
foreach(part IN ITEMS MAJOR MINOR PATCH)
  file(STRINGS "${version_header}" line REGEX "^#define TORCH_VERSION_${part} [0-9]+" LIMIT_COUNT 1)
  string(REGEX REPLACE ".* " "" number "${line}")
  list(APPEND libtorch_version "${number}")
endforeach()
list(JOIN libtorch_version "." libtorch_version)
message(STATUS "LibTorch ${libtorch_version} in ${libtorch_root}")

# Artifacts of one version may run differently, or not at all, in another, so the two sides must not drift apart unseen.
# "2.13.0+cpu" and "2.13.0" agree: the part after the plus names the build, not the version.
string(REGEX REPLACE "[+].*" "" expected "${DEPLOYBENCH_EXPECT_TORCH}")
if(expected AND NOT libtorch_version STREQUAL expected)
  set(drift "LibTorch is ${libtorch_version}, but Python's torch is ${expected}: results are not comparable. Run `make libtorch`.")
  if(DEPLOYBENCH_STRICT)
    message(FATAL_ERROR "${drift}")
  endif()
  message(WARNING "${drift}")
endif()

# Every library is linked by name, even where none of our symbols comes from it:
# - libtorch_cuda registers its kernels from static constructors; the --as-needed that distributions switch on drops it, and then
#   C++ "sees no CUDA". Hence the feature no_as_needed, around just these.
# - what stands in the program's own list is found by the program's own RPATH, before any library's is looked at.
set(CMAKE_LINK_LIBRARY_USING_no_as_needed_SUPPORTED TRUE)
set(CMAKE_LINK_LIBRARY_USING_no_as_needed
  "LINKER:--push-state,--no-as-needed" "<LINK_ITEM>" "LINKER:--pop-state")
set(libtorch_libraries "${libtorch_lib}/libtorch.so" "${libtorch_lib}/libtorch_cpu.so" "${libtorch_lib}/libc10.so")
file(GLOB more_libraries "${libtorch_lib}/libtorch_cuda.so" "${libtorch_lib}/libc10_cuda.so" "${libtorch_lib}/libgomp*.so*")
list(APPEND libtorch_libraries ${more_libraries})
list(JOIN libtorch_libraries "," joined)

add_library(libtorch INTERFACE)
target_include_directories(libtorch SYSTEM INTERFACE
  "${libtorch_root}/include" "${libtorch_root}/include/torch/csrc/api/include")
# torch's checks name their header by __FILE__: a bundle need not tell where it was built.
target_compile_options(libtorch INTERFACE "-fmacro-prefix-map=${libtorch_root}/=")
target_link_libraries(libtorch INTERFACE "$<LINK_LIBRARY:no_as_needed,${joined}>")

# DT_RPATH, not today's default DT_RUNPATH: the loader asks LD_LIBRARY_PATH before RUNPATH but after RPATH, so a program that is
# started by hand in a shell which exports another LibTorch still gets the one it was built with.
target_link_options(libtorch INTERFACE "LINKER:--disable-new-dtags" "LINKER:-rpath,${libtorch_lib}")

# A CUDA wheel's libraries need libcudart and more from the nvidia wheels beside torch. Tell the linker where they lie, and let it
# pass what is still missing (libcuda.so.1 comes with the driver, which a build machine need not have): the loader decides.
if(EXISTS "${libtorch_lib}/libtorch_cuda.so")
  file(REAL_PATH "${libtorch_lib}" real_lib)
  file(GLOB nvidia_folders "${real_lib}/../../nvidia/*/lib")
  foreach(folder IN LISTS nvidia_folders)
    target_link_options(libtorch INTERFACE "LINKER:-rpath-link,${folder}")
  endforeach()
  target_link_options(libtorch INTERFACE "LINKER:--allow-shlib-undefined")

  # CUDA graphs are the one thing that needs CUDA's own headers. A toolkit has them, and so have NVIDIA's wheels, where
  # crt/host_config.h comes with the compiler's, which `make libtorch` brings too.
  file(GLOB nvidia_includes "${real_lib}/../../nvidia/*/include")
  find_path(cuda_include NAMES crt/host_config.h NO_CACHE NO_DEFAULT_PATH
    PATHS ${nvidia_includes} "$ENV{CUDA_HOME}/include" /usr/local/cuda/include)
  if(cuda_include AND EXISTS "${cuda_include}/cuda_runtime_api.h")
    target_include_directories(libtorch SYSTEM INTERFACE "${cuda_include}")
    target_compile_definitions(libtorch INTERFACE DEPLOYBENCH_CUDA_GRAPH)
  else()
    message(STATUS "CUDA's headers were not found: --cuda-graph will not work. `make libtorch` brings those of CUDA 13, or set CUDA_HOME.")
  endif()
endif()
