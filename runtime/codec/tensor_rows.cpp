#include "runtime/codec/tensor_rows.hpp"

#include <simdjson.h>

#include <cmath>
#include <new>
#include <utility>
#include <vector>

#include "runtime/codec/base64.hpp"
#include "runtime/codec/dom_text.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/model/cells.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/tensor.hpp"

namespace troupe::codec {
namespace {

namespace dom = simdjson::dom;
using model::tensor_input;

std::string_view kind_text(tensor_input::kind kind) {
  switch (kind) {
    case tensor_input::kind::text:
      return "a string";
    case tensor_input::kind::bytes:
      return "a string of base64";
    default:
      return "a finite number";
  }
}

std::size_t depth_of(dom::element e) {
  std::size_t depth = 0;
  dom::array list;
  while (e.get(list) == simdjson::SUCCESS) {
    ++depth;
    if (list.begin() == list.end()) break;
    e = *list.begin();
  }
  return depth;
}

class reader {
 public:
  reader(record& r, record_batch& batch, const tensor_limits& most, std::string_view field)
      : record_(r), batch_(batch), most_(most), field_(field), inputs_(r.model->schema().inputs) {}

  request_fault read(const dom::element& given);

 private:
  [[nodiscard]] std::string asked() const { return asked_model(*record_.model); }
  [[nodiscard]] std::string where(const tensor_input& input) const {
    std::string text =
        record_.list ? std::string(field_) + "[" + std::to_string(row_) + "]: " : std::string();
    return text + "input " + shown(input.name);
  }
  bool fail(error_code code, std::string message) {
    fault_ = {code, std::move(message)};
    return false;
  }
  bool wrong(std::string message) { return fail(error_code::invalid_features, std::move(message)); }

  bool row(const dom::element& e);
  bool by_name(const dom::object& object, double* to);
  bool by_place(const dom::array& list, double* to);
  bool tensor(const tensor_input& input, const dom::element& e, double* to);
  bool nested(const tensor_input& input, const dom::element& e, std::size_t dimension, double*& to);
  bool leaf(const tensor_input& input, const dom::element& e, double*& to);
  [[nodiscard]] bool is_list_of_rows(const dom::element& given) const;
  [[nodiscard]] bool scalars() const;

  record& record_;
  record_batch& batch_;
  const tensor_limits& most_;
  std::string_view field_;
  const std::vector<tensor_input>& inputs_;
  std::size_t row_ = 0;
  request_fault fault_;
};

bool reader::scalars() const {
  for (const auto& i : inputs_)
    if (i.size != 1) return false;
  return true;
}

/// A single input takes rows of one nesting more than its own; several inputs take objects, or where each is
/// one value a list of those.
bool reader::is_list_of_rows(const dom::element& given) const {
  dom::array list;
  if (given.get(list) != simdjson::SUCCESS || list.begin() == list.end()) return false;
  const dom::element first = *list.begin();
  if (first.is_object()) return true;
  if (inputs_.size() > 1) return first.is_array();
  const std::size_t rank = inputs_[0].shape.size();
  const std::size_t depth = depth_of(given);
  return depth == rank + 1 || (depth == 2 && rank > 2);
}

request_fault reader::read(const dom::element& given) {
  const std::size_t width = record_.model->schema().features.size();
  const auto room = [&](std::size_t rows) {
    if (rows <= most_.max_rows && rows * width <= most_.max_values) return true;
    return fail(error_code::too_large, "the request has " + std::to_string(rows) + " rows of " +
                                           std::to_string(width) + " values; at most " +
                                           std::to_string(most_.max_rows) + " rows and " +
                                           std::to_string(most_.max_values) + " values are taken");
  };
  record_.list = is_list_of_rows(given);
  if (!record_.list) {
    if (room(1) && row(given)) record_.rows = 1;
    return std::move(fault_);
  }
  const auto list = as<dom::array>(given);
  std::size_t rows = 0;
  for ([[maybe_unused]] const dom::element e : list) ++rows;
  if (!room(rows)) return std::move(fault_);
  for (const dom::element e : list) {
    if (!row(e)) return std::move(fault_);
    ++row_;
  }
  record_.rows = static_cast<std::uint32_t>(rows);
  return {};
}

bool reader::row(const dom::element& e) {
  const std::size_t begin = batch_.values.size();
  batch_.values.resize(begin + record_.model->schema().features.size());
  double* const to = batch_.values.data() + begin;
  dom::object object;
  if (e.get(object) == simdjson::SUCCESS) return by_name(object, to);
  if (inputs_.size() == 1) return tensor(inputs_[0], e, to);
  dom::array list;
  if (scalars() && e.get(list) == simdjson::SUCCESS) return by_place(list, to);
  std::string names;
  for (std::size_t i = 0; i < inputs_.size() && i < 12; ++i)
    names.append(i ? ", " : "")
        .append(inputs_[i].name)
        .append(" ")
        .append(model::shape_text(inputs_[i].shape));
  return wrong(asked() + " takes an object by input name (" + names + (inputs_.size() > 12 ? ", ..." : "") +
               "), found " + std::string(found(e)));
}

bool reader::by_name(const dom::object& object, double* to) {
  std::vector<bool> seen(inputs_.size());
  for (const auto field : object) {
    std::size_t i = 0;
    while (i < inputs_.size() && inputs_[i].name != field.key) ++i;
    if (i == inputs_.size()) {
      const auto close =
          nearest(field.key, inputs_, [](const auto& x) -> std::string_view { return x.name; });
      return wrong(shown(field.key) + " is not an input of " + asked() +
                   (close.empty() ? std::string() : "; did you mean " + shown(close) + "?"));
    }
    seen[i] = true;
    if (!tensor(inputs_[i], field.value, to + inputs_[i].begin)) return false;
  }
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    if (!seen[i]) return wrong(where(inputs_[i]) + " of " + asked() + " is missing");
  return true;
}

bool reader::by_place(const dom::array& list, double* to) {
  std::size_t n = 0;
  for (const dom::element e : list) {
    if (n < inputs_.size() && !tensor(inputs_[n], e, to + n)) return false;
    ++n;
  }
  if (n == inputs_.size()) return true;
  return wrong(asked() + " takes " + std::to_string(inputs_.size()) + " values, got " + std::to_string(n));
}

bool reader::tensor(const tensor_input& input, const dom::element& e, double* to) {
  double* at = to;
  dom::array list;
  if (e.get(list) != simdjson::SUCCESS) {
    if (input.size == 1) return leaf(input, e, at);
    return wrong(where(input) + " takes a list of the shape " + model::shape_text(input.shape) + ", found " +
                 std::string(found(e)));
  }
  const bool flat = input.shape.size() > 1 && depth_of(e) == 1;
  if (!flat) return nested(input, e, 0, at);
  std::size_t n = 0;
  for (const dom::element x : list) {
    if (n < input.size && !leaf(input, x, at)) return false;
    ++n;
  }
  if (n == input.size) return true;
  return wrong(where(input) + " takes " + model::shape_text(input.shape) + ", which are " +
               std::to_string(input.size) + " values, got " + std::to_string(n));
}

bool reader::nested(const tensor_input& input, const dom::element& e, std::size_t dimension, double*& to) {
  if (dimension == input.shape.size()) return leaf(input, e, to);
  dom::array list;
  const auto wanted = static_cast<std::size_t>(input.shape[dimension]);
  std::size_t n = 0;
  if (e.get(list) == simdjson::SUCCESS) {
    for (const dom::element x : list) {
      if (n < wanted && !nested(input, x, dimension + 1, to)) return false;
      ++n;
    }
    if (n == wanted) return true;
  }
  return wrong(where(input) + " takes the shape " + model::shape_text(input.shape) + ", found " +
               (e.is_array() ? std::to_string(n) + " values" : std::string(found(e))) + " in dimension " +
               std::to_string(dimension));
}

bool reader::leaf(const tensor_input& input, const dom::element& e, double*& to) {
  std::string_view text;
  switch (input.holds) {
    case tensor_input::kind::number: {
      bool truth = false;
      if (e.get(*to) == simdjson::SUCCESS && std::isfinite(*to)) return ++to, true;
      if (e.get(truth) == simdjson::SUCCESS) return *to++ = truth, true;
      break;
    }
    case tensor_input::kind::text:
      if (e.get(text) != simdjson::SUCCESS || is_marker(text)) break;
      *to++ = text_cell_in(batch_, batch_.keep(text));
      return true;
    case tensor_input::kind::bytes: {
      if (e.get(text) != simdjson::SUCCESS) break;
      auto* const bytes = static_cast<char*>(batch_.arena.allocate(decoded_size(text), 1));
      const auto size = decode_base64(text, bytes);
      if (!size) return wrong(where(input) + " is a string, but not of base64");
      if (*size == 0) return wrong(where(input) + " is empty");
      *to++ = text_cell_in(batch_, {bytes, *size});
      return true;
    }
  }
  return wrong(where(input) + " must be " + std::string(kind_text(input.holds)) + ", found " +
               std::string(found(e)));
}

}  // namespace

double text_cell_in(record_batch& batch, std::string_view kept) {
  void* const room = batch.arena.allocate(sizeof(std::string_view), alignof(std::string_view));
  return model::text_cell(new (room) std::string_view(kept));
}

request_fault read_tensors(const dom::element& given, record& r, record_batch& batch,
                           const tensor_limits& most, std::string_view field) {
  return reader(r, batch, most, field).read(given);
}

bool takes_bytes(const model::loaded_model& m) {
  const auto& inputs = m.schema().inputs;
  return inputs.size() == 1 && inputs[0].size == 1 && inputs[0].holds == tensor_input::kind::bytes;
}

request_fault take_bytes(record& r, record_batch& batch, std::string_view content_type) {
  if (!takes_bytes(*r.model))
    return {error_code::invalid_features, "a value of content-type " + shown(content_type) +
                                              " is for models that take bytes; model " +
                                              std::string(r.model->name()) + " version " +
                                              std::string(r.model->version()) + " does not: send JSON"};
  if (r.value.empty()) return {error_code::invalid_features, "the value is empty"};
  batch.values.push_back(text_cell_in(batch, r.value));
  r.rows = 1;
  return {};
}

}  // namespace troupe::codec
