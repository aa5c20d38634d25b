#include "runtime/observe/otlp_json.hpp"

#include <charconv>
#include <nlohmann/json.hpp>

namespace troupe::observe {
namespace {

using json = nlohmann::ordered_json;

constexpr int status_error = 2;
constexpr unsigned has_is_remote = 0x100, is_remote = 0x200;  // of span flags, beside W3C's eight
constexpr std::size_t most_text = 4096;

json value_of(const attribute& a) {
  if (const auto* text = std::get_if<std::string>(&a.value))
    return {{"stringValue", text->substr(0, most_text)}};
  if (const auto* number = std::get_if<std::int64_t>(&a.value))
    return {{"intValue", std::to_string(*number)}};
  return {{"boolValue", std::get<bool>(a.value)}};
}

json list_of(const attributes& all) {
  json list = json::array();
  for (const attribute& a : all) list.push_back({{"key", a.name}, {"value", value_of(a)}});
  return list;
}

json object_of(const span& s) {
  json o;
  o["traceId"] = policy::hex(s.trace);
  o["spanId"] = policy::hex(s.id);
  if (!s.state.empty()) o["traceState"] = s.state;
  if (s.parent != 0) o["parentSpanId"] = policy::hex(s.parent);
  o["flags"] = s.flags | has_is_remote | (s.remote_parent ? is_remote : 0U);
  o["name"] = s.name;
  o["kind"] = static_cast<int>(s.kind);
  o["startTimeUnixNano"] = std::to_string(s.begin_ns);
  o["endTimeUnixNano"] = std::to_string(s.end_ns);
  o["attributes"] = list_of(s.attributes);
  if (s.failed) o["status"] = {{"message", s.message}, {"code", status_error}};
  return o;
}

}  // namespace

std::string otlp_request(const otlp_sender& from, std::span<const span> spans) {
  json list = json::array();
  for (const span& s : spans) list.push_back(object_of(s));
  json scope;
  scope["scope"] = {{"name", "troupe"}, {"version", from.version}};
  scope["spans"] = std::move(list);
  json resource;
  resource["resource"] = {{"attributes", list_of(from.resource)}};
  resource["scopeSpans"] = json::array({std::move(scope)});
  json request;
  request["resourceSpans"] = json::array({std::move(resource)});
  return request.dump(-1, ' ', false, json::error_handler_t::replace);
}

otlp_refusal otlp_response(std::string_view body) {
  otlp_refusal said;
  const json response = json::parse(body, nullptr, false);
  if (!response.is_object()) return said;
  const auto partial = response.find("partialSuccess");
  if (partial == response.end() || !partial->is_object()) return said;
  if (const auto count = partial->find("rejectedSpans"); count != partial->end()) {
    if (count->is_number_unsigned()) {
      said.spans = count->get<std::size_t>();
    } else if (count->is_string()) {
      const auto& text = count->get_ref<const std::string&>();
      std::from_chars(text.data(), text.data() + text.size(), said.spans);
    }
  }
  if (const auto why = partial->find("errorMessage"); why != partial->end() && why->is_string())
    said.why = why->get<std::string>();
  return said;
}

}  // namespace troupe::observe
