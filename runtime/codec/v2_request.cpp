#include "runtime/codec/v2_request.hpp"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <string>
#include <utility>

#include "runtime/codec/dom_text.hpp"
#include "runtime/codec/json_fault.hpp"
#include "runtime/codec/json_reader.hpp"
#include "runtime/codec/json_text.hpp"

namespace troupe::codec {
namespace {

namespace dom = simdjson::dom;

request_fault malformed(std::string message) {
  return {error_code::invalid_json, std::move(message)};
}

request_fault wrong(std::string message) {
  return {error_code::invalid_features, std::move(message)};
}

bool text_in(const dom::element& e, std::string_view& to) {
  return e.get(to) == simdjson::SUCCESS && !is_marker(to);
}

/// Booleans, also as clients that write parameters as strings send them.
bool boolean_in(const dom::element& e, bool& to) {
  if (e.get(to) == simdjson::SUCCESS) return true;
  std::string_view text;
  if (e.get(text) != simdjson::SUCCESS || (text != "true" && text != "false")) return false;
  to = text == "true";
  return true;
}

}  // namespace

std::optional<std::size_t> v2_elements(std::span<const std::int64_t> shape, std::size_t most) {
  std::size_t n = 1;
  bool empty = false;
  for (const std::int64_t d : shape) {
    if (d < 0) return {};
    if (d == 0) {
      empty = true;
    } else if (static_cast<std::uint64_t>(d) > most / n) {
      return {};
    } else {
      n *= static_cast<std::size_t>(d);
    }
  }
  return empty ? 0 : n;
}

class v2_request_parser::work {
 public:
  request_fault parse(std::string_view body, std::optional<std::size_t> header_length,
                      const v2_limits& limits, v2_request& into);
  void raw(std::string_view body, std::string_view name, std::string_view datatype,
           std::vector<std::int64_t> shape, v2_request& into);

 private:
  request_fault root(const dom::object& object, std::string_view binary, bool has_binary,
                     const v2_limits& limits, v2_request& into);
  request_fault id(const dom::element& e, std::string_view json, v2_request& into);
  static request_fault parameters(const dom::element& e, v2_request& into);
  request_fault input(const dom::element& e, std::size_t i, std::string_view& binary, bool has_binary,
                      const v2_limits& limits, v2_request& into);
  static request_fault output(const dom::element& e, std::size_t i, v2_request& into);
  template <class Items>
  request_fault unique(const Items& items, const char* what);

  json_reader json_;
  std::vector<dom::element> data_;
  std::vector<std::int64_t> shapes_;
  std::vector<std::string_view> names_;
  std::string_view text_;
  std::size_t elements_ = 0;
};

request_fault v2_request_parser::work::parse(std::string_view body, std::optional<std::size_t> header_length,
                                             const v2_limits& limits, v2_request& into) {
  into.id = {};
  into.priority = into.timeout_us = 0;
  into.binary_output = into.explain = false;
  into.inputs.clear();
  into.outputs.clear();
  elements_ = 0;
  std::string_view binary;
  if (header_length) {
    if (*header_length > body.size())
      return malformed("Inference-Header-Content-Length is " + std::to_string(*header_length) +
                       ", the body has " + std::to_string(body.size()) + " bytes");
    binary = body.substr(*header_length);
    body = body.substr(0, *header_length);
  }
  text_ = body;
  dom::element e;
  json_.shrink();
  const std::string_view why = json_.read(body, e);
  if (!why.empty()) return malformed("the request" + json_fault(body, why));
  dom::object object;
  if (e.get(object) != simdjson::SUCCESS)
    return malformed("a request is a JSON object, found " + std::string(found(e)));
  return root(object, binary, header_length.has_value(), limits, into);
}

void v2_request_parser::work::raw(std::string_view body, std::string_view name, std::string_view datatype,
                                  std::vector<std::int64_t> shape, v2_request& into) {
  into = {};
  into.binary_output = true;
  shapes_ = std::move(shape);
  v2_input& one = into.inputs.emplace_back();
  one.name = name;
  one.datatype = datatype;
  one.shape = shapes_;
  one.contents.held = v2_contents::kind::raw;
  one.contents.raw = body;
}

request_fault v2_request_parser::work::root(const dom::object& object, std::string_view binary,
                                            bool has_binary, const v2_limits& limits, v2_request& into) {
  std::optional<dom::element> given_id, given_parameters, inputs, outputs;
  for (const auto field : object) {
    if (field.key == "inputs") {
      inputs = field.value;
    } else if (json_.repaired() && holds_not_a_number(field.value)) {
      return malformed("the request is not valid JSON: NaN or Infinity in '" +
                       std::string(field.key.substr(0, 64)) + "'");
    } else if (field.key == "id") {
      given_id = field.value;
    } else if (field.key == "parameters") {
      given_parameters = field.value;
    } else if (field.key == "outputs") {
      outputs = field.value;
    }
  }
  if (given_id)
    if (auto fault = id(*given_id, text_, into)) return fault;
  if (given_parameters)
    if (auto fault = parameters(*given_parameters, into)) return fault;

  dom::array list;
  if (!inputs) return malformed("the request has no inputs");
  if (inputs->get(list) != simdjson::SUCCESS)
    return malformed("inputs must be a list, found " + std::string(found(*inputs)));
  std::size_t n = 0;
  std::size_t dimensions = 0;
  for (const dom::element e : list) {
    ++n;
    dom::array shape;
    if (e["shape"].get(shape) == simdjson::SUCCESS)
      for ([[maybe_unused]] const dom::element d : shape) ++dimensions;
  }
  if (n == 0) return malformed("the request has no inputs");
  if (n > limits.max_tensors)
    return {error_code::too_large, "the request has " + std::to_string(n) + " inputs, at most " +
                                       std::to_string(limits.max_tensors) + " are taken"};
  // Reserved, since views into both are handed out.
  data_.clear();
  data_.reserve(n);
  shapes_.clear();
  shapes_.reserve(dimensions);
  into.inputs.reserve(n);
  std::size_t i = 0;
  for (const dom::element e : list)
    if (auto fault = input(e, i++, binary, has_binary, limits, into)) return fault;
  if (!binary.empty())
    return wrong(std::to_string(binary.size()) + " bytes of binary data are left over behind the last input");
  if (auto fault = unique(into.inputs, "input")) return fault;

  if (!outputs || outputs->is_null()) return {};
  if (outputs->get(list) != simdjson::SUCCESS)
    return malformed("outputs must be a list, found " + std::string(found(*outputs)));
  i = 0;
  for (const dom::element e : list) {
    if (i >= limits.max_tensors)
      return {error_code::too_large,
              "the request asks for more than " + std::to_string(limits.max_tensors) + " outputs"};
    if (auto fault = output(e, i++, into)) return fault;
  }
  return unique(into.outputs, "output");
}

template <class Items>
request_fault v2_request_parser::work::unique(const Items& items, const char* what) {
  if (items.size() < 2) return {};
  names_.clear();
  for (const auto& item : items) names_.push_back(item.name);
  std::sort(names_.begin(), names_.end());
  const auto twice = std::adjacent_find(names_.begin(), names_.end());
  if (twice == names_.end()) return {};
  return malformed(std::string(what) + " " + shown(*twice) + " is there twice");
}

request_fault v2_request_parser::work::id(const dom::element& e, std::string_view json, v2_request& into) {
  switch (e.type()) {
    case dom::element_type::STRING:
      into.id = as<std::string_view>(e);
      break;
    case dom::element_type::NULL_VALUE:
      break;
    case dom::element_type::INT64:
    case dom::element_type::UINT64:
    case dom::element_type::DOUBLE:
      into.id = number_text(json, "id");
      break;
    default:
      return malformed("id must be a string, found " + std::string(found(e)));
  }
  if (into.id.size() > max_request_id_bytes)
    return malformed("id has " + std::to_string(into.id.size()) + " bytes, more than " +
                     std::to_string(max_request_id_bytes));
  return {};
}

request_fault v2_request_parser::work::parameters(const dom::element& e, v2_request& into) {
  if (e.is_null()) return {};
  dom::object object;
  if (e.get(object) != simdjson::SUCCESS)
    return malformed("parameters must be an object, found " + std::string(found(e)));
  for (const auto field : object) {
    if (field.key == "priority") {
      if (field.value.get(into.priority) != simdjson::SUCCESS || !valid_priority(into.priority))
        return malformed("parameter priority must be an integer from 0");
    } else if (field.key == "timeout") {
      if (field.value.get(into.timeout_us) != simdjson::SUCCESS || !(into.timeout_us >= 0))
        return malformed("parameter timeout must be a number of microseconds from 0");
    } else if (field.key == "binary_data_output") {
      if (!boolean_in(field.value, into.binary_output))
        return malformed("parameter binary_data_output must be true or false");
    } else if (field.key == "explain") {
      if (!boolean_in(field.value, into.explain)) return malformed("parameter explain must be true or false");
    }
  }
  return {};
}

request_fault v2_request_parser::work::input(const dom::element& e, std::size_t i, std::string_view& binary,
                                             bool has_binary, const v2_limits& limits, v2_request& into) {
  dom::object object;
  const auto at = [&] { return "inputs[" + std::to_string(i) + "]"; };
  if (e.get(object) != simdjson::SUCCESS)
    return malformed(at() + " must be an object, found " + std::string(found(e)));
  v2_input one;
  std::optional<dom::element> name, shape, datatype, given_parameters, data;
  for (const auto field : object) {
    switch (field.key.size()) {
      case 4:
        if (field.key == "name") name = field.value;
        if (field.key == "data") data = field.value;
        break;
      case 5:
        if (field.key == "shape") shape = field.value;
        break;
      case 8:
        if (field.key == "datatype") datatype = field.value;
        break;
      case 10:
        if (field.key == "parameters") given_parameters = field.value;
        break;
      default:
        break;
    }
  }
  if (!name) return malformed(at() + " has no name");
  if (!text_in(*name, one.name))
    return malformed(at() + ".name must be a string, found " + std::string(found(*name)));
  const auto where = [&] { return "input " + shown(one.name); };
  if (!datatype) return malformed(where() + " has no datatype");
  if (!text_in(*datatype, one.datatype))
    return malformed("datatype of " + where() + " must be a string, found " + std::string(found(*datatype)));
  const auto type = v2_type_of(one.datatype);
  if (!type) return wrong(where() + " has the unknown datatype " + shown(one.datatype));
  dom::array dimensions;
  if (!shape) return malformed(where() + " has no shape");
  if (shape->get(dimensions) != simdjson::SUCCESS)
    return malformed("shape of " + where() + " must be a list of integers, found " +
                     std::string(found(*shape)));
  const std::size_t begin = shapes_.size();
  for (const dom::element d : dimensions) {
    std::int64_t size = 0;
    if (!d.is_int64() || d.get(size) != simdjson::SUCCESS || size < 0)
      return wrong("shape of " + where() + " must be integers from 0");
    shapes_.push_back(size);
  }
  one.shape = std::span<const std::int64_t>(shapes_.data() + begin, shapes_.size() - begin);
  if (one.shape.size() > max_v2_rank)
    return wrong(where() + " has " + std::to_string(one.shape.size()) + " dimensions, at most " +
                 std::to_string(max_v2_rank) + " are taken");
  const auto elements = v2_elements(one.shape, limits.max_elements);
  if (!elements || *elements > limits.max_elements - elements_)
    return {error_code::too_large,
            "the request has more than " + std::to_string(limits.max_elements) + " elements at " + where()};
  elements_ += *elements;

  std::optional<std::size_t> bytes;
  if (given_parameters && !given_parameters->is_null()) {
    dom::object parameters;
    if (given_parameters->get(parameters) != simdjson::SUCCESS)
      return malformed("parameters of " + where() + " must be an object, found " +
                       std::string(found(*given_parameters)));
    for (const auto field : parameters) {
      if (field.key != "binary_data_size") continue;
      std::uint64_t size = 0;
      if (field.value.get(size) != simdjson::SUCCESS)
        return malformed("binary_data_size of " + where() + " must be an integer from 0");
      bytes = size;
    }
  }
  if (data && bytes) return wrong(where() + " has both data and binary_data_size");
  if (data) {
    data_.push_back(*data);
    one.contents.held = v2_contents::kind::json;
    one.contents.json = &data_.back();
  } else if (!bytes) {
    return malformed(where() + " has no data");
  } else if (!has_binary) {
    return malformed(where() + " has binary_data_size, but the request no Inference-Header-Content-Length");
  } else {
    if (*bytes > binary.size())
      return wrong(where() + " has a binary_data_size of " + std::to_string(*bytes) +
                   ", but there are only " + std::to_string(binary.size()) + " bytes left");
    const std::size_t size = size_of(*type);
    if (size != 0 && *bytes != *elements * size)
      return wrong(where() + " has a binary_data_size of " + std::to_string(*bytes) +
                   ", its shape and datatype need " + std::to_string(*elements * size));
    one.contents.held = v2_contents::kind::raw;
    one.contents.raw = binary.substr(0, *bytes);
    binary.remove_prefix(*bytes);
  }
  into.inputs.push_back(one);
  return {};
}

request_fault v2_request_parser::work::output(const dom::element& e, std::size_t i, v2_request& into) {
  dom::object object;
  const auto at = [&] { return "outputs[" + std::to_string(i) + "]"; };
  if (e.get(object) != simdjson::SUCCESS)
    return malformed(at() + " must be an object, found " + std::string(found(e)));
  v2_output_wish one;
  std::optional<dom::element> name, given_parameters;
  for (const auto field : object) {
    if (field.key == "name") name = field.value;
    if (field.key == "parameters") given_parameters = field.value;
  }
  if (!name) return malformed(at() + " has no name");
  if (!text_in(*name, one.name))
    return malformed(at() + ".name must be a string, found " + std::string(found(*name)));
  if (given_parameters && !given_parameters->is_null()) {
    dom::object parameters;
    if (given_parameters->get(parameters) != simdjson::SUCCESS)
      return malformed("parameters of output " + shown(one.name) + " must be an object, found " +
                       std::string(found(*given_parameters)));
    for (const auto field : parameters) {
      if (field.key == "binary_data") {
        bool binary = false;
        if (!boolean_in(field.value, binary))
          return malformed("binary_data of output " + shown(one.name) + " must be true or false");
        one.binary = binary;
      } else if (field.key == "classification") {
        std::uint64_t count = 0;
        if (field.value.get(count) != simdjson::SUCCESS || count > UINT32_MAX)
          return malformed("classification of output " + shown(one.name) + " must be an integer from 0");
        one.classification = static_cast<std::uint32_t>(count);
      }
    }
  }
  into.outputs.push_back(one);
  return {};
}

v2_request_parser::v2_request_parser() : work_(std::make_unique<work>()) {}
v2_request_parser::~v2_request_parser() = default;
v2_request_parser::v2_request_parser(v2_request_parser&&) noexcept = default;
v2_request_parser& v2_request_parser::operator=(v2_request_parser&&) noexcept = default;

request_fault v2_request_parser::parse(std::string_view body, std::optional<std::size_t> header_length,
                                       const v2_limits& limits, v2_request& into) {
  return work_->parse(body, header_length, limits, into);
}

void v2_request_parser::raw(std::string_view body, std::string_view name, std::string_view datatype,
                            std::vector<std::int64_t> shape, v2_request& into) {
  work_->raw(body, name, datatype, std::move(shape), into);
}

request_fault read_header_length(std::string_view text, std::size_t body,
                                 std::optional<std::size_t>& length) {
  std::size_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || text.empty())
    return malformed("Inference-Header-Content-Length must be a number of bytes, found " + shown(text));
  if (n > body)
    return malformed("Inference-Header-Content-Length is " + std::to_string(n) + ", the body has " +
                     std::to_string(body) + " bytes");
  length = n;
  return {};
}

}  // namespace troupe::codec
