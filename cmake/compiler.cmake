# Language, warnings, optimisation, sanitizers: the same for every target of the project.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Debug, RelWithDebInfo, Release" FORCE)
endif()
# Line tables only: enough for a stack trace or perf, a third of the size of full debug information.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O3 -g1 -DNDEBUG")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()

find_package(Threads REQUIRED)

add_library(troupe_flags INTERFACE)
target_compile_options(troupe_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
# GCC 12 sees an overlap in "text" + std::to_string(n) that is not there (its bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(troupe_flags INTERFACE -Wno-restrict)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(troupe_flags INTERFACE -Wno-unknown-pragmas -Wno-unknown-warning-option)
endif()
target_include_directories(troupe_flags INTERFACE "${PROJECT_SOURCE_DIR}")
target_link_libraries(troupe_flags INTERFACE Threads::Threads)

add_link_options(-Wl,--as-needed)

# CAF 0.17.6 aborts under _GLIBCXX_ASSERTIONS and UBSan (it dereferences a null shared_ptr to an empty tuple),
# and ThreadSanitizer needs a CAF and a gRPC built with it: AddressSanitizer is the one that works everywhere. The tsan preset
# is for the tests of what uses neither: http, guard, codec, batches, policy, kafka.
set(TROUPE_SANITIZE "" CACHE STRING "Sanitizers for everything, for example: address")
if(TROUPE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "TROUPE_FUZZ needs clang: configure with -DCMAKE_CXX_COMPILER=clang++ (preset fuzz)")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link,address -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address)
elseif(TROUPE_SANITIZE)
  add_compile_options(-fsanitize=${TROUPE_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${TROUPE_SANITIZE})
endif()

# GCC reads `#pragma GCC target` in the sources of wider instruction sets; clang is told with their options. It then uses
# them in what such a file instantiates of other headers, too: good enough for fuzzing, not for a binary that must run anywhere.
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  foreach(kind dense forest shap)
    set_source_files_properties("${PROJECT_SOURCE_DIR}/runtime/model/${kind}_avx2.cpp"
      PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mpopcnt")
    set_source_files_properties("${PROJECT_SOURCE_DIR}/runtime/model/${kind}_avx512.cpp"
      PROPERTIES COMPILE_OPTIONS "-mavx512f;-mavx512dq;-mavx512vl;-mavx512bw;-mavx2;-mfma;-mpopcnt")
  endforeach()
endif()

# librdkafka's RD_KAFKA_V_... are statement expressions, which clang's -Wpedantic refuses.
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  set_source_files_properties("${PROJECT_SOURCE_DIR}/cli/raw_records.cpp"
    PROPERTIES COMPILE_OPTIONS "-Wno-gnu-statement-expression")
endif()
