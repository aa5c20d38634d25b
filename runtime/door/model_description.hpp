#pragma once
// What a model says of itself in the terms of the Open Inference Protocol (V2): the names, types and shapes
// of its tensors, as metadata and configuration have them.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/codec/v2_tensor.hpp"

namespace troupe::model {
class loaded_model;
}

namespace troupe::serving {

struct tensor_description {
  std::string name;
  codec::v2_type type = codec::v2_type::fp32;
  std::vector<std::int64_t> shape;  ///< without the rows in front
};

struct model_description {
  std::string name;
  std::string version;
  std::string platform;  ///< troupe_ENGINE
  std::vector<tensor_description> inputs;
  std::vector<tensor_description> outputs;
};

[[nodiscard]] model_description describe(const model::loaded_model& m);

}  // namespace troupe::serving
