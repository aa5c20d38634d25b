// Any bytes as an ONNX file: either a load_error, or an engine whose answers do not depend on the batch.
#include <cstdint>
#include <string_view>

#include "tests/fuzz/model_checks.hpp"

using namespace troupe::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    check_answers(compile({reinterpret_cast<const char*>(data), size}, {}, fuzz_limits));
  } catch (const load_error&) {
  }
  return 0;
}
