# Everything that is not ours, as vendor_<name> targets. All of it comes from Debian 12 or 13, but librdkafka and
# hiredis, which scripts/deps builds into TROUPE_DEPS_PREFIX where Debian's own are too old.
find_package(PkgConfig REQUIRED)

function(troupe_vendor name)
  add_library(vendor_${name} INTERFACE)
  target_link_libraries(vendor_${name} INTERFACE ${ARGN})
endfunction()

macro(troupe_need variable what)
  if(NOT ${variable})
    message(FATAL_ERROR "${what} was not found: run scripts/deps${ARGN}")
  endif()
endmacro()

find_package(yaml-cpp CONFIG QUIET)
troupe_need(yaml-cpp_FOUND yaml-cpp)
if(TARGET yaml-cpp::yaml-cpp)
  troupe_vendor(yaml yaml-cpp::yaml-cpp)
else()  # before 0.8 the target has no namespace
  troupe_vendor(yaml yaml-cpp)
endif()

foreach(package nlohmann_json spdlog prometheus-cpp CLI11 Boost)
  # Boost by its own config, not by CMake's FindBoost; the headers are all that is used.
  find_package(${package} CONFIG QUIET)
  troupe_need(${package}_FOUND ${package})
endforeach()
find_package(OpenSSL QUIET)
troupe_need(OPENSSL_FOUND OpenSSL)
troupe_vendor(nlohmann_json nlohmann_json::nlohmann_json)
troupe_vendor(spdlog spdlog::spdlog)
troupe_vendor(prometheus prometheus-cpp::core)
troupe_vendor(cli11 CLI11::CLI11)
troupe_vendor(boost Boost::headers)
find_package(CURL QUIET)
troupe_need(CURL_FOUND libcurl)
troupe_vendor(curl CURL::libcurl)
troupe_vendor(openssl OpenSSL::SSL OpenSSL::Crypto)

find_package(ZLIB QUIET)
troupe_need(ZLIB_FOUND zlib)
troupe_vendor(zlib ZLIB::ZLIB)

foreach(package simdjson libxxhash libturbojpeg libpng)
  pkg_check_modules(${package} QUIET IMPORTED_TARGET ${package})
  troupe_need(${package}_FOUND ${package})
endforeach()
troupe_vendor(simdjson PkgConfig::simdjson)
troupe_vendor(xxhash PkgConfig::libxxhash)
troupe_vendor(pictures PkgConfig::libturbojpeg PkgConfig::libpng)

# Debian's protobuf and gRPC have no CMake packages. pkg-config's list for gRPC is of its static libraries' needs.
find_package(Protobuf MODULE QUIET)
troupe_need(Protobuf_FOUND protobuf)
troupe_need(Protobuf_PROTOC_EXECUTABLE "protoc, protobuf's compiler,")
pkg_check_modules(grpcpp QUIET grpc++)
troupe_need(grpcpp_FOUND "gRPC for C++ (grpc++)")
find_library(GRPCPP_LIBRARY grpc++ HINTS ${grpcpp_LIBRARY_DIRS})
find_library(GRPC_LIBRARY grpc HINTS ${grpcpp_LIBRARY_DIRS})
find_library(GPR_LIBRARY gpr HINTS ${grpcpp_LIBRARY_DIRS})
find_library(ABSL_SYNCHRONIZATION_LIBRARY absl_synchronization HINTS ${grpcpp_LIBRARY_DIRS})  # used by gRPC's headers
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin)
troupe_need(GRPC_CPP_PLUGIN "grpc_cpp_plugin, gRPC's plugin for protoc,")
troupe_vendor(protobuf protobuf::libprotobuf)
troupe_vendor(grpc "${GRPCPP_LIBRARY}" "${GRPC_LIBRARY}" "${GPR_LIBRARY}" "${ABSL_SYNCHRONIZATION_LIBRARY}"
  vendor_protobuf)
target_include_directories(vendor_grpc SYSTEM INTERFACE ${grpcpp_INCLUDE_DIRS})

# Debian's CAF 0.17 has no CMake package.
find_path(CAF_INCLUDE_DIRECTORY caf/all.hpp)
find_library(CAF_CORE_LIBRARY caf_core)
troupe_need(CAF_INCLUDE_DIRECTORY "CAF (caf/all.hpp)")
troupe_need(CAF_CORE_LIBRARY "CAF (libcaf_core)")
troupe_vendor(caf "${CAF_CORE_LIBRARY}")
target_include_directories(vendor_caf SYSTEM INTERFACE "${CAF_INCLUDE_DIRECTORY}")

# librdkafka >= 2.8, hiredis >= 1.0 with TLS: static from the prefix, else the system's when new enough.
if(EXISTS "${TROUPE_DEPS_PREFIX}/lib/librdkafka.a")
  file(STRINGS "${TROUPE_DEPS_PREFIX}/include/librdkafka/rdkafka.h" line REGEX "#define RD_KAFKA_VERSION 0x")
  string(REGEX MATCH "0x([0-9a-f][0-9a-f])([0-9a-f][0-9a-f])([0-9a-f][0-9a-f])" _ "${line}")
  math(EXPR major "0x${CMAKE_MATCH_1}")
  math(EXPR minor "0x${CMAKE_MATCH_2}")
  math(EXPR patch "0x${CMAKE_MATCH_3}")
  set(RDKAFKA_FOUND_VERSION "${major}.${minor}.${patch}")
  if(RDKAFKA_FOUND_VERSION VERSION_LESS 2.8)
    message(FATAL_ERROR "librdkafka ${RDKAFKA_FOUND_VERSION} in ${TROUPE_DEPS_PREFIX} is older than 2.8: run scripts/deps")
  endif()
  foreach(package libzstd liblz4)
    pkg_check_modules(${package} QUIET IMPORTED_TARGET ${package})
    troupe_need(${package}_FOUND ${package})
  endforeach()
  # The order is the linker's: users before what they use.
  troupe_vendor(rdkafka "${TROUPE_DEPS_PREFIX}/lib/librdkafka.a" OpenSSL::SSL OpenSSL::Crypto ZLIB::ZLIB
    PkgConfig::libzstd PkgConfig::liblz4 Threads::Threads m ${CMAKE_DL_LIBS})
  target_include_directories(vendor_rdkafka SYSTEM INTERFACE "${TROUPE_DEPS_PREFIX}/include")
else()
  pkg_check_modules(rdkafka QUIET IMPORTED_TARGET rdkafka>=2.8)
  troupe_need(rdkafka_FOUND "librdkafka >= 2.8 (neither in ${TROUPE_DEPS_PREFIX} nor in the system)")
  set(RDKAFKA_FOUND_VERSION "${rdkafka_VERSION}")
  troupe_vendor(rdkafka PkgConfig::rdkafka)
endif()

if(EXISTS "${TROUPE_DEPS_PREFIX}/lib/libhiredis_ssl.a")
  troupe_vendor(hiredis "${TROUPE_DEPS_PREFIX}/lib/libhiredis_ssl.a" "${TROUPE_DEPS_PREFIX}/lib/libhiredis.a"
    OpenSSL::SSL OpenSSL::Crypto)
  target_include_directories(vendor_hiredis SYSTEM INTERFACE "${TROUPE_DEPS_PREFIX}/include")
else()
  pkg_check_modules(hiredis QUIET IMPORTED_TARGET hiredis>=1.0 hiredis_ssl>=1.0)
  troupe_need(hiredis_FOUND "hiredis >= 1.0 with TLS (neither in ${TROUPE_DEPS_PREFIX} nor in the system)")
  troupe_vendor(hiredis PkgConfig::hiredis)
endif()
message(STATUS "librdkafka ${RDKAFKA_FOUND_VERSION}")
