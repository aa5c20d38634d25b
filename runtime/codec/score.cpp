#include "runtime/codec/score.hpp"

#include <simdjson.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "runtime/codec/appender.hpp"
#include "runtime/codec/csv.hpp"
#include "runtime/codec/dom_text.hpp"
#include "runtime/codec/feature_rows.hpp"
#include "runtime/codec/json_fault.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/codec/v2_rows.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {
namespace {

namespace dom = simdjson::dom;

constexpr std::size_t kept_texts = 8;
constexpr std::size_t kept_buffer = std::size_t{64} << 10;

request_fault malformed(std::string message) {
  return {error_code::invalid_json, std::move(message)};
}

request_fault wrong(std::string message) {
  return {error_code::invalid_features, std::move(message)};
}

request_fault read_object(std::string_view body, json_reader& json, dom::object& object) {
  dom::element root;
  json.shrink();
  const std::string_view why = json.read(body, root);
  if (!why.empty()) return malformed("the request" + json_fault(body, why));
  if (root.get(object) != simdjson::SUCCESS)
    return malformed("a request is a JSON object, found " + std::string(found(root)));
  return {};
}

/// A list of rows, never a single one.
request_fault read_rows(const dom::element& given, record& r, record_batch& batch, const tensor_limits& most,
                        std::string_view field) {
  dom::array list;
  if (given.get(list) != simdjson::SUCCESS)
    return wrong(std::string(field) + " must be a list of rows, found " + std::string(found(given)));
  if (list.begin() == list.end()) return wrong(std::string(field) + " has no rows");
  if (r.model->schema().inputs.empty() && !(*list.begin()).is_array() && !(*list.begin()).is_object())
    return wrong(std::string(field) +
                 " must be a list of rows ([[1, 2], [3, 4]]), found a list of single values");
  auto fault = read_features(given, r, batch, most, field);
  if (fault || r.list) return fault;
  return wrong(std::string(field) + " must be a list of rows, found a single one");
}

/// {"name": [...], ...}: of tensors, each with its rows in front.
request_fault read_tensor_columns(const dom::object& object, record& r, record_batch& batch,
                                  const tensor_limits& most) {
  std::vector<dom::element> data;
  std::vector<std::vector<std::int64_t>> shapes;
  std::vector<v2_input> inputs;
  for (const auto field : object) {
    dom::array list;
    if (field.value.get(list) != simdjson::SUCCESS)
      return wrong("inputs." + std::string(field.key) + " must be a list, found " +
                   std::string(found(field.value)));
    std::int64_t rows = 0;
    for ([[maybe_unused]] const dom::element e : list) ++rows;
    auto& shape = shapes.emplace_back(1, rows);
    v2_input& in = inputs.emplace_back();
    in.name = field.key;
    in.datatype = "FP64";
    for (const auto& own : r.model->schema().inputs) {
      if (own.name != field.key) continue;
      shape.insert(shape.end(), own.shape.begin(), own.shape.end());
      if (own.holds != model::tensor_input::kind::number) in.datatype = "BYTES";
    }
    in.contents.held = v2_contents::kind::json;
    data.push_back(field.value);
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    inputs[i].shape = shapes[i];
    inputs[i].contents.json = &data[i];
  }
  return read_v2_rows(inputs, r, batch, most);
}

std::string_view stage_of(error_code code) {
  switch (code) {
    case error_code::invalid_json:
      return "parse";
    case error_code::invalid_features:
    case error_code::too_large:
      return "validate";
    case error_code::model_not_found:
      return "route";
    case error_code::deadline_exceeded:
    case error_code::unavailable:
      return "queue";
    default:
      return "predict";
  }
}

bool number_of(std::string_view text, double& x) {
  // Neither nan nor inf: those letters mean nothing in a table of numbers.
  const char c = text.front() == '-' && text.size() > 1 ? text[1] : text.front();
  if ((c < '0' || c > '9') && c != '.') return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (end != text.data() + text.size()) return false;
  if (error == std::errc::result_out_of_range) {
    // Too small for a double is 0, too large is refused.
    x = std::strtod(std::string(text).c_str(), nullptr);
    return std::isfinite(x);
  }
  return error == std::errc();
}

}  // namespace

request_fault read_score(std::string_view body, json_reader& json, record& r, record_batch& batch,
                         const tensor_limits& most) {
  dom::object object;
  if (auto fault = read_object(body, json, object)) return fault;
  std::optional<dom::element> data;
  for (const auto field : object) {
    if (field.key == "data") {
      data = field.value;
      continue;
    }
    // Clients send keys of their own, which mean nothing; these would mean something elsewhere.
    for (const std::string_view elsewhere : {"model", "model_name", "model_version", "version", "explain",
                                             "parameters", "priority", "timeout_ms"})
      if (field.key == elsewhere)
        return wrong("/score takes only data: '" + std::string(elsewhere) + "' has no meaning here; " +
                     (elsewhere.find("model") != std::string_view::npos || elsewhere == "version"
                          ? "ask another model or version by /v2/models/NAME/versions/VERSION/infer"
                          : "/v2/models/NAME/infer takes it in its parameters"));
  }
  if (!data) return malformed("the request has no data");
  return read_rows(*data, r, batch, most, "data");
}

request_fault read_invocations(std::string_view body, json_reader& json, record& r, record_batch& batch,
                               const tensor_limits& most) {
  dom::object object;
  if (auto fault = read_object(body, json, object)) return fault;
  std::string_view form;
  dom::element given;
  for (const auto field : object) {
    const bool known = field.key == "instances" || field.key == "inputs" || field.key == "dataframe_split" ||
                       field.key == "dataframe_records";
    if (!known) continue;
    if (!form.empty())
      return malformed("the request has both " + std::string(form) + " and " + std::string(field.key));
    form = field.key;
    given = field.value;
  }
  if (form.empty())
    return malformed("the request has none of instances, inputs, dataframe_split, dataframe_records");
  if (form == "dataframe_split") {
    dom::object split;
    if (given.get(split) != simdjson::SUCCESS)
      return wrong("dataframe_split must be an object, found " + std::string(found(given)));
    if (!r.model->schema().inputs.empty())
      return wrong(asked_model(*r.model) + " takes tensors: send inputs or dataframe_records");
    std::optional<dom::element> columns, data;
    for (const auto field : split) {
      if (field.key == "columns") columns = field.value;
      if (field.key == "data") data = field.value;
    }
    if (!data) return wrong("dataframe_split has no data");
    if (!columns) return read_rows(*data, r, batch, most, "dataframe_split.data");
    return read_table(*columns, *data, r, batch, most, "dataframe_split.data");
  }
  if (form == "inputs" && given.is_object()) {
    if (r.model->schema().inputs.empty()) return read_columns(given, r, batch, most, "inputs");
    return read_tensor_columns(as<dom::object>(given), r, batch, most);
  }
  return read_rows(given, r, batch, most, form);
}

namespace {

/// csv_head
bool is_row(const std::vector<std::string_view>& fields, const model::loaded_model& m) {
  const auto& schema = m.schema();
  if (fields.size() != schema.features.size()) return false;
  bool numbers = false;
  bool counts = fields.size() > 2;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (schema.index_of(fields[i]) >= 0) return false;
    counts = counts && fields[i] == std::to_string(i);
    double x = 0;
    if (fields[i].empty() || takes_category(m, i)) continue;
    if (!number_of(fields[i], x)) return false;
    numbers = true;
  }
  return numbers && !counts;
}

request_fault takes_csv(const model::loaded_model& m) {
  if (m.schema().inputs.empty()) return {};
  return wrong(asked_model(m) + " takes tensors, which have no form in text/csv: send JSON");
}

/// What a record's fields are for: the features in the order of the fields, and what stands in for those that
/// are not there.
struct csv_columns {
  csv_head head = csv_head::unknown;
  std::vector<std::size_t> order;
  std::vector<double> defaults;

  request_fault read(const std::vector<std::string_view>& fields, const model::loaded_model& m) {
    const auto& schema = m.schema();
    const std::size_t width = schema.features.size();
    if (head == csv_head::unknown) head = is_row(fields, m) ? csv_head::row : csv_head::names;
    defaults.assign(width, std::numeric_limits<double>::quiet_NaN());
    if (head == csv_head::row) {
      if (fields.size() != width)
        return wrong("CSV line 1: " + std::to_string(fields.size()) +
                     (fields.size() == 1 ? " field, " : " fields, ") + asked_model(m) + " has " +
                     std::to_string(width) + " features");
      for (std::size_t i = 0; i < width; ++i) order.push_back(i);
      return {};
    }
    std::vector<bool> seen(width);
    for (const std::string_view name : fields) {
      const int at = schema.index_of(name);
      if (at < 0 && name.empty() && order.empty() && fields.size() > 1 && !fields[1].empty())
        return wrong(
            "CSV line 1: the first column has no name: if it is a table's index, write the file "
            "without it (pandas: index=False)");
      if (at < 0) return wrong("CSV line 1: " + unknown_feature(m, name));
      const auto i = static_cast<std::size_t>(at);
      if (seen[i]) return wrong("CSV line 1: column " + shown(name) + " is there twice");
      seen[i] = true;
      order.push_back(i);
    }
    for (std::size_t i = 0; i < width; ++i) {
      if (seen[i]) continue;
      const std::string why = take_number(m, i, defaults[i]);
      if (!why.empty()) return wrong("column " + shown(schema.features[i].name) + why);
    }
    return {};
  }
};

}  // namespace

request_fault look_at_csv(std::string_view first, const model::loaded_model& m, csv_head& head) {
  if (auto no = takes_csv(m)) return no;
  if (!simdjson::validate_utf8(first.data(), first.size())) return malformed("CSV line 1 is not valid UTF-8");
  csv_reader csv(first);
  std::vector<std::string_view> fields;
  if (!csv.next(fields)) return malformed("CSV " + (csv.error().empty() ? "is empty" : csv.error()));
  csv_columns columns;
  auto fault = columns.read(fields, m);
  head = columns.head;
  return fault;
}

request_fault read_csv(std::string_view body, record& r, record_batch& batch, const tensor_limits& most,
                       csv_head head) {
  const model::loaded_model& m = *r.model;
  const auto& schema = m.schema();
  if (auto no = takes_csv(m)) return no;
  if (!simdjson::validate_utf8(body.data(), body.size())) return malformed("the request is not valid UTF-8");
  r.list = true;
  const std::size_t width = schema.features.size();
  csv_reader csv(body);
  std::vector<std::string_view> fields;
  const auto broken = [&] { return malformed("CSV " + csv.error()); };
  if (!csv.next(fields)) return csv.error().empty() ? malformed("the request is empty") : broken();
  csv_columns columns;
  columns.head = head;
  if (auto fault = columns.read(fields, m)) return fault;
  const auto& [what, order, defaults] = columns;
  std::size_t rows = 0;
  for (bool more = what == csv_head::row || csv.next(fields); more; more = csv.next(fields)) {
    if (auto many = check_rows(++rows, width, most)) return many;
    const std::size_t begin = batch.values.size();
    batch.values.insert(batch.values.end(), defaults.begin(), defaults.end());
    double* const to = batch.values.data() + begin;
    for (std::size_t k = 0; k < order.size(); ++k) {
      const std::size_t i = order[k];
      const std::string_view text = fields[k];
      std::string why;
      if (text.empty()) {
        why = take_number(m, i, to[i]);
      } else if (takes_category(m, i)) {
        why = take_category(m, i, text, to[i]);
      } else if (!number_of(text, to[i])) {
        why = " must be a finite number";
      } else if (schema.rules) {
        why = take_number(m, i, to[i]);
      }
      if (!why.empty())
        return wrong("CSV line " + std::to_string(csv.line()) + ": column " + shown(schema.features[i].name) +
                     why);
    }
  }
  if (!csv.error().empty()) return broken();
  r.rows = static_cast<std::uint32_t>(rows);
  return {};
}

const score_writer::model_text& score_writer::text_of(const model::loaded_model& m) {
  for (const auto& t : texts_)
    if (t.digest == m.digest() && t.version == m.version() && t.name == m.name()) return t;
  model_text t;
  t.digest = m.digest();
  t.name = m.name();
  t.version = m.version();
  t.head = ",\"metadata\":{\"model_name\":";
  append_quoted(t.head, t.name);
  t.head += ",\"model_version\":";
  append_quoted(t.head, t.version);
  t.head += ",\"deployment\":";
  t.prediction = prediction_text(m);
  if (texts_.size() < kept_texts) {
    texts_.push_back(std::move(t));
    return texts_.back();
  }
  oldest_ = (oldest_ + 1) % kept_texts;
  return texts_[oldest_] = std::move(t);
}

bool score_writer::predictions(std::string& out, const record& request, const double* outputs, bool top_k) {
  const model::loaded_model& m = *request.model;
  for (std::size_t i = 0; i < request.rows * m.output().width; ++i)
    if (!std::isfinite(outputs[i])) return false;
  appender text(buffer_);
  text += "{\"predictions\":";
  append_predictions(text, m, text_of(m).prediction, request.rows, true, outputs);
  if (top_k && m.output().top_k > 0) {
    text += ",\"top_k\":";
    append_top_k(text, m, text_of(m).prediction, request.rows, true, outputs);
  }
  out += text.text();
  if (buffer_.size() > kept_buffer) std::string().swap(buffer_);
  return true;
}

bool score_writer::score(std::string& out, const record& request, const double* outputs,
                         const score_metadata& metadata, std::string_view explanation) {
  if (!predictions(out, request, outputs, true)) return false;
  out += explanation;
  out += text_of(*request.model).head;
  append_quoted(out, metadata.deployment);
  out += ",\"request_id\":";
  out += request.request_id;
  out += ",\"inference_time_ms\":";
  append_number(out, static_cast<double>(metadata.model_time / 1000) / 1e3);
  out += ",\"timestamp\":";
  append_iso_time(out, request.timestamp_ms);
  out += ",\"num_predictions\":";
  append_number(out, std::int64_t{request.rows});
  out += "}}";
  return true;
}

bool score_writer::invocations(std::string& out, const record& request, const double* outputs) {
  if (!predictions(out, request, outputs, false)) return false;
  out += '}';
  return true;
}

std::string score_error(const record& request, error_code code, std::string_view message,
                        std::string_view stage) {
  std::string body = "{\"error\":";
  append_quoted(body, message);
  body += ",\"trace\":\"";
  body += stage.empty() ? stage_of(code) : stage;
  body += "\",\"metadata\":{\"request_id\":";
  body += request.request_id.empty() ? std::string_view("null") : request.request_id;
  body += ",\"timestamp\":";
  append_iso_time(body, request.timestamp_ms);
  body += ",\"model_version\":";
  if (request.model != nullptr) {
    append_quoted(body, request.model->version());
  } else {
    body += "null";
  }
  return body += "}}";
}

}  // namespace troupe::codec
