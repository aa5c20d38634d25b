#include "runtime/grpc/infer_call.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstring>
#include <limits>
#include <random>
#include <utility>

#include "runtime/codec/json_text.hpp"
#include "runtime/codec/request_head.hpp"
#include "runtime/model/model.hpp"

namespace troupe::rpc {
namespace {

/// Longer ones do not go into metadata.
constexpr std::size_t most_request_id = 128;
using contents_kind = codec::v2_contents::kind;

/// What a thread that reads and answers calls keeps between them.
struct workplace {
  infer_request wire;
  codec::v2_tools tools;
  std::string raw;
  std::vector<std::size_t> ends;
  std::vector<std::int64_t> shapes;
  std::vector<std::string_view> texts;
  std::vector<output_tensor> outputs;
};

workplace& here() {
  thread_local workplace one;
  return one;
}

/// Unique in a network of nodes for as long as logs are kept: 64 random bits of the process, and a count.
std::string new_id() {
  static const std::uint64_t process = [] {
    std::random_device random;
    return std::uint64_t{random()} << 32 | random();
  }();
  static std::atomic<std::uint64_t> count{0};
  std::array<char, 32> text;
  text.fill('0');
  const auto put = [&](std::uint64_t value, std::size_t at) {
    for (std::size_t i = 16; i-- > 0; value >>= 4) text[at + i] = "0123456789abcdef"[value & 15];
  };
  put(process, 0);
  put(count.fetch_add(1, std::memory_order_relaxed), 16);
  return {text.data(), text.size()};
}

/// A number that is not negative, however it was sent; false: it is none.
bool number_of(const parameter& p, double& to) {
  switch (p.held) {
    case parameter::kind::integer:
      to = static_cast<double>(p.integer);
      break;
    case parameter::kind::natural:
      to = static_cast<double>(p.natural);
      break;
    case parameter::kind::real:
      to = p.real;
      break;
    case parameter::kind::text: {
      const auto [end, error] = std::from_chars(p.text.data(), p.text.data() + p.text.size(), to);
      if (error != std::errc() || end != p.text.data() + p.text.size()) return false;
      break;
    }
    default:
      return false;
  }
  return to >= 0 && to <= std::numeric_limits<double>::max();
}

bool boolean_of(const parameter& p, bool& to) {
  if (p.held == parameter::kind::boolean) {
    to = p.boolean;
    return true;
  }
  if (p.held != parameter::kind::text || (p.text != "true" && p.text != "false")) return false;
  to = p.text == "true";
  return true;
}

}  // namespace

infer_call::~infer_call() {
  if (!ended_) refuse({status_code::unavailable, "the request was given up"}, 0);
  from_.release();
}

void infer_call::refuse(const status& why, nanos retry_after) {
  if (std::exchange(ended_, true)) return;
  from_.fail(why, retry_after, id_, request_id_);
}

void infer_call::name_it(std::string_view own) {
  id_ = own;
  for (const char* name : {"x-request-id", "x-correlation-id"}) {
    const auto given = from_.metadata(name);
    if (given.empty() || given.size() > most_request_id) continue;
    request_id_ = given;
    return;
  }
  request_id_ = id_.empty() || id_.size() > most_request_id ? new_id() : std::string(id_);
}

codec::request_fault infer_call::read_parameters(const infer_request& wire, codec::v2_request& request) {
  const auto typed = [](const codec::v2_input& one) {
    return one.contents.held != contents_kind::none && one.contents.held != contents_kind::raw;
  };
  raw_ = std::none_of(wire.inputs.begin(), wire.inputs.end(), typed);
  const auto wrong = [](std::string_view name, const char* what) {
    return codec::request_fault{error_code::invalid_features,
                                "parameter '" + std::string(name) + "' must be " + what};
  };
  for (const parameter& one : wire.parameters) {
    if (one.name == "priority") {
      if (!number_of(one, request.priority) || !codec::valid_priority(request.priority))
        return wrong(one.name, "an integer from 0");
    } else if (one.name == "timeout") {
      if (!number_of(one, request.timeout_us)) return wrong(one.name, "a number of microseconds from 0");
    } else if (one.name == "explain") {
      if (!boolean_of(one, request.explain)) return wrong(one.name, "true or false");
    } else if (one.name == "binary_data_output") {
      if (!boolean_of(one, raw_)) return wrong(one.name, "true or false");
    } else if (one.name == "triton_enable_empty_final_response") {
      if (!boolean_of(one, final_flag_)) return wrong(one.name, "true or false");
    }
  }
  for (const requested_output& one : wire.outputs) {
    codec::v2_output_wish& wish = request.outputs.emplace_back();
    wish.name = one.name;
    for (std::uint32_t i = 0; i < one.parameters_count; ++i) {
      const parameter& p = wire.output_parameters[one.parameters_begin + i];
      double count = 0;
      if (p.name != "classification") continue;
      if (!number_of(p, count) || count > 1e6 || !codec::valid_priority(count))
        return wrong(p.name, "an integer from 0 to 1000000");
      wish.classification = static_cast<std::uint32_t>(count);
    }
  }
  for (const auto& one : wire.inputs)
    if (one.shape.size() > codec::max_v2_rank)
      return {error_code::invalid_features, "input " + codec::shown(one.name) + " has " +
                                                std::to_string(one.shape.size()) + " dimensions, at most " +
                                                std::to_string(codec::max_v2_rank) + " are taken"};
  return {};
}

void infer_call::read(record& to, record_batch& batch) {
  workplace& w = here();
  infer_request& wire = w.wire;
  codec::v2_request& request = w.tools.request;
  request.priority = request.timeout_us = 0;
  request.explain = false;
  request.binary_output = true;  // raw data is what both forms are made of
  request.outputs.clear();

  codec::request_fault fault;
  if (std::string text = wire.read(from_.body(), options_.max_elements); !text.empty())
    fault = {wire.too_many() ? error_code::too_large : error_code::invalid_json, std::move(text)};
  if (wire.id.size() > codec::max_request_id_bytes) {
    wire.id = {};
    if (!fault)
      fault = {error_code::invalid_features,
               "id is longer than " + std::to_string(codec::max_request_id_bytes) + " bytes"};
  }
  name_it(wire.id);
  if (!fault) fault = read_parameters(wire, request);

  codec::infer_head head;
  head.fallback_id = request_id_;
  head.model = wire.model_name;
  head.version = wire.model_version;
  head.default_class = who_.default_class(options_.default_class);
  head.arrived = arrived_;
  head.header = [](const void* self, std::string_view name) {
    return static_cast<const infer_call*>(self)->from_.metadata(name);
  };
  head.request = this;
  request.id = wire.id;
  request.inputs.swap(wire.inputs);
  const nanos deadline = from_.deadline();
  codec::read_v2(request, head, options_, w.tools, to, batch, plan_, fault);
  if (fault.code == error_code::invalid_json && to.error != fault.code) {
    to.error = error_code::none;  // what was read of the model's name says nothing
    codec::refuse(to, batch, fault.code, fault.message);
  }
  request.inputs.swap(wire.inputs);
  if (deadline != INT64_MAX) to.expiry = request.timeout_us > 0 ? std::min(to.expiry, deadline) : deadline;
  denied_ = who_.judge(to, batch, wire.model_name);
  if (const auto& trace = from_.trace()) {
    trace->add({{"troupe.request_id", request_id_}});
    to.trace = trace.get();
    batch.traces.push_back(trace);
  }
}

void infer_call::reply(const record& request, const call_result& result) {
  if (std::exchange(ended_, true)) return;
  workplace& w = here();
  w.raw.clear(), w.ends.clear(), w.shapes.clear(), w.texts.clear(), w.outputs.clear();
  // All raw data first: the buffers must not move once there are views into them.
  std::size_t dimensions = 0, elements = 0;
  for (const auto& item : plan_.items) {
    const auto said = w.tools.writer.describe(request, item);
    output_tensor& one = w.outputs.emplace_back();
    one.name = said.name;
    one.datatype = codec::name_of(said.type);
    w.shapes.insert(w.shapes.end(), said.shape.begin(), said.shape.end());
    dimensions += said.shape.size();
    w.ends.push_back(dimensions);
    w.tools.writer.append_raw(w.raw, request, result.outputs, item);
    w.ends.push_back(w.raw.size());
    std::size_t n = 1;
    for (const auto d : said.shape) n *= static_cast<std::size_t>(d);
    if (said.type == codec::v2_type::bytes) elements += n;
    one.contents.count = n;
  }
  w.texts.reserve(elements);
  std::size_t shape_begin = 0, raw_begin = 0;
  for (std::size_t i = 0; i < w.outputs.size(); ++i) {
    output_tensor& one = w.outputs[i];
    const std::size_t shape_end = w.ends[2 * i], raw_end = w.ends[2 * i + 1];
    one.shape = {w.shapes.data() + shape_begin, shape_end - shape_begin};
    one.contents.raw = std::string_view(w.raw).substr(raw_begin, raw_end - raw_begin);
    one.contents.held = contents_kind::raw;
    if (!raw_) {
      one.contents.data = one.contents.raw.data();
      one.contents.held = one.datatype == "FP32" ? contents_kind::fp32 : contents_kind::fp64;
      if (one.datatype == "BYTES") {
        one.contents.held = contents_kind::texts;
        const std::size_t begin = w.texts.size();
        for (std::string_view rest = one.contents.raw; rest.size() >= 4;) {
          std::uint32_t size = 0;
          std::memcpy(&size, rest.data(), 4);
          w.texts.push_back(rest.substr(4, size));
          rest.remove_prefix(std::min<std::size_t>(rest.size(), 4 + std::size_t{size}));
        }
        one.contents.texts = {w.texts.data() + begin, w.texts.size() - begin};
      }
    }
    shape_begin = shape_end;
    raw_begin = raw_end;
  }

  std::array<parameter, 2> parameters;
  std::size_t count = 0;
  if (!result.explanation.empty()) {
    parameters[count].name = "explanation";
    parameters[count].held = parameter::kind::text;
    parameters[count++].text = result.explanation;
  }
  if (final_flag_) {
    parameters[count].name = "triton_final_response";
    parameters[count].held = parameter::kind::boolean;
    parameters[count++].boolean = true;
  }
  infer_response response;
  response.model_name = request.model->name();
  response.model_version = request.model->version();
  response.id = id_;
  response.parameters = {parameters.data(), count};
  response.outputs = w.outputs;
  response.raw = raw_;
  from_.reply(response, request_id_);
}

void infer_call::fail(const record&, const call_failure& why) {
  if (denied_ != guard::refusal::none)
    return refuse({status_code::permission_denied, std::string(why.message)}, 0);
  refuse({status_of(why.code), std::string(why.message)},
         why.code == error_code::unavailable ? std::max<nanos>(why.retry_after, 0) : 0);
}

}  // namespace troupe::rpc
