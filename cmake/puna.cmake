# Headers of libraries that most sources include. They cost a second or two each time they are read.
set(PUNA_LARGE_HEADERS <algorithm> <fmt/format.h> <functional> <map> <nlohmann/json.hpp> <string> <vector>)

# Compiles headers once for the target.
function(puna_precompile target)
  if(PUNA_PCH)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()

# Takes the headers that another target, with the same options, has compiled.
function(puna_precompiled_as target other)
  if(PUNA_PCH)
    target_precompile_headers(${target} REUSE_FROM ${other})
  endif()
endfunction()

# Release builds of what only drives the fast code: a quarter less time to compile.
function(puna_compile_quickly target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

# Sources compiled thirty-two at a time, which read their headers once: half of the time of a build from nothing, more of one after a change.
function(puna_compile_together target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${PUNA_TOGETHER} UNITY_BUILD_BATCH_SIZE 32)
endfunction()

# A folder of src/ is a static library puna_<folder>; what it links is what it may include.
function(puna_folder name)
  cmake_parse_arguments(ARG "" "" "FLOORS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cc)
  add_library(puna_${name} STATIC ${sources})
  target_include_directories(puna_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  list(TRANSFORM ARG_FLOORS PREPEND puna_)
  target_link_libraries(puna_${name} PUBLIC ${ARG_FLOORS} ${ARG_LIBRARIES})
  puna_compile_together(puna_${name})
endfunction()

# kernels/cuda/ as a library of its own, libpuna_cuda.so beside the program, which loads it when a GPU is asked for. Where there is no
# nvcc there is no such library, and the program says so. It brings its own copy of the floors it stands on.
function(puna_cuda_library)
  if(NOT PUNA_CUDA OR NOT CMAKE_CUDA_COMPILER)
    return()
  endif()
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.9)  # cuBLASLt's row scales of FP8
    message(STATUS "No libpuna_cuda.so: nvcc is ${CMAKE_CUDA_COMPILER_VERSION}, expected 12.9 or later")
    return()
  endif()
  find_package(CUDAToolkit)
  if(NOT TARGET CUDA::cublasLt OR NOT TARGET CUDA::cudart_static)
    message(STATUS "No libpuna_cuda.so: CUDA's toolkit is here without cuBLASLt")
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/kernels/cuda/*.cu)
  add_library(puna_cuda SHARED ${sources} tensor/format.cc tensor/tensor.cc tensor/blocks_decode.cc tensor/blocks_encode.cc
                               tensor/kblocks_encode.cc tensor/scale_search.cc tensor/float_codecs.cc)
  target_include_directories(puna_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_definitions(puna_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:FMT_USE_CONSTEXPR=1;FMT_CONSTEVAL=>")  # fmt 9 has half of its constexpr off for nvcc
  target_link_libraries(puna_cuda PRIVATE CUDA::cublasLt CUDA::cudart_static fmt::fmt)
  set_target_properties(puna_cuda PROPERTIES CUDA_ARCHITECTURES "80-real;90a-real"
                                             CUDA_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden
                                             LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endfunction()

# recipes/**/*.yaml inside the program: shipped_recipes() of train/recipe.h.
function(puna_embed_recipes target)
  file(GLOB_RECURSE recipes CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/recipes ${PROJECT_SOURCE_DIR}/recipes/*.yaml)
  set(rows "")
  foreach(recipe IN LISTS recipes)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/recipes/${recipe})
    file(READ ${PROJECT_SOURCE_DIR}/recipes/${recipe} text)
    string(REGEX REPLACE "\\.yaml$" "" name ${recipe})
    string(APPEND rows "    {\"${name}\", R\"yaml(${text})yaml\"},\n")
  endforeach()
  set(source ${CMAKE_CURRENT_BINARY_DIR}/shipped_recipes.cc)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT "// Made by cmake/puna.cmake from recipes/.
#include <vector>

#include \"train/recipe.h\"

namespace puna {

std::span<const ShippedRecipe> shipped_recipes() {
  static const std::vector<ShippedRecipe> recipes = {
@rows@  };
  return recipes;
}

}  // namespace puna
")
  target_sources(${target} PRIVATE ${source})
endfunction()

# The bytes of `file` inside the target, from the symbol puna_<name>_begin to puna_<name>_end.
function(puna_embed_file target name file)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/embedded_${name}.S)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT "// Made by cmake/puna.cmake.
        .section .rodata
        .global puna_@name@_begin, puna_@name@_end
        .balign 64
puna_@name@_begin:
        .incbin \"@file@\"
puna_@name@_end:
        .section .note.GNU-stack, \"\", %progbits
")
  set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS ${file})
  target_sources(${target} PRIVATE ${source})
endfunction()

# The page of web/, where npm has fetched what it is built with (scripts/setup does), else a line that says how to get it.
function(puna_embed_page target)
  find_program(PUNA_NPM npm)
  set(web ${PROJECT_SOURCE_DIR}/web)
  if(PUNA_NPM AND EXISTS ${web}/node_modules/.package-lock.json)
    set(page ${web}/dist/page.html.gz)
    set(policy ${web}/dist/page.csp)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${web}/src/* ${web}/*.json ${web}/*.ts ${web}/*.js ${web}/*.html)
    list(FILTER sources EXCLUDE REGEX "/(node_modules|dist)/")
    add_custom_command(OUTPUT ${page} ${policy} COMMAND ${PUNA_NPM} run --silent build WORKING_DIRECTORY ${web} DEPENDS ${sources}
                       COMMENT "Building the page" VERBATIM)
    add_custom_target(puna_page DEPENDS ${page} ${policy})
    add_dependencies(${target} puna_page)
  else()
    set(page ${CMAKE_CURRENT_BINARY_DIR}/no_page.html.gz)
    set(policy ${CMAKE_CURRENT_BINARY_DIR}/no_page.csp)
    file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/no_page.html "<!doctype html><title>Puna</title><p>This build of Puna has no page: it was \
built without npm. The API is here all the same.")
    file(ARCHIVE_CREATE OUTPUT ${page} PATHS ${CMAKE_CURRENT_BINARY_DIR}/no_page.html FORMAT raw COMPRESSION GZip)
    file(WRITE ${policy} "default-src 'none'")
  endif()
  puna_embed_file(${target} page ${page})
  puna_embed_file(${target} policy ${policy})
endfunction()

# tests/<folder>/*_test.cc become one program test_<folder>. LABELS: of all its tests, for ctest -L and -LE.
function(puna_tests name)
  cmake_parse_arguments(ARG "" "LABELS" "" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE ${ARG_UNPARSED_ARGUMENTS} GTest::gtest_main GTest::gmock)
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(test_${name} PRIVATE PUNA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  puna_compile_quickly(test_${name})
  puna_compile_together(test_${name})
  if(name STREQUAL "base")
    puna_precompile(test_base ${PUNA_LARGE_HEADERS} <gmock/gmock.h> <gtest/gtest.h>)
  else()
    puna_precompiled_as(test_${name} test_base)
  endif()
  gtest_discover_tests(test_${name} DISCOVERY_TIMEOUT 60 PROPERTIES LABELS "${ARG_LABELS}")
endfunction()
