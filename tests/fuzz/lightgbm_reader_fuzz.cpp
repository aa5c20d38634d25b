// Any bytes as a model of lightgbm: either a load_error, or an engine whose answers do not depend on the
// batch.
#include <cstdint>
#include <string_view>

#include "runtime/model/lightgbm.hpp"
#include "tests/fuzz/model_checks.hpp"

using namespace troupe::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  graph_hints hints;
  hints.explain = true;
  try {
    check_answers(read_lightgbm({reinterpret_cast<const char*>(data), size}, hints, fuzz_limits));
  } catch (const load_error&) {
  }
  return 0;
}
