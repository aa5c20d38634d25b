#include "runtime/door/model_description.hpp"

#include "runtime/codec/v2_rows.hpp"
#include "runtime/model/model.hpp"

namespace troupe::serving {
namespace {

using codec::v2_type;

std::vector<tensor_description> inputs_of(const model::loaded_model& m) {
  const auto& schema = m.schema();
  std::vector<tensor_description> list;
  for (const auto& one : schema.inputs)
    list.push_back({one.name, one.holds == model::tensor_input::kind::number ? v2_type::fp32 : v2_type::bytes, one.shape});
  if (!list.empty()) return list;
  list.push_back({std::string(codec::v2_tabular_input), v2_type::fp32,
                  {static_cast<std::int64_t>(schema.features.size())}});
  return list;
}

std::vector<tensor_description> outputs_of(const model::loaded_model& m) {
  const auto& output = m.output();
  const auto size = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  if (output.kind == model::task::classification) {
    if (output.top_k > 0)
      return {{"probabilities", v2_type::fp32, {size(output.top_k)}}, {"predicted_class", v2_type::bytes, {size(output.top_k)}}};
    return {{"probabilities", v2_type::fp32, {size(output.width)}}, {"predicted_class", v2_type::bytes, {}}};
  }
  std::vector<tensor_description> list;
  const auto add = [&](const std::string& name, std::size_t width) {
    list.push_back({name, v2_type::fp64, width == 1 ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{size(width)}});
  };
  for (const auto& part : output.parts) add(part.name, part.width);
  if (list.empty()) add("prediction", output.width);
  return list;
}

}  // namespace

model_description describe(const model::loaded_model& m) {
  return {m.name(), m.version(), "troupe_" + std::string(m.engine().kind()), inputs_of(m), outputs_of(m)};
}

}  // namespace troupe::serving
