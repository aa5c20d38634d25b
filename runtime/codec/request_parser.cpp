#include "runtime/codec/request_parser.hpp"

#include <simdjson.h>

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "runtime/codec/content_type.hpp"
#include "runtime/codec/dom_text.hpp"
#include "runtime/codec/feature_rows.hpp"
#include "runtime/codec/json_reader.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/codec/tensor_rows.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {
namespace {

namespace dom = simdjson::dom;

constexpr nanos never = std::numeric_limits<nanos>::max();

}  // namespace

class request_parser::work {
 public:
  explicit work(parser_options o) : options_(std::move(o)) {}

  void parse(record_batch& batch, std::shared_ptr<const model::model_table> models, std::size_t from);
  void limit(const live_limits& l) {
    options_.max_record_bytes = l.max_record_bytes.load(std::memory_order_relaxed);
    options_.max_rows = l.max_rows.load(std::memory_order_relaxed);
  }

 private:
  /// What a request says, the last one of equal keys.
  struct fields {
    std::optional<dom::element> features, request_id, model, version, priority, timeout, explain;
  };
  /// What the headers say; data() == nullptr: nothing.
  struct overrides {
    std::string_view request_id, model, version, priority, timeout, explain;
  };
  void parse_record(record& r);
  [[nodiscard]] std::string_view bytes_type(const record& r) const;
  bool readable(record& r);
  bool read(record& r, dom::object& object);
  void default_id(record& r);
  void request_id(record& r, const fields& f, const overrides& h);
  void find_model(record& r, const fields& f, const overrides& h);
  void priority(record& r, const fields& f, const overrides& h);
  void timeout(record& r, const fields& f, const overrides& h, nanos base);
  void explain(record& r, const fields& f, const overrides& h);
  void features(record& r, const std::optional<dom::element>& given);
  void fail(record& r, error_code code, std::string_view message) { refuse(r, *batch_, code, message); }
  void settle(record& r, const request_fault& fault) {
    if (fault) fail(r, fault.code, fault.message);
  }

  parser_options options_;
  json_reader json_;
  model_finder models_;
  std::string text_;

  // During one call.
  record_batch* batch_ = nullptr;
};

void request_parser::work::parse(record_batch& batch, std::shared_ptr<const model::model_table> models,
                                 std::size_t from) {
  if (from == 0 || !batch.models) batch.models = std::move(models);
  batch_ = &batch;
  models_.begin(batch.models.get());
  for (std::size_t i = from; i < batch.records.size(); ++i) parse_record(batch.records[i]);
  json_.shrink();
}

/// The content type of a value that is no JSON; empty: it is JSON.
std::string_view request_parser::work::bytes_type(const record& r) const {
  for (std::uint32_t i = 0; i < r.headers_count; ++i) {
    const header& one = batch_->headers[r.headers_begin + i];
    if (one.name == "content-type" && holds_bytes(one.value)) return one.value;
  }
  return {};
}

bool request_parser::work::readable(record& r) {
  if (r.value.data() == nullptr) {
    fail(r, error_code::invalid_json, "the record has no value (a tombstone)");
    return false;
  }
  if (r.value.size() > options_.max_record_bytes) {
    fail(r, error_code::too_large,
         "the value has " + std::to_string(r.value.size()) + " bytes, more than the " +
             std::to_string(options_.max_record_bytes) + " of kafka.max_record_bytes");
    return false;
  }
  return true;
}

/// The value as a JSON object, or false with the error in the record.
bool request_parser::work::read(record& r, dom::object& object) {
  if (!readable(r)) return false;
  dom::element root;
  const std::string_view why = json_.read(r.value, root);
  if (!why.empty()) {
    text_ = "the value";
    text_ += why;
    fail(r, error_code::invalid_json, text_);
    return false;
  }
  if (root.get(object) != simdjson::SUCCESS) {
    text_ = "a request is a JSON object, found ";
    text_ += found(root);
    fail(r, error_code::invalid_json, text_);
    return false;
  }
  return true;
}

void request_parser::work::parse_record(record& r) {
  record_batch& batch = *batch_;
  r.parsed = false;
  r.list = false;
  r.explain = false;
  r.error = error_code::none;
  r.error_message = {};
  r.fallback_from = {};
  r.request_id = {};
  r.model = nullptr;
  r.rows = 0;
  r.values_begin = static_cast<std::uint32_t>(batch.values.size());
  r.cls = options_.default_class;
  r.expiry = never;

  // A timestamp ahead of us, or none, counts as arrival.
  nanos base = batch.arrived;
  if (r.timestamp_ms > 0 && r.timestamp_ms < batch.arrived_ms)
    base = later(base, static_cast<double>(r.timestamp_ms - batch.arrived_ms) * 1e6);

  fields f;
  dom::object object;
  const std::string_view bytes_as = bytes_type(r);
  if (bytes_as.empty() ? !read(r, object) : !readable(r)) {
    default_id(r);
    r.target = base;
    return;
  }

  if (bytes_as.empty())
    for (const auto field : object) {
      switch (field.key.size()) {
        case 5:
          if (field.key == "model") f.model = field.value;
          break;
        case 7:
          if (field.key == "explain") f.explain = field.value;
          break;
        case 8:
          if (field.key == "features") f.features = field.value;
          if (field.key == "priority") f.priority = field.value;
          break;
        case 10:
          if (field.key == "request_id") f.request_id = field.value;
          if (field.key == "timeout_ms") f.timeout = field.value;
          break;
        case 13:
          if (field.key == "model_version") f.version = field.value;
          break;
        default:
          break;
      }
      if (json_.repaired() && field.key != "features" && holds_not_a_number(field.value)) {
        fail(r, error_code::invalid_json, "the value is not valid JSON: NaN or Infinity");
        default_id(r);
        r.target = base;
        return;
      }
    }
  overrides h;
  for (std::uint32_t i = 0; i < r.headers_count; ++i) {
    const header& one = batch.headers[r.headers_begin + i];
    if (one.value.empty()) continue;
    if (one.name == "request_id") h.request_id = one.value;
    if (one.name == "model") h.model = one.value;
    if (one.name == "model_version") h.version = one.value;
    if (one.name == "priority") h.priority = one.value;
    if (one.name == "timeout_ms") h.timeout = one.value;
    if (one.name == "explain") h.explain = one.value;
  }

  r.parsed = true;
  request_id(r, f, h);
  find_model(r, f, h);
  priority(r, f, h);
  r.target = target_of(r.cls, options_.class_targets, base);
  timeout(r, f, h, base);
  if (f.explain || h.explain.data() != nullptr) [[unlikely]]
    explain(r, f, h);
  if (r.error == error_code::none) {
    if (bytes_as.empty()) {
      features(r, f.features);
    } else {
      settle(r, take_bytes(r, batch, bytes_as));
    }
    if (r.error != error_code::none) {
      batch.values.resize(r.values_begin);
      r.rows = 0;
    }
  }
  if (r.explain && r.rows > options_.max_explained)
    fail(r, error_code::too_large,
         "the request has " + std::to_string(r.rows) + " rows; at most " +
             std::to_string(options_.max_explained) + " are explained at once (models.max_explained_rows)");
  if (r.error == error_code::none && r.expiry <= batch.arrived)
    fail(r, error_code::deadline_exceeded, "the request had expired when it was read");
  if (r.error != error_code::none && r.rows != 0) {
    batch.values.resize(r.values_begin);
    r.rows = 0;
  }
}

// --- who asks, whom, how urgently
// -----------------------------------------------------------------------------------

void request_parser::work::default_id(record& r) {
  text_.assign(1, '"');
  if (batch_->topic) append_escaped(text_, *batch_->topic);
  text_ += '-';
  if (batch_->partition >= 0) {  // less than 0: a file has none
    append_number(text_, std::int64_t{batch_->partition});
    text_ += '-';
  }
  append_number(text_, r.offset);
  text_ += '"';
  r.request_id = batch_->keep(text_);
}

void request_parser::work::request_id(record& r, const fields& f, const overrides& h) {
  const auto refuse = [&](std::string_view why) {
    default_id(r);
    fail(r, error_code::invalid_json, why);
  };
  std::string_view id;
  std::array<char, 24> digits;
  if (h.request_id.data() != nullptr) {
    id = h.request_id;
    if (!simdjson::validate_utf8(id.data(), id.size())) return refuse("header request_id is not valid UTF-8");
  } else if (f.request_id) {
    switch (f.request_id->type()) {
      case dom::element_type::STRING:
        id = as<std::string_view>(*f.request_id);
        break;
      case dom::element_type::INT64:
        id = {digits.data(),
              static_cast<std::size_t>(
                  std::to_chars(digits.data(), digits.data() + digits.size(), as<std::int64_t>(*f.request_id))
                      .ptr -
                  digits.data())};
        break;
      case dom::element_type::UINT64:
      case dom::element_type::DOUBLE:
        id = number_text(r.value, "request_id");
        break;
      case dom::element_type::NULL_VALUE:
        break;
      default:
        text_ = "request_id must be a string or a number, found ";
        text_ += found(*f.request_id);
        return refuse(std::string(text_));
    }
    if (id == out_of_range) id = number_text(r.value, "request_id");
  }
  if (id.empty()) return default_id(r);
  if (id.size() > max_request_id_bytes) {
    return refuse("request_id has " + std::to_string(id.size()) + " bytes, more than " +
                  std::to_string(max_request_id_bytes));
  }
  r.request_id = id_token(*batch_, id);
}

void request_parser::work::find_model(record& r, const fields& f, const overrides& h) {
  std::string_view name = h.model;
  std::string_view version = h.version;
  std::array<char, 24> digits;
  if (name.data() == nullptr && f.model && !f.model->is_null() && f.model->get(name) != simdjson::SUCCESS) {
    text_ = "model must be a string, found ";
    text_ += found(*f.model);
    fail(r, error_code::invalid_json, text_);
    name = {};
  }
  if (version.data() == nullptr && f.version) {
    switch (f.version->type()) {
      case dom::element_type::STRING:
        version = as<std::string_view>(*f.version);
        break;
      case dom::element_type::INT64: {
        char* end =
            std::to_chars(digits.data(), digits.data() + digits.size(), as<std::int64_t>(*f.version)).ptr;
        version = {digits.data(), static_cast<std::size_t>(end - digits.data())};
        break;
      }
      case dom::element_type::UINT64:
      case dom::element_type::DOUBLE:
        version = number_text(r.value, "model_version");
        break;
      case dom::element_type::NULL_VALUE:
        break;
      default:
        text_ = "model_version must be a string or a number, found ";
        text_ += found(*f.version);
        fail(r, error_code::invalid_json, text_);
    }
    if (version == out_of_range) version = number_text(r.value, "model_version");
  }
  models_.find(r, *batch_, {.name = name, .version = version});
}

void request_parser::work::priority(record& r, const fields& f, const overrides& h) {
  double p = 0;
  if (h.priority.data() != nullptr) {
    const auto [end, error] = std::from_chars(h.priority.data(), h.priority.data() + h.priority.size(), p);
    if (error != std::errc() || end != h.priority.data() + h.priority.size()) p = -1;
  } else if (f.priority && !f.priority->is_null()) {
    if (f.priority->get(p) != simdjson::SUCCESS) {
      text_ = "priority must be an integer from 0, found ";
      text_ += found(*f.priority);
      fail(r, error_code::invalid_json, text_);
      return;
    }
  }
  if (!valid_priority(p)) {
    fail(r, error_code::invalid_json,
         h.priority.data() != nullptr ? "header priority must be an integer from 0"
                                      : "priority must be an integer from 0");
    return;
  }
  r.cls = class_of(p, options_.class_targets, options_.default_class);
}

void request_parser::work::timeout(record& r, const fields& f, const overrides& h, nanos base) {
  if (options_.queue_timeout > 0) r.expiry = later(base, static_cast<double>(options_.queue_timeout));
  double ms = 0;
  if (h.timeout.data() != nullptr) {
    const auto [end, error] = std::from_chars(h.timeout.data(), h.timeout.data() + h.timeout.size(), ms);
    if (error != std::errc() || end != h.timeout.data() + h.timeout.size() || !std::isfinite(ms)) {
      fail(r, error_code::invalid_json, "header timeout_ms must be a number of milliseconds");
      return;
    }
  } else if (f.timeout && !f.timeout->is_null()) {
    if (f.timeout->get(ms) != simdjson::SUCCESS) {
      text_ = "timeout_ms must be a number of milliseconds, found ";
      text_ += found(*f.timeout);
      fail(r, error_code::invalid_json, text_);
      return;
    }
  } else {
    return;
  }
  r.expiry = later(base, ms * 1e6);
}

void request_parser::work::explain(record& r, const fields& f, const overrides& h) {
  if (h.explain.data() != nullptr) {
    if (h.explain != "true" && h.explain != "false")
      return fail(r, error_code::invalid_json, "header explain must be true or false");
    r.explain = h.explain == "true";
  } else if (!f.explain->is_null() && f.explain->get(r.explain) != simdjson::SUCCESS) {
    text_ = "explain must be true or false, found ";
    text_ += found(*f.explain);
    return fail(r, error_code::invalid_json, text_);
  }
  check_explainable(r, *batch_);
}

void request_parser::work::features(record& r, const std::optional<dom::element>& given) {
  if (!given || given->is_null())
    return fail(r, error_code::invalid_features, given ? "features is null" : "the request has no features");
  settle(r, read_features(*given, r, *batch_, {options_.max_rows, options_.max_values}));
}

// --------------------------------------------------------------------------------------------------------------------

request_parser::request_parser(parser_options options) : work_(std::make_unique<work>(std::move(options))) {}
request_parser::~request_parser() = default;
request_parser::request_parser(request_parser&&) noexcept = default;
request_parser& request_parser::operator=(request_parser&&) noexcept = default;

void request_parser::limit(const live_limits& limits) {
  work_->limit(limits);
}

void request_parser::parse(record_batch& batch, std::shared_ptr<const model::model_table> models,
                           std::size_t from) {
  work_->parse(batch, std::move(models), from);
}

}  // namespace troupe::codec
