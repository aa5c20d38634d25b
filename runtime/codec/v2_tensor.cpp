#include "runtime/codec/v2_tensor.hpp"

#include <array>

namespace troupe::codec {
namespace {

struct type_text {
  std::string_view name;
  std::size_t size;
};

constexpr std::array<type_text, 14> types = {{{"BOOL", 1},
                                              {"UINT8", 1},
                                              {"UINT16", 2},
                                              {"UINT32", 4},
                                              {"UINT64", 8},
                                              {"INT8", 1},
                                              {"INT16", 2},
                                              {"INT32", 4},
                                              {"INT64", 8},
                                              {"FP16", 2},
                                              {"BF16", 2},
                                              {"FP32", 4},
                                              {"FP64", 8},
                                              {"BYTES", 0}}};

}  // namespace

std::string_view name_of(v2_type type) {
  return types[static_cast<std::size_t>(type)].name;
}

std::optional<v2_type> v2_type_of(std::string_view name) {
  if (name == "FP32") return v2_type::fp32;
  for (std::size_t i = 0; i < types.size(); ++i)
    if (types[i].name == name) return static_cast<v2_type>(i);
  return {};
}

std::size_t size_of(v2_type type) {
  return types[static_cast<std::size_t>(type)].size;
}

}  // namespace troupe::codec
