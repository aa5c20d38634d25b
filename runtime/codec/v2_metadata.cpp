#include "runtime/codec/v2_metadata.hpp"

#include <nlohmann/json.hpp>

#include "runtime/codec/v2_response.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {
namespace {

using json = nlohmann::ordered_json;

std::string text_of(const json& j) {
  return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

json tensors(const std::vector<v2_tensor_spec>& specs) {
  json list = json::array();
  for (const auto& one : specs)
    list.push_back({{"name", one.name}, {"datatype", name_of(one.type)}, {"shape", one.shape}});
  return list;
}

json configured(const std::vector<v2_tensor_spec>& specs) {
  json list = json::array();
  for (const auto& one : specs) {
    json dims(std::vector<std::int64_t>(one.shape.begin() + 1, one.shape.end()));
    json entry = {{"name", one.name}, {"data_type", v2_config_type(one.type)}};
    // A dimension is needed; one value a row has the reshaped form.
    if (dims.empty()) {
      entry["dims"] = {1};
      entry["reshape"] = {{"shape", json::array()}};
    } else {
      entry["dims"] = dims;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

json duration(const v2_duration& d) {
  return {{"count", d.count}, {"ns", d.ns}};
}

}  // namespace

std::string v2_server_metadata(const v2_server_info& info) {
  return text_of({{"name", info.name}, {"version", info.version}, {"extensions", info.extensions}});
}

std::string v2_model_metadata(const model::loaded_model& m, std::span<const std::string> versions) {
  return text_of({{"name", m.name()},
                  {"versions", std::vector<std::string>(versions.begin(), versions.end())},
                  {"platform", v2_platform_of(m)},
                  {"inputs", tensors(v2_inputs_of(m))},
                  {"outputs", tensors(v2_outputs_of(m))}});
}

std::string v2_config_type(v2_type type) {
  return "TYPE_" + (type == v2_type::bytes ? std::string("STRING") : std::string(name_of(type)));
}

std::string v2_model_config(const model::loaded_model& m, const v2_config_info& info) {
  json j = {{"name", m.name()},
            {"platform", v2_platform_of(m)},
            {"backend", "troupe"},
            {"version_policy", {{"specific", {{"versions", info.versions}}}}},
            {"max_batch_size", info.max_batch_size},
            {"input", configured(v2_inputs_of(m))},
            {"output", configured(v2_outputs_of(m))}};
  j["dynamic_batching"] = json::object();
  if (info.priority_levels > 0) {
    j["dynamic_batching"]["priority_levels"] = info.priority_levels;
    j["dynamic_batching"]["default_priority_level"] = 1;
  }
  if (info.default_timeout_us > 0)
    j["dynamic_batching"]["default_queue_policy"] = {
        {"timeout_action", "REJECT"},
        {"default_timeout_microseconds", info.default_timeout_us},
        {"allow_timeout_override", true}};
  j["instance_group"] = json::array();
  j["parameters"] = json::object();
  j["model_transaction_policy"] = {{"decoupled", false}};
  return text_of(j);
}

std::string v2_statistics(std::span<const v2_model_stats> models) {
  json list = json::array();
  for (const auto& m : models) {
    json batches = json::array();
    for (const auto& b : m.batches)
      batches.push_back({{"batch_size", b.batch_size},
                         {"compute_input", duration(b.compute_input)},
                         {"compute_infer", duration(b.compute_infer)},
                         {"compute_output", duration(b.compute_output)}});
    list.push_back({{"name", m.name},
                    {"version", m.version},
                    {"last_inference", m.last_inference},
                    {"inference_count", m.inference_count},
                    {"execution_count", m.execution_count},
                    {"inference_stats",
                     {{"success", duration(m.success)},
                      {"fail", duration(m.fail)},
                      {"queue", duration(m.queue)},
                      {"compute_input", duration(m.compute_input)},
                      {"compute_infer", duration(m.compute_infer)},
                      {"compute_output", duration(m.compute_output)},
                      {"cache_hit", duration(m.cache_hit)},
                      {"cache_miss", duration(m.cache_miss)}}},
                    {"batch_stats", std::move(batches)}});
  }
  return text_of({{"model_stats", std::move(list)}});
}

std::string v2_repository_index(std::span<const v2_index_entry> models) {
  json list = json::array();
  for (const auto& m : models) {
    json one = {{"name", m.name}};
    if (!m.version.empty()) one["version"] = m.version;
    if (!m.state.empty()) one["state"] = m.state;
    one["reason"] = m.reason;
    list.push_back(std::move(one));
  }
  return text_of(list);
}

}  // namespace troupe::codec
