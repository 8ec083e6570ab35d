# `cmake --install build --prefix FOLDER`: the library, its public headers, what find_package(deploybench) reads, and the programs.
# LibTorch is not copied: the library finds it where it was built with, or beside itself. `deploybench bundle` makes a folder that
# has everything.
include(CMakePackageConfigHelpers)

# The one place of the version is the Python package.
file(STRINGS "${CMAKE_SOURCE_DIR}/../python/deploybench/__init__.py" version_line REGEX "^__version__ = ")
string(REGEX MATCH "[0-9]+[.][0-9]+[.][0-9]+" deploybench_version "${version_line}")

# One shared library with all of core and runtime in it, of which only the public classes are seen: who links it needs neither
# LibTorch's headers nor its CMake files.
add_library(deploybench SHARED $<TARGET_OBJECTS:deploybench_runtime>)
target_link_libraries(deploybench PRIVATE deploybench_core libtorch ${CMAKE_DL_LIBS})
target_include_directories(deploybench INTERFACE "$<INSTALL_INTERFACE:include>")
target_compile_features(deploybench INTERFACE cxx_std_20)
string(REGEX REPLACE "[.][0-9]+$" "" so_version "${deploybench_version}")  # 0.x promises nothing from one minor to the next
set_target_properties(deploybench PROPERTIES
  LINKER_LANGUAGE CXX VERSION ${deploybench_version} SOVERSION ${so_version} INSTALL_RPATH "$ORIGIN")

install(TARGETS deploybench EXPORT deploybench_targets LIBRARY DESTINATION lib)
install(TARGETS infer bench preprocess RUNTIME DESTINATION bin)
install(FILES deploybench/classifier.hpp deploybench/error.hpp deploybench/export.hpp deploybench/predictions.hpp
  DESTINATION include/deploybench)
install(EXPORT deploybench_targets NAMESPACE deploybench:: FILE deploybench-config.cmake DESTINATION lib/cmake/deploybench)
write_basic_package_version_file(deploybench-config-version.cmake VERSION ${deploybench_version} COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/deploybench-config-version.cmake" DESTINATION lib/cmake/deploybench)
