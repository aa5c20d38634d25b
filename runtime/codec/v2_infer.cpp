#include "runtime/codec/v2_infer.hpp"

#include <cstring>
#include <string>
#include <utility>

#include "runtime/codec/v2_rows.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {
namespace {

/// The body is the only input, whose shape follows from its size.
request_fault read_raw(std::string_view body, const model::loaded_model& m, v2_tools& tools,
                       std::string& kept) {
  const auto inputs = v2_inputs_of(m);
  if (inputs.size() != 1)
    return {error_code::invalid_features, asked_model(m) + " has " + std::to_string(inputs.size()) +
                                              " inputs: a raw body is for models with one"};
  const v2_tensor_spec& in = inputs[0];
  std::vector<std::int64_t> shape = in.shape;
  if (in.type == v2_type::bytes) {
    for (std::size_t k = 1; k < shape.size(); ++k)
      if (shape[k] != 1)
        return {error_code::invalid_features, "a raw body is one element, " + asked_model(m) + " takes more"};
    shape[0] = 1;
    const auto size = static_cast<std::uint32_t>(body.size());
    char length[sizeof size];
    std::memcpy(length, &size, sizeof size);
    kept.assign(length, sizeof size);
    kept += body;
    body = kept;
  } else {
    std::size_t row = size_of(in.type);
    for (std::size_t k = 1; k < shape.size(); ++k) row *= static_cast<std::size_t>(shape[k]);
    if (row == 0 || body.empty() || body.size() % row != 0)
      return {error_code::invalid_features, "the raw body has " + std::to_string(body.size()) +
                                                " bytes, a row of " + asked_model(m) + " has " +
                                                std::to_string(row)};
    shape[0] = static_cast<std::int64_t>(body.size() / row);
  }
  tools.parser.raw(body, inputs[0].name, name_of(in.type), std::move(shape), tools.request);
  return {};
}

void read_values(const v2_request& request, const infer_options& options, v2_tools& tools, record& r,
                 record_batch& batch, v2_plan& plan) {
  request_fault fault;
  if (r.error == error_code::none) fault = tools.writer.plan(*r.model, request, plan);
  if (r.error == error_code::none && !fault) fault = read_v2_rows(request.inputs, r, batch, options.limits());
  infer_terms::finish(r, batch, options, fault);
}

}  // namespace

void read_v2(const v2_request& request, infer_head head, const infer_options& options, v2_tools& tools,
             record& r, record_batch& batch, v2_plan& plan, const request_fault& fault) {
  head.id = request.id;
  head.priority = request.priority;
  head.timeout = request.timeout_us * 1e3;
  head.explain = request.explain;
  tools.terms.begin(r, batch, head, options, fault);
  read_values(request, options, tools, r, batch, plan);
}

void read_v2_body(std::string_view body, std::optional<std::size_t> header_length, infer_head head,
                  const infer_options& options, v2_tools& tools, record& r, record_batch& batch,
                  v2_plan& plan, bool& own_id) {
  own_id = false;
  if (header_length != std::size_t{0}) {
    const v2_limits limits{.max_elements = options.max_elements};
    const request_fault fault = tools.parser.parse(body, header_length, limits, tools.request);
    own_id = !tools.request.id.empty();
    return read_v2(tools.request, head, options, tools, r, batch, plan, fault);
  }
  tools.terms.begin(r, batch, head, options);
  if (r.error != error_code::none) return infer_terms::finish(r, batch, options, {});
  std::string kept;
  std::string name;
  if (const auto fault = read_raw(body, *r.model, tools, kept))
    return infer_terms::finish(r, batch, options, fault);
  // The name came from a list that is gone.
  name = r.model->schema().inputs.empty() ? std::string(v2_tabular_input) : r.model->schema().inputs[0].name;
  tools.request.inputs[0].name = name;
  read_values(tools.request, options, tools, r, batch, plan);
}

}  // namespace troupe::codec
