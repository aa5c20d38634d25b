// Any bytes as a model of xgboost: either a load_error, or an engine whose answers do not depend on the
// batch.
#include <cstdint>
#include <string_view>

#include "runtime/model/xgboost.hpp"
#include "tests/fuzz/model_checks.hpp"

using namespace troupe::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  graph_hints hints;
  hints.explain = true;
  try {
    const bool binary = size > 1 && data[1] != 0x22 && data[1] != 0x20;  // of JSON the second byte is a quote
    check_answers(read_xgboost({reinterpret_cast<const char*>(data), size}, binary, hints, fuzz_limits));
  } catch (const load_error&) {
  }
  return 0;
}
