#include "runtime/codec/feature_rows.hpp"

#include <simdjson.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "runtime/codec/dom_text.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {
namespace {

namespace dom = simdjson::dom;

constexpr double missing_value = std::numeric_limits<double>::quiet_NaN();

std::string not_defined(const model::loaded_model& m, std::string_view how) {
  return " is " + std::string(how) + " and " + asked_model(m) + " does not say what to put in its place";
}

std::string outside(const model::cell_rule& rule, double x) {
  std::string text = " is ";
  append_number(text, x);
  return text + ", and must be " + rule.allowed();
}

class reader {
 public:
  reader(record& r, record_batch& batch, std::string_view field)
      : record_(r), batch_(batch), model_(*r.model), schema_(r.model->schema()), field_(field) {}

  request_fault features(const dom::element& given, const tensor_limits& most);
  request_fault table(const dom::element& columns, const dom::element& rows, const tensor_limits& most);
  request_fault columns(const dom::element& given, const tensor_limits& most);

 private:
  bool cell(const dom::element& e, std::size_t row, std::size_t i, double& out);
  bool list_row(const dom::array& list, std::size_t row);
  bool named_row(const dom::object& object, std::size_t row);
  bool fill_missing(double* out, std::size_t row);
  bool column_named(std::string_view name, std::vector<bool>& seen, std::size_t& at);

  [[nodiscard]] std::string row_prefix(std::size_t row) const {
    return record_.list ? std::string(field_) + "[" + std::to_string(row) + "]: " : std::string();
  }
  [[nodiscard]] std::string name_of(std::size_t row, std::size_t i) const {
    if (schema_.named) return row_prefix(row) + "feature " + shown(schema_.features[i].name);
    return std::string(field_) + (record_.list ? "[" + std::to_string(row) + "][" : std::string("[")) +
           std::to_string(i) + "]";
  }
  bool wrong(std::string message) {
    fault_ = {error_code::invalid_features, std::move(message)};
    return false;
  }
  request_fault fault() { return std::move(fault_); }

  record& record_;
  record_batch& batch_;
  const model::loaded_model& model_;
  const model::schema& schema_;
  std::string_view field_;
  request_fault fault_;
};

/// A cell that is no number, or has a rule. A missing value without a default becomes a NaN.
bool reader::cell(const dom::element& e, std::size_t row, std::size_t i, double& out) {
  const model::cell_rule* const rule = schema_.features[i].rule.get();
  if (e.is_null()) {
    out = rule ? rule->missing : missing_value;
    return true;
  }
  std::string_view name;
  if (rule && !rule->categories.empty()) {
    if (e.get(name) != simdjson::SUCCESS || is_marker(name))
      return wrong(name_of(row, i) + " must be " + rule->allowed() + ", found " + std::string(found(e)));
    const std::string why = take_category(model_, i, name, out);
    return why.empty() || wrong(name_of(row, i) + why);
  }
  if (e.get(out) != simdjson::SUCCESS)
    return wrong(name_of(row, i) + " must be a finite number, found " + std::string(found(e)));
  return !rule || rule->take(out) || wrong(name_of(row, i) + outside(*rule, out));
}

bool reader::list_row(const dom::array& list, std::size_t row) {
  const std::size_t width = schema_.features.size();
  const std::size_t begin = batch_.values.size();
  batch_.values.resize(begin + width);
  double* out = batch_.values.data() + begin;
  const bool rules = schema_.rules;
  std::size_t n = 0;
  for (const dom::element e : list) {
    if (n < width && (rules || e.get(out[n]) != simdjson::SUCCESS)) {
      if (!cell(e, row, n, out[n])) return false;
      if (std::isnan(out[n]) && !schema_.missing_allowed(n))
        return wrong(name_of(row, n) + not_defined(model_, "null"));
    }
    ++n;
  }
  return n == width || wrong(row_prefix(row) + wrong_width(model_, n));
}

/// What was not named. A missing value without a default stays a NaN.
bool reader::fill_missing(double* out, std::size_t row) {
  for (std::size_t i = 0; i < schema_.features.size(); ++i) {
    if (!std::isnan(out[i])) continue;
    if (schema_.rules && schema_.features[i].rule) out[i] = schema_.features[i].rule->missing;
    if (!std::isnan(out[i]) || schema_.missing_allowed(i)) continue;
    return wrong(name_of(row, i) + not_defined(model_, "missing"));
  }
  return true;
}

bool reader::named_row(const dom::object& object, std::size_t row) {
  const std::size_t width = schema_.features.size();
  const std::size_t begin = batch_.values.size();
  batch_.values.resize(begin + width, missing_value);
  double* out = batch_.values.data() + begin;
  const bool rules = schema_.rules;
  for (const auto field : object) {
    const int at = schema_.index_of(field.key);
    if (at < 0) return wrong(row_prefix(row) + unknown_feature(model_, field.key));
    const auto i = static_cast<std::size_t>(at);
    double value = missing_value;
    if (rules || field.value.get(value) != simdjson::SUCCESS)
      if (!cell(field.value, row, i, value)) return false;
    out[i] = value;
  }
  return fill_missing(out, row);
}

request_fault reader::features(const dom::element& given, const tensor_limits& most) {
  dom::object object;
  if (given.get(object) == simdjson::SUCCESS) {
    if (named_row(object, 0)) record_.rows = 1;
    return fault();
  }
  dom::array list;
  if (given.get(list) != simdjson::SUCCESS) {
    wrong(std::string(field_) +
          " must be a list of numbers, an object by feature name or a list of rows, found " +
          std::string(found(given)));
    return fault();
  }
  const auto first = list.begin();
  record_.list = first != list.end() && ((*first).is_array() || (*first).is_object());
  if (!record_.list) {
    if (list_row(list, 0)) record_.rows = 1;
    return fault();
  }

  std::size_t rows = 0;
  for ([[maybe_unused]] const dom::element row : list) ++rows;
  if (auto many = check_rows(rows, schema_.features.size(), most)) return many;
  std::size_t n = 0;
  for (const dom::element row : list) {
    dom::array values;
    if (row.get(values) == simdjson::SUCCESS) {
      if (!list_row(values, n)) return fault();
    } else if (row.get(object) == simdjson::SUCCESS) {
      if (!named_row(object, n)) return fault();
    } else {
      wrong(row_prefix(n) + "a row must be a list or an object, found " + std::string(found(row)));
      return fault();
    }
    ++n;
  }
  record_.rows = static_cast<std::uint32_t>(n);
  return {};
}

bool reader::column_named(std::string_view name, std::vector<bool>& seen, std::size_t& at) {
  const int i = schema_.index_of(name);
  if (i < 0) return wrong(unknown_feature(model_, name));
  at = static_cast<std::size_t>(i);
  if (seen[at]) return wrong("column " + shown(name) + " is there twice");
  seen[at] = true;
  return true;
}

request_fault reader::table(const dom::element& names, const dom::element& rows, const tensor_limits& most) {
  record_.list = true;
  dom::array list;
  if (names.get(list) != simdjson::SUCCESS) {
    wrong("columns must be a list of feature names, found " + std::string(found(names)));
    return fault();
  }
  const std::size_t width = schema_.features.size();
  std::vector<bool> seen(width);
  std::vector<std::size_t> order;
  for (const dom::element e : list) {
    std::string_view name;
    if (e.get(name) != simdjson::SUCCESS || is_marker(name)) {
      wrong("columns[" + std::to_string(order.size()) + "] must be a string, found " + std::string(found(e)));
      return fault();
    }
    if (!column_named(name, seen, order.emplace_back())) return fault();
  }
  if (rows.get(list) != simdjson::SUCCESS) {
    wrong(std::string(field_) + " must be a list of rows, found " + std::string(found(rows)));
    return fault();
  }
  std::size_t count = 0;
  for ([[maybe_unused]] const dom::element row : list) ++count;
  if (auto many = check_rows(count, width, most)) return many;
  std::size_t row = 0;
  for (const dom::element e : list) {
    dom::array values;
    if (e.get(values) != simdjson::SUCCESS) {
      wrong(row_prefix(row) + "a row must be a list, found " + std::string(found(e)));
      return fault();
    }
    const std::size_t begin = batch_.values.size();
    batch_.values.resize(begin + width, missing_value);
    double* const out = batch_.values.data() + begin;
    std::size_t n = 0;
    for (const dom::element value : values) {
      if (n < order.size() && !cell(value, row, order[n], out[order[n]])) return fault();
      ++n;
    }
    if (n != order.size()) {
      wrong(row_prefix(row) + "there are " + std::to_string(order.size()) + " columns, got " +
            std::to_string(n) + " values");
      return fault();
    }
    if (!fill_missing(out, row)) return fault();
    ++row;
  }
  record_.rows = static_cast<std::uint32_t>(count);
  return {};
}

request_fault reader::columns(const dom::element& given, const tensor_limits& most) {
  record_.list = true;
  dom::object object;
  if (given.get(object) != simdjson::SUCCESS) {
    wrong(std::string(field_) + " must be an object of columns, found " + std::string(found(given)));
    return fault();
  }
  const std::size_t width = schema_.features.size();
  const std::size_t begin = batch_.values.size();
  std::vector<bool> seen(width);
  std::size_t rows = 0;
  bool first = true;
  for (const auto column : object) {
    std::size_t at = 0;
    if (!column_named(column.key, seen, at)) return fault();
    dom::array list;
    if (column.value.get(list) != simdjson::SUCCESS) {
      wrong(std::string(field_) + "." + std::string(column.key) + " must be a list, found " +
            std::string(found(column.value)));
      return fault();
    }
    std::size_t n = 0;
    for ([[maybe_unused]] const dom::element e : list) ++n;
    if (first) {
      rows = n;
      if (auto many = check_rows(rows, width, most)) return many;
      batch_.values.resize(begin + rows * width, missing_value);
      first = false;
    }
    if (n != rows) {
      wrong("column " + shown(column.key) + " has " + std::to_string(n) + " values, another has " +
            std::to_string(rows));
      return fault();
    }
    std::size_t row = 0;
    for (const dom::element e : list) {
      if (!cell(e, row, at, batch_.values[begin + row * width + at])) return fault();
      ++row;
    }
  }
  for (std::size_t row = 0; row < rows; ++row)
    if (!fill_missing(batch_.values.data() + begin + row * width, row)) return fault();
  record_.rows = static_cast<std::uint32_t>(rows);
  return {};
}

}  // namespace

request_fault read_features(const dom::element& given, record& r, record_batch& batch,
                            const tensor_limits& most, std::string_view field) {
  if (!r.model->schema().inputs.empty()) return read_tensors(given, r, batch, most, field);
  return reader(r, batch, field).features(given, most);
}

request_fault read_table(const dom::element& columns, const dom::element& rows, record& r,
                         record_batch& batch, const tensor_limits& most, std::string_view field) {
  return reader(r, batch, field).table(columns, rows, most);
}

request_fault read_columns(const dom::element& given, record& r, record_batch& batch,
                           const tensor_limits& most, std::string_view field) {
  return reader(r, batch, field).columns(given, most);
}

request_fault check_rows(std::size_t rows, std::size_t width, const tensor_limits& most) {
  if (rows <= most.max_rows && rows * width <= most.max_values) return {};
  return {error_code::too_large, "the request has " + std::to_string(rows) + " rows of " +
                                     std::to_string(width) + " features; at most " +
                                     std::to_string(most.max_rows) + " rows and " +
                                     std::to_string(most.max_values) + " numbers are taken"};
}

std::string take_number(const model::loaded_model& m, std::size_t column, double& x,
                        std::string_view missing_is) {
  const model::cell_rule* const rule = m.schema().features[column].rule.get();
  if (std::isnan(x)) {
    if (rule) x = rule->missing;
    if (!std::isnan(x) || m.schema().missing_allowed(column)) return {};
    return not_defined(m, missing_is);
  }
  if (rule && !rule->categories.empty()) return " must be " + rule->allowed() + ", found a number";
  if (std::isinf(x)) return " must be a finite number, found Infinity";
  return !rule || rule->take(x) ? std::string() : outside(*rule, x);
}

std::string take_category(const model::loaded_model& m, std::size_t column, std::string_view text,
                          double& x) {
  const model::cell_rule& rule = *m.schema().features[column].rule;
  x = rule.number_of(text);
  if (!std::isnan(x)) return {};
  std::string why = " must be " + rule.allowed() + ", found another string";
  const auto close =
      nearest(text, rule.categories, [](const auto& name) -> std::string_view { return name; });
  if (!close.empty()) why += "; did you mean " + shown(close) + "?";
  return why;
}

bool takes_category(const model::loaded_model& m, std::size_t column) {
  const auto& rule = m.schema().features[column].rule;
  return rule && !rule->categories.empty();
}

std::string unknown_feature(const model::loaded_model& m, std::string_view name) {
  std::string text = shown(name) + " is not a feature of " + asked_model(m);
  const auto close =
      nearest(name, m.schema().features, [](const auto& x) -> std::string_view { return x.name; });
  if (!close.empty()) return text + "; did you mean " + shown(close) + "?";
  if (m.schema().named) return text;
  return text + ", whose features have no names of their own: send a list, or f0, f1, ...";
}

std::string wrong_width(const model::loaded_model& m, std::size_t got) {
  constexpr std::size_t longest = 12;
  const auto& features = m.schema().features;
  std::string text = asked_model(m) + " takes " + std::to_string(features.size()) +
                     (features.size() == 1 ? " feature" : " features");
  if (m.schema().named) {
    text += " (";
    for (std::size_t i = 0; i < features.size() && i < longest; ++i) {
      if (i != 0) text += ", ";
      text += features[i].name;
    }
    text += features.size() > longest ? ", ...)" : ")";
  }
  return text + ", got " + std::to_string(got);
}

}  // namespace troupe::codec
