# The floors, each a set of libraries that link only what stands below: messages < runtime < actors < cli.
# A folder without a .cpp is a header-only library under the same name.

# troupe_library(NAME FOLDER [USES target...] [EXCEPT file...] [ALSO folder...])
function(troupe_library name folder)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "USES;EXCEPT;ALSO")
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${folder}/*.cpp")
  foreach(other IN LISTS arg_ALSO)
    file(GLOB more CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${other}/*.cpp")
    list(APPEND sources ${more})
  endforeach()
  foreach(file IN LISTS arg_EXCEPT)
    list(REMOVE_ITEM sources "${PROJECT_SOURCE_DIR}/${folder}/${file}")
  endforeach()
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC troupe_flags ${arg_USES})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE troupe_flags ${arg_USES})
  endif()
endfunction()

# The version header is written at build time, so that a new commit shows without configuring again.
set(TROUPE_GENERATED_DIRECTORY "${PROJECT_BINARY_DIR}/generated")
set(version_command
  "${CMAKE_COMMAND}" "-DSOURCE=${PROJECT_SOURCE_DIR}" "-DVERSION=${PROJECT_VERSION}"
  "-DCOMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}" "-DBUILD_TYPE=${CMAKE_BUILD_TYPE}"
  "-DTEMPLATE=${PROJECT_SOURCE_DIR}/cmake/version.hpp.in"
  "-DOUTPUT=${TROUPE_GENERATED_DIRECTORY}/troupe_version.hpp" -P "${PROJECT_SOURCE_DIR}/cmake/version.cmake")
add_custom_target(troupe_version_header
  BYPRODUCTS "${TROUPE_GENERATED_DIRECTORY}/troupe_version.hpp"
  COMMAND ${version_command} VERBATIM COMMENT "Version")
add_library(troupe_version INTERFACE)
target_include_directories(troupe_version INTERFACE "${TROUPE_GENERATED_DIRECTORY}")
add_dependencies(troupe_version troupe_version_header)

troupe_library(troupe_messages messages USES vendor_caf)

troupe_library(troupe_policy runtime/policy)
troupe_library(troupe_config runtime/config
  USES troupe_messages troupe_policy troupe_version vendor_yaml vendor_nlohmann_json)
troupe_library(troupe_observe runtime/observe
  USES troupe_messages troupe_policy troupe_version vendor_prometheus vendor_spdlog vendor_nlohmann_json vendor_curl)
troupe_library(troupe_model runtime/model
  USES troupe_messages troupe_policy vendor_xxhash vendor_nlohmann_json vendor_yaml vendor_zlib vendor_pictures)
target_compile_definitions(troupe_model PRIVATE
  TROUPE_ONNXRUNTIME_LIBRARY="${PROJECT_SOURCE_DIR}/.deps/onnxruntime/lib/libonnxruntime.so")
target_link_libraries(troupe_model PUBLIC ${CMAKE_DL_LIBS} Threads::Threads)
troupe_library(troupe_codec runtime/codec
  USES troupe_messages troupe_policy troupe_model vendor_simdjson vendor_xxhash vendor_nlohmann_json)
troupe_library(troupe_batches runtime/batches
  USES troupe_messages troupe_policy troupe_model troupe_codec vendor_nlohmann_json)
troupe_library(troupe_kafka runtime/kafka USES troupe_messages troupe_policy vendor_rdkafka)
troupe_library(troupe_faults runtime/faults
  USES troupe_messages troupe_policy troupe_config troupe_kafka vendor_nlohmann_json vendor_caf)
troupe_library(troupe_store runtime/store USES troupe_messages troupe_policy vendor_hiredis vendor_openssl)
troupe_library(troupe_http runtime/http
  USES troupe_messages troupe_policy vendor_boost vendor_openssl vendor_nlohmann_json vendor_zlib)

# Protocol files become C++ at build time. The generated code is not ours: no warnings of it, no warnings as errors.
# troupe_protocol(NAME FILE.proto...): messages, and gRPC's stubs with them.
function(troupe_protocol name)
  set(folder "${TROUPE_GENERATED_DIRECTORY}/${name}")
  file(MAKE_DIRECTORY "${folder}")
  set(sources "")
  foreach(file IN LISTS ARGN)
    cmake_path(GET file STEM stem)
    cmake_path(GET file PARENT_PATH from)
    set(made "${folder}/${stem}.pb.cc" "${folder}/${stem}.pb.h" "${folder}/${stem}.grpc.pb.cc" "${folder}/${stem}.grpc.pb.h")
    add_custom_command(OUTPUT ${made} DEPENDS "${PROJECT_SOURCE_DIR}/${file}" VERBATIM COMMENT "protoc ${file}"
      COMMAND "${Protobuf_PROTOC_EXECUTABLE}" "--proto_path=${PROJECT_SOURCE_DIR}/${from}" "--cpp_out=${folder}"
        "--grpc_out=${folder}" "--plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN}" "${PROJECT_SOURCE_DIR}/${file}")
    list(APPEND sources ${made})
  endforeach()
  add_library(${name} STATIC ${sources})
  target_compile_options(${name} PRIVATE -w)
  target_include_directories(${name} SYSTEM PUBLIC "${folder}")
  target_link_libraries(${name} PUBLIC vendor_grpc)
endfunction()
troupe_protocol(troupe_protocols runtime/grpc/inference.proto runtime/grpc/health.proto runtime/grpc/reflection.proto)
troupe_library(troupe_guard runtime/guard
  USES troupe_messages troupe_policy vendor_openssl vendor_curl vendor_nlohmann_json vendor_yaml)
troupe_library(troupe_door runtime/door
  USES troupe_messages troupe_policy troupe_model troupe_codec troupe_batches troupe_http troupe_guard troupe_observe vendor_nlohmann_json vendor_openssl)
set(door_files "openapi_source=${PROJECT_SOURCE_DIR}/runtime/door/openapi.json"
  "docs_source=${PROJECT_SOURCE_DIR}/runtime/door/docs.html")
add_custom_command(OUTPUT "${TROUPE_GENERATED_DIRECTORY}/door_assets.cpp" VERBATIM COMMENT "Embedding the API page"
  DEPENDS runtime/door/openapi.json runtime/door/docs.html cmake/embed.cmake
  COMMAND "${CMAKE_COMMAND}" "-DOUTPUT=${TROUPE_GENERATED_DIRECTORY}/door_assets.cpp" "-DHEADER=runtime/door/assets.hpp"
    "-DNAMESPACE=troupe::serving" "-DFILES=${door_files}" -P "${PROJECT_SOURCE_DIR}/cmake/embed.cmake")
target_sources(troupe_door PRIVATE "${TROUPE_GENERATED_DIRECTORY}/door_assets.cpp")
troupe_library(troupe_grpc runtime/grpc
  USES troupe_messages troupe_policy troupe_model troupe_codec troupe_door troupe_guard troupe_observe troupe_protocols vendor_grpc vendor_openssl
    vendor_simdjson vendor_zlib)
troupe_library(troupe_registry runtime/registry
  USES troupe_policy troupe_config troupe_model vendor_curl vendor_openssl vendor_nlohmann_json vendor_yaml)
troupe_library(troupe_traffic runtime/traffic
  USES troupe_protocols vendor_grpc vendor_openssl vendor_nlohmann_json)
set(TROUPE_RUNTIME_LIBRARIES troupe_policy troupe_config troupe_observe troupe_model troupe_codec troupe_kafka
  troupe_faults troupe_store troupe_http troupe_guard troupe_batches troupe_door troupe_grpc troupe_registry)

troupe_library(troupe_actors actors USES ${TROUPE_RUNTIME_LIBRARIES} vendor_caf)

# main.cpp is the program; the rest of cli/ is a library, so that tests can call it.
troupe_library(troupe_cli cli EXCEPT main.cpp ALSO cli/models cli/fault
  USES troupe_actors troupe_traffic troupe_version vendor_cli11 vendor_nlohmann_json)
if(EXISTS "${PROJECT_SOURCE_DIR}/cli/main.cpp")
  add_executable(troupe cli/main.cpp)
  target_link_libraries(troupe PRIVATE troupe_cli)
  set_target_properties(troupe PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
endif()
