#include "runtime/codec/result_writer.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

#include "runtime/codec/appender.hpp"
#include "runtime/codec/class_scores.hpp"
#include "runtime/codec/content_type.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/codec/prediction_text.hpp"
#include "runtime/model/model.hpp"
#include "runtime/policy/trace_context.hpp"

namespace troupe::codec {
namespace {

constexpr std::size_t kept_texts = 8;
constexpr std::size_t kept_buffer = std::size_t{64} << 10;

template <std::size_t N, class Number>
std::string_view print(std::array<char, N>& into, Number value) {
  char* end = std::to_chars(into.data(), into.data() + into.size(), value).ptr;
  return {into.data(), static_cast<std::size_t>(end - into.data())};
}

/// Read by the parser; it would say something else, or nothing, about a result.
bool consumed(std::string_view name) {
  switch (name.size()) {
    case 5:
      return name == "model";
    case 7:
      return name == "explain";
    case 8:
      return name == "priority";
    case 10:
      return name == "request_id" || name == "timeout_ms";
    case 13:
      return name == "model_version";
    default:
      return false;
  }
}

}  // namespace

result_writer::result_writer(writer_options options) : options_(options), random_state_(options.seed) {
  if (random_state_ == 0) {
    std::random_device device;
    random_state_ = (std::uint64_t{device()} << 32) | device();
  }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
std::uint64_t result_writer::random() {
  std::uint64_t z = (random_state_ += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

const result_writer::model_text& result_writer::text_of(const model::loaded_model& model) {
  // An address may be another model's by now, so names and digest are compared too.
  for (const auto& t : texts_)
    if (t.model == &model && t.digest == model.digest() && t.version == model.version() &&
        t.name == model.name())
      return t;
  model_text t;
  t.model = &model;
  t.digest = model.digest();
  t.name = model.name();
  t.version = model.version();
  t.version_field = ",\"model_version\":";
  append_quoted(t.version_field, t.version);
  t.tail = ",\"model_name\":";
  append_quoted(t.tail, t.name);
  t.tail += t.version_field;
  t.prediction = prediction_text(model);
  if (texts_.size() < kept_texts) {
    texts_.push_back(std::move(t));
    return texts_.back();
  }
  oldest_ = (oldest_ + 1) % kept_texts;
  return texts_[oldest_] = std::move(t);
}

bool result_writer::says_iso(const record& request) const {
  return options_.iso_timestamp || (request.batch != nullptr && request.batch->iso_timestamps);
}

void result_writer::timestamp(std::string& out, const record& request) const {
  out += ",\"timestamp\":";
  if (!says_iso(request)) {
    append_number(out, request.timestamp_ms);
    return;
  }
  append_iso_time(out, request.timestamp_ms);
}

bool result_writer::prediction(std::string& into, const record& request, const double* outputs,
                               std::string_view more) {
  const auto& model = *request.model;
  const std::size_t width = model.output().width;
  const std::size_t rows = request.rows;
  for (std::size_t i = 0; i < rows * width; ++i)
    if (!std::isfinite(outputs[i])) return false;
  const model_text& text = text_of(model);
  const bool list = request.list;

  appender out(buffer_);
  out += "{\"request_id\":";
  out += request.request_id;
  out += ",\"prediction\":";
  const std::size_t from = out.size();
  append_predictions(out, model, text.prediction, rows, list, outputs);
  if (model.output().parts.empty() && model.output().kind == model::task::classification) {
    const auto best = [&](std::size_t row) { return likeliest(outputs + row * width, width); };
    const std::size_t size = out.size() - from;
    out += ",\"predicted_class\":";
    out.again(from, size);
    if (model.output().top_k > 0) {
      out += ",\"top_k\":";
      append_top_k(out, model, text.prediction, rows, list, outputs);
    } else {
      out += ",\"probabilities\":";
      items(out, rows, list, [&](std::size_t row) {
        items(out, width, true, [&](std::size_t i) { out.number(probability(outputs[row * width + i])); });
      });
    }
    out += ",\"confidence\":";
    items(out, rows, list,
          [&](std::size_t row) { out.number(probability(outputs[row * width + best(row)])); });
  }
  out += more;
  out += text.tail;
  if (!request.fallback_from.empty()) {
    out += ",\"fallback_from\":\"";
    out += request.fallback_from;
    out += '"';
  }
  if (says_iso(request)) {
    into += out.text();
    timestamp(into, request);
    into += '}';
  } else {
    out += ",\"timestamp\":";
    out.number(request.timestamp_ms);
    out += '}';
    into += out.text();
  }
  if (buffer_.size() > kept_buffer) std::string().swap(buffer_);
  return true;
}

void result_writer::error(std::string& out, const record& request, error_code code,
                          std::string_view message) {
  out += "{\"request_id\":";
  out += request.request_id.empty() ? std::string_view("null") : request.request_id;
  out += ",\"error\":{\"code\":\"";
  out += to_string(code);
  out += "\",\"message\":";
  append_quoted(out, message);
  out += '}';
  if (request.model != nullptr) {
    out += text_of(*request.model).version_field;
  } else if (!request.fallback_from.empty()) {
    out += ",\"model_version\":\"";
    out += request.fallback_from;
    out += '"';
  } else {
    out += ",\"model_version\":null";
  }
  if (request.model != nullptr && !request.fallback_from.empty()) {
    out += ",\"fallback_from\":\"";
    out += request.fallback_from;
    out += '"';
  }
  timestamp(out, request);
  out += '}';
}

void result_writer::dead_letter_headers(std::vector<header>& out, const record& request, error_code code,
                                        std::string_view message) {
  const record_batch* batch = request.batch;
  const bool unread = code == error_code::invalid_json || code == error_code::too_large;
  out.push_back(
      {"__connect.errors.topic", batch != nullptr && batch->topic ? std::string_view(*batch->topic) : ""});
  out.push_back({"__connect.errors.partition", print(partition_, batch != nullptr ? batch->partition : -1)});
  out.push_back({"__connect.errors.offset", print(offset_, request.offset)});
  // Connect's names for where it happened: reading the value, or the work on it.
  out.push_back({"__connect.errors.stage", unread ? "VALUE_CONVERTER" : "TASK_PUT"});
  out.push_back({"__connect.errors.exception.class.name", to_string(code)});
  out.push_back({"__connect.errors.exception.message", message});
}

void result_writer::trace_header(std::vector<header>& out, std::span<const header> request_headers,
                                 std::string_view traceparent) {
  for (const header& h : request_headers)
    if (h.name == "traceparent") return;
  traceparent.copy(traceparent_.data(), traceparent_.size());
  out.push_back({"traceparent", {traceparent_.data(), traceparent_.size()}});
}

void result_writer::dropped_value_headers(std::vector<header>& out, const record& request) {
  out.push_back({"troupe.dropped.value.length", print(length_, request.value.size())});
}

void result_writer::result_headers(std::vector<header>& out, std::span<const header> request_headers,
                                   std::string_view traceparent) {
  const header* trace = nullptr;
  bool state = true;
  for (const header& h : request_headers) {
    if (trace == nullptr && h.name == "traceparent" && policy::is_traceparent(h.value)) trace = &h;
    if (h.name == "tracestate") state &= policy::is_tracestate(h.value);
  }
  for (const header& h : request_headers) {
    if (consumed(h.name)) continue;
    if (h.name == "content-type" && holds_bytes(h.value)) continue;  // a result is JSON
    if (h.name == "tracestate" && (trace == nullptr || !state)) continue;
    if (h.name != "traceparent") {
      out.push_back(h);
    } else if (&h == trace) {
      if (traceparent.empty()) {
        h.value.copy(traceparent_.data(), traceparent_.size());
        traceparent_[0] = traceparent_[1] = '0';
        std::uint64_t span = random();
        while (span == 0) span = random();
        for (std::size_t i = 0; i < 16; ++i, span >>= 4) traceparent_[36 + i] = "0123456789abcdef"[span & 15];
      } else {
        traceparent.copy(traceparent_.data(), traceparent_.size());
      }
      out.push_back({h.name, {traceparent_.data(), traceparent_.size()}});
    }
  }
  if (trace != nullptr || traceparent.empty()) return;
  traceparent.copy(traceparent_.data(), traceparent_.size());
  out.push_back({"traceparent", {traceparent_.data(), traceparent_.size()}});
}

}  // namespace troupe::codec
