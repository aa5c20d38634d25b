#include "runtime/codec/v2_rows.hpp"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "runtime/codec/base64.hpp"
#include "runtime/codec/dom_text.hpp"
#include "runtime/codec/feature_rows.hpp"
#include "runtime/codec/half.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/codec/v2_request.hpp"
#include "runtime/model/cells.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/tensor.hpp"

namespace troupe::codec {
namespace {

namespace dom = simdjson::dom;
using model::tensor_input;

static_assert(std::endian::native == std::endian::little);

constexpr double missing_value = std::numeric_limits<double>::quiet_NaN();

/// "[2][3]" of element `flat` of a tensor.
std::string place(std::span<const std::int64_t> shape, std::size_t flat) {
  std::string text;
  for (std::size_t k = shape.size(); k-- > 0;) {
    const auto d = static_cast<std::size_t>(std::max<std::int64_t>(shape[k], 1));
    text.insert(0, "[" + std::to_string(flat % d) + "]");
    flat /= d;
  }
  return text;
}

template <class T>
void convert(const void* from, std::size_t n, double* to) {
  const char* p = static_cast<const char*>(from);
  for (std::size_t i = 0; i < n; ++i) {
    T x;
    std::memcpy(&x, p + i * sizeof(T), sizeof(T));
    to[i] = static_cast<double>(x);
  }
}

template <float (*Read)(std::uint16_t)>
void convert_half(const void* from, std::size_t n, double* to) {
  const char* p = static_cast<const char*>(from);
  for (std::size_t i = 0; i < n; ++i) {
    std::uint16_t x;
    std::memcpy(&x, p + i * sizeof x, sizeof x);
    to[i] = static_cast<double>(Read(x));
  }
}

bool all_finite(const double* x, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += x[i] * 0;
  return sum == 0;
}

/// Where the elements of an input go: element i of row r to base[r * stride + i].
struct target {
  double* base = nullptr;
  std::size_t rows = 0;
  std::size_t per_row = 0;
  std::size_t stride = 0;
};

class reader {
 public:
  reader(std::span<const v2_input> inputs, record& r, record_batch& batch, const tensor_limits& most)
      : inputs_(inputs),
        record_(r),
        batch_(batch),
        model_(*r.model),
        schema_(r.model->schema()),
        most_(most) {}

  request_fault read();

 private:
  bool tabular();
  bool one_tensor(const v2_input& in);
  bool by_feature();
  bool tensors();
  bool finish_cells(std::size_t begin, std::size_t rows);

  bool start(std::size_t rows);
  bool known_type(const v2_input& in, v2_type& type);
  bool count_matches(const v2_input& in, v2_type type, std::size_t elements);

  // The elements of an input, in order.
  bool numbers(const v2_input& in, v2_type type, const target& to);
  bool flat_numbers(const v2_input& in, v2_type type, std::size_t n, double* to);
  bool json_numbers(const v2_input& in, v2_type type, const dom::array& list, double* to, std::size_t n,
                    std::size_t& at);
  bool json_number(const v2_input& in, v2_type type, const dom::element& e, std::size_t at, double& to);
  template <class Leaf>
  bool json_leaves(const v2_input& in, const dom::element& e, std::size_t dimension, std::size_t& at,
                   Leaf leaf);
  template <class Take>
  bool texts(const v2_input& in, std::size_t n, Take take);
  bool text_cells(const v2_input& in, const tensor_input& as, const target& to);

  [[nodiscard]] std::string name(const v2_input& in) const { return "input " + shown(in.name); }
  [[nodiscard]] std::string element(const v2_input& in, std::size_t at) const {
    return name(in) + " element " + place(in.shape, at);
  }
  bool fail(error_code code, std::string message) {
    fault_ = {code, std::move(message)};
    return false;
  }
  bool wrong(std::string message) { return fail(error_code::invalid_features, std::move(message)); }
  bool shape_mismatch(const v2_input& in) {
    return wrong("data of " + name(in) + " does not have its shape " + model::shape_text(in.shape));
  }

  std::span<const v2_input> inputs_;
  record& record_;
  record_batch& batch_;
  const model::loaded_model& model_;
  const model::schema& schema_;
  const tensor_limits& most_;
  request_fault fault_;
  std::vector<double> column_;
};

request_fault reader::read() {
  record_.list = true;
  std::size_t all = 0;
  for (const v2_input& in : inputs_) {
    const auto n = v2_elements(in.shape, most_.max_values);
    const bool negative = std::any_of(in.shape.begin(), in.shape.end(), [](std::int64_t d) { return d < 0; });
    if (negative) {
      wrong(name(in) + " has a negative dimension: " + model::shape_text(in.shape));
      return std::move(fault_);
    }
    if (!n || *n > most_.max_values - all) {
      fail(error_code::too_large,
           "the request has more than " + std::to_string(most_.max_values) + " elements at " + name(in));
      return std::move(fault_);
    }
    all += *n;
  }
  if (inputs_.empty()) {
    wrong("the request has no inputs");
  } else if (schema_.inputs.empty()) {
    tabular();
  } else {
    tensors();
  }
  return std::move(fault_);
}

bool reader::start(std::size_t rows) {
  const std::size_t width = schema_.features.size();
  if (rows == 0) return wrong("the request has no rows");
  if (rows > most_.max_rows)
    return fail(error_code::too_large, "the request has " + std::to_string(rows) + " rows, at most " +
                                           std::to_string(most_.max_rows) + " are taken");
  // What is not given counts too: a row of a wide model may come with few of its inputs.
  constexpr std::size_t widest = std::size_t{1} << 26;
  if (rows * width > std::max(most_.max_values, width) * 4 || rows * width > widest)
    return fail(error_code::too_large, "the request has " + std::to_string(rows) + " rows of " +
                                           std::to_string(width) + " values, which are too many");
  batch_.values.resize(batch_.values.size() + rows * width, missing_value);
  record_.rows = static_cast<std::uint32_t>(rows);
  return true;
}

bool reader::known_type(const v2_input& in, v2_type& type) {
  const auto known = v2_type_of(in.datatype);
  if (!known) return wrong(name(in) + " has the unknown datatype " + shown(in.datatype));
  type = *known;
  return true;
}

bool reader::tabular() {
  const bool whole = inputs_.size() == 1 && inputs_[0].name == v2_tabular_input &&
                     (inputs_[0].shape.size() == 2 || schema_.index_of(v2_tabular_input) < 0);
  return whole ? one_tensor(inputs_[0]) : by_feature();
}

bool reader::one_tensor(const v2_input& in) {
  const std::size_t width = schema_.features.size();
  std::size_t rows = 1;
  const auto dimension = [&](std::size_t i) { return static_cast<std::size_t>(in.shape[i]); };
  if (in.shape.size() == 2 && dimension(1) == width) {
    rows = dimension(0);
  } else if (in.shape.size() == 1 && width == 1) {
    rows = dimension(0);
  } else if (in.shape.size() != 1 || dimension(0) != width) {
    const std::int64_t wanted[] = {-1, static_cast<std::int64_t>(width)};
    return wrong(name(in) + " has the shape " + model::shape_text(in.shape) + ", " + asked_model(model_) +
                 " takes " + model::shape_text(wanted) + ": " + std::to_string(width) +
                 (width == 1 ? " feature" : " features"));
  }
  v2_type type{};
  if (!known_type(in, type)) return false;
  const std::size_t begin = batch_.values.size();
  if (!start(rows)) return false;
  double* const to = batch_.values.data() + begin;
  if (type != v2_type::bytes) {
    if (!numbers(in, type, {to, rows, width, width})) return false;
    if (!schema_.rules && all_finite(to, rows * width)) return true;
    for (std::size_t i = 0; i < rows * width; ++i) {
      const std::string why = take_number(model_, i % width, to[i], "missing (NaN)");
      if (!why.empty())
        return wrong(
            element(in, i) +
            (schema_.named ? " (feature " + shown(schema_.features[i % width].name) + ")" : std::string()) +
            why);
    }
    return true;
  }
  for (std::size_t c = 0; c < width; ++c)
    if (!takes_category(model_, c))
      return wrong(name(in) + " must be numbers, found BYTES; send an input for each feature, by its name");
  return texts(in, rows * width, [&](std::size_t i, std::string_view text) {
    const std::string why = take_category(model_, i % width, text, to[i]);
    return why.empty() || wrong(element(in, i) + why);
  });
}

bool reader::by_feature() {
  const std::size_t width = schema_.features.size();
  std::size_t rows = 0;
  const std::size_t begin = batch_.values.size();
  for (std::size_t k = 0; k < inputs_.size(); ++k) {
    const v2_input& in = inputs_[k];
    const int at = schema_.index_of(in.name);
    if (at < 0) {
      const std::string hint =
          inputs_.size() == 1
              ? "; send one input named '" + std::string(v2_tabular_input) + "', or one for each feature"
              : std::string();
      return wrong("input " + unknown_feature(model_, in.name) + hint);
    }
    for (std::size_t before = 0; before < k && width < inputs_.size(); ++before)
      if (inputs_[before].name == in.name) return wrong(name(in) + " is there twice");
    const bool right = in.shape.size() == 1 || (in.shape.size() == 2 && in.shape[1] == 1);
    if (!right)
      return wrong(name(in) + " has the shape " + model::shape_text(in.shape) +
                   ", a feature has [rows] or [rows, 1]");
    const auto n = static_cast<std::size_t>(in.shape[0]);
    if (k == 0) {
      rows = n;
      if (!start(rows)) return false;
    } else if (n != rows) {
      return wrong(name(in) + " has " + std::to_string(n) + " rows, " + name(inputs_[0]) + " has " +
                   std::to_string(rows));
    }
    v2_type type{};
    if (!known_type(in, type)) return false;
    const auto column = static_cast<std::size_t>(at);
    double* const to = batch_.values.data() + begin + column;
    if (type == v2_type::bytes) {
      if (!takes_category(model_, column)) return wrong(name(in) + " must be numbers, found BYTES");
      if (!texts(in, rows, [&](std::size_t i, std::string_view text) {
            const std::string why = take_category(model_, column, text, to[i * width]);
            return why.empty() || wrong(element(in, i) + why);
          }))
        return false;
      continue;
    }
    if (!numbers(in, type, {to, rows, 1, width})) return false;
    for (std::size_t i = 0; i < rows; ++i) {
      if (!schema_.rules && std::isfinite(to[i * width])) continue;
      const std::string why = take_number(model_, column, to[i * width], "missing (NaN)");
      if (!why.empty()) return wrong(element(in, i) + why);
    }
  }
  if (inputs_.size() == width && width < 64) {
    // The usual case: as many inputs as features; unless one is there twice, none is missing.
    std::uint64_t seen = 0;
    for (const v2_input& in : inputs_) seen |= std::uint64_t{1} << schema_.index_of(in.name);
    if (seen == (std::uint64_t{1} << width) - 1) return true;
  }
  std::vector<bool> seen(width);
  for (const v2_input& in : inputs_) {
    const auto i = static_cast<std::size_t>(schema_.index_of(in.name));
    if (seen[i]) return wrong(name(in) + " is there twice");
    seen[i] = true;
  }
  for (std::size_t c = 0; c < width; ++c) {
    if (seen[c]) continue;
    double x = missing_value;
    const std::string why = take_number(model_, c, x);
    if (!why.empty()) return wrong("input " + shown(schema_.features[c].name) + why);
    for (std::size_t i = 0; i < rows; ++i) batch_.values[begin + i * width + c] = x;
  }
  return true;
}

bool reader::tensors() {
  const auto& wanted = schema_.inputs;
  const std::size_t width = schema_.features.size();
  std::vector<const v2_input*> given(wanted.size());
  for (const v2_input& in : inputs_) {
    std::size_t i = 0;
    while (i < wanted.size() && wanted[i].name != in.name) ++i;
    if (i == wanted.size()) {
      const auto close = nearest(in.name, wanted, [](const auto& x) -> std::string_view { return x.name; });
      return wrong(shown(in.name) + " is not an input of " + asked_model(model_) +
                   (close.empty() ? std::string() : "; did you mean " + shown(close) + "?"));
    }
    if (given[i] != nullptr) return wrong(name(in) + " is there twice");
    given[i] = &in;
  }
  std::size_t rows = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (given[i] == nullptr)
      return wrong("input " + shown(wanted[i].name) + " of " + asked_model(model_) + " is missing");
    const v2_input& in = *given[i];
    const auto& own = wanted[i].shape;
    const auto equal = [&](std::size_t skip) {
      return in.shape.size() == own.size() + skip &&
             std::equal(own.begin(), own.end(), in.shape.begin() + static_cast<std::ptrdiff_t>(skip));
    };
    std::size_t n = 1;
    if (equal(1) || (own.empty() && in.shape.size() == 2 && in.shape[1] == 1)) {
      n = static_cast<std::size_t>(in.shape[0]);
    } else if (!equal(0)) {
      std::vector<std::int64_t> batched(1, -1);
      batched.insert(batched.end(), own.begin(), own.end());
      return wrong(name(in) + " has the shape " + model::shape_text(in.shape) + ", " + asked_model(model_) +
                   " takes " + model::shape_text(batched));
    }
    if (i != 0 && n != rows)
      return wrong(name(in) + " has " + std::to_string(n) + " rows, " + name(*given[0]) + " has " +
                   std::to_string(rows));
    rows = n;
  }
  const std::size_t begin = batch_.values.size();
  if (!start(rows)) return false;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const v2_input& in = *given[i];
    v2_type type{};
    if (!known_type(in, type)) return false;
    const target to{batch_.values.data() + begin + wanted[i].begin, rows, wanted[i].size, width};
    const bool text = wanted[i].holds != tensor_input::kind::number;
    if (text != (type == v2_type::bytes))
      return wrong(name(in) + " takes " + (text ? "BYTES" : "numbers") + ", found " +
                   std::string(in.datatype));
    if (text) {
      if (!text_cells(in, wanted[i], to)) return false;
      continue;
    }
    if (!numbers(in, type, to)) return false;
    for (std::size_t row = 0; row < rows; ++row) {
      const double* const p = to.base + row * width;
      if (all_finite(p, to.per_row)) continue;
      std::size_t k = 0;
      while (std::isfinite(p[k])) ++k;
      return wrong(element(in, row * to.per_row + k) + " must be a finite number, found " +
                   (std::isnan(p[k]) ? "NaN" : "Infinity"));
    }
  }
  return true;
}

// --- elements

bool reader::count_matches(const v2_input& in, v2_type type, std::size_t elements) {
  const v2_contents& c = in.contents;
  if (c.held == v2_contents::kind::raw) {
    const std::size_t size = size_of(type);
    return size == 0 || c.raw.size() == elements * size ||
           wrong(name(in) + " has " + std::to_string(c.raw.size()) +
                 " bytes of raw data, its shape and datatype need " + std::to_string(elements * size));
  }
  const std::size_t count = c.held == v2_contents::kind::texts ? c.texts.size() : c.count;
  return count == elements || wrong(name(in) + " has " + std::to_string(count) + " elements, its shape " +
                                    model::shape_text(in.shape) + " needs " + std::to_string(elements));
}

bool reader::numbers(const v2_input& in, v2_type type, const target& to) {
  const std::size_t n = to.rows * to.per_row;
  if (to.per_row == to.stride || to.rows == 1) return flat_numbers(in, type, n, to.base);
  column_.resize(n);
  if (!flat_numbers(in, type, n, column_.data())) return false;
  for (std::size_t row = 0; row < to.rows; ++row)
    std::copy_n(column_.data() + row * to.per_row, to.per_row, to.base + row * to.stride);
  return true;
}

bool reader::flat_numbers(const v2_input& in, v2_type type, std::size_t n, double* to) {
  using kind = v2_contents::kind;
  const v2_contents& c = in.contents;
  if (c.held == kind::json) {
    dom::array list;
    if (c.json->get(list) != simdjson::SUCCESS)
      return wrong("data of " + name(in) + " must be a list, found " + std::string(found(*c.json)));
    std::size_t at = 0;
    const bool nested = list.begin() != list.end() && (*list.begin()).is_array();
    if (nested) {
      if (in.shape.empty()) return shape_mismatch(in);
      return json_leaves(in, *c.json, 0, at, [&](const dom::element& e, std::size_t i) {
        return json_number(in, type, e, i, to[i]);
      });
    }
    return json_numbers(in, type, list, to, n, at) && (at == n || shape_mismatch(in));
  }
  if (c.held == kind::none) return wrong(name(in) + " has no data");
  const auto holds = [&](kind held, std::initializer_list<v2_type> types) {
    return c.held == held && std::find(types.begin(), types.end(), type) != types.end();
  };
  if (!count_matches(in, type, n)) return false;
  if (n == 0) return true;
  if (c.held == kind::raw) {
    const char* const p = c.raw.data();
    switch (type) {
      case v2_type::fp32:
        convert<float>(p, n, to);
        break;
      case v2_type::fp64:
        std::memcpy(to, p, n * sizeof(double));
        break;
      case v2_type::boolean:
      case v2_type::uint8:
        convert<std::uint8_t>(p, n, to);
        break;
      case v2_type::uint16:
        convert<std::uint16_t>(p, n, to);
        break;
      case v2_type::uint32:
        convert<std::uint32_t>(p, n, to);
        break;
      case v2_type::uint64:
        convert<std::uint64_t>(p, n, to);
        break;
      case v2_type::int8:
        convert<std::int8_t>(p, n, to);
        break;
      case v2_type::int16:
        convert<std::int16_t>(p, n, to);
        break;
      case v2_type::int32:
        convert<std::int32_t>(p, n, to);
        break;
      case v2_type::int64:
        convert<std::int64_t>(p, n, to);
        break;
      case v2_type::fp16:
        convert_half<from_fp16>(p, n, to);
        break;
      case v2_type::bf16:
        convert_half<from_bf16>(p, n, to);
        break;
      case v2_type::bytes:
        return wrong(name(in) + " must be numbers, found BYTES");
    }
    if (type == v2_type::boolean)
      for (std::size_t i = 0; i < n; ++i)
        if (to[i] > 1) return wrong(element(in, i) + " must be 0 or 1");
    return true;
  }
  if (holds(kind::fp32, {v2_type::fp32})) return convert<float>(c.data, n, to), true;
  if (holds(kind::fp64, {v2_type::fp64})) return convert<double>(c.data, n, to), true;
  if (holds(kind::boolean, {v2_type::boolean})) return convert<bool>(c.data, n, to), true;
  if (holds(kind::int64, {v2_type::int64})) return convert<std::int64_t>(c.data, n, to), true;
  if (holds(kind::uint64, {v2_type::uint64})) return convert<std::uint64_t>(c.data, n, to), true;
  const auto in_range = [&](double low, double high) {
    for (std::size_t i = 0; i < n; ++i)
      if (to[i] < low || to[i] > high)
        return wrong(element(in, i) + " is beyond the range of " + std::string(in.datatype));
    return true;
  };
  if (holds(kind::int32, {v2_type::int8, v2_type::int16, v2_type::int32})) {
    convert<std::int32_t>(c.data, n, to);
    const double half_range = std::ldexp(1.0, static_cast<int>(size_of(type)) * 8 - 1);
    return in_range(-half_range, half_range - 1);
  }
  if (holds(kind::uint32, {v2_type::uint8, v2_type::uint16, v2_type::uint32})) {
    convert<std::uint32_t>(c.data, n, to);
    return in_range(0, std::ldexp(1.0, static_cast<int>(size_of(type)) * 8) - 1);
  }
  return wrong("contents of " + name(in) + " do not fit its datatype " + std::string(in.datatype));
}

bool reader::json_numbers(const v2_input& in, v2_type type, const dom::array& list, double* to, std::size_t n,
                          std::size_t& at) {
  if (type == v2_type::fp32) {
    for (const dom::element e : list) {
      if (at == n) return shape_mismatch(in);
      double x = 0;
      if (e.get(x) == simdjson::SUCCESS &&
          std::abs(x) <= static_cast<double>(std::numeric_limits<float>::max())) [[likely]] {
        to[at] = static_cast<double>(static_cast<float>(x));
      } else if (!json_number(in, type, e, at, to[at])) {
        return false;
      }
      ++at;
    }
    return true;
  }
  for (const dom::element e : list) {
    if (at == n) return shape_mismatch(in);
    if (!json_number(in, type, e, at, to[at])) return false;
    ++at;
  }
  return true;
}

bool reader::json_number(const v2_input& in, v2_type type, const dom::element& e, std::size_t at,
                         double& to) {
  if (e.is_null()) {
    to = missing_value;
    return true;
  }
  std::string_view text;
  if (e.get(text) == simdjson::SUCCESS && (text == not_a_number || text == not_finite)) {
    const bool floats =
        type == v2_type::fp64 || type == v2_type::fp32 || type == v2_type::fp16 || type == v2_type::bf16;
    if (!floats || text == not_finite)
      return wrong(element(in, at) + " must be a finite number, found " +
                   (floats ? "Infinity" : "NaN or Infinity"));
    to = missing_value;
    return true;
  }
  bool truth = false;
  if (e.get(truth) == simdjson::SUCCESS) {
    if (type != v2_type::boolean) return wrong(element(in, at) + " must be a number, found a boolean");
    to = truth ? 1 : 0;
    return true;
  }
  if (e.get(to) != simdjson::SUCCESS)
    return wrong(element(in, at) + " must be a number, found " + std::string(found(e)));
  switch (type) {
    case v2_type::fp64:
      return true;
    case v2_type::fp32:
      to = std::abs(to) > static_cast<double>(std::numeric_limits<float>::max())
               ? std::numeric_limits<double>::infinity()
               : static_cast<double>(static_cast<float>(to));
      break;
    case v2_type::fp16:
      to = to_fp16(to);
      break;
    case v2_type::bf16:
      to = to_bf16(to);
      break;
    case v2_type::boolean:
      return to == 0 || to == 1 || wrong(element(in, at) + " must be true or false");
    default: {
      const int bits = static_cast<int>(size_of(type)) * 8;
      const bool is_unsigned = type <= v2_type::uint64;
      // 2^64 and 2^63 themselves come from rounding the largest integers.
      const double high = is_unsigned ? std::ldexp(1.0, bits) - 1 : std::ldexp(1.0, bits - 1) - 1;
      const double low = is_unsigned ? 0 : -std::ldexp(1.0, bits - 1);
      if (to != std::floor(to) || to < low || to > high)
        return wrong(element(in, at) + " must be an integer of " + std::string(in.datatype));
      return true;
    }
  }
  return std::isfinite(to) || wrong(element(in, at) + " is beyond the range of " + std::string(in.datatype));
}

/// Calls leaf(element, index) for every element of nested lists, which must have the input's shape.
template <class Leaf>
bool reader::json_leaves(const v2_input& in, const dom::element& e, std::size_t dimension, std::size_t& at,
                         Leaf leaf) {
  dom::array list;
  if (e.get(list) != simdjson::SUCCESS) return shape_mismatch(in);
  const auto size = static_cast<std::size_t>(in.shape[dimension]);
  std::size_t n = 0;
  for (const dom::element one : list) {
    if (n == size) return shape_mismatch(in);
    if (dimension + 1 < in.shape.size()) {
      if (!json_leaves(in, one, dimension + 1, at, leaf)) return false;
    } else if (one.is_array()) {
      return shape_mismatch(in);
    } else if (!leaf(one, at++)) {
      return false;
    }
    ++n;
  }
  return n == size || shape_mismatch(in);
}

/// Calls take(index, text) for each of n elements of BYTES.
template <class Take>
bool reader::texts(const v2_input& in, std::size_t n, Take take) {
  using kind = v2_contents::kind;
  const v2_contents& c = in.contents;
  switch (c.held) {
    case kind::texts:
      if (!count_matches(in, v2_type::bytes, n)) return false;
      for (std::size_t i = 0; i < n; ++i)
        if (!take(i, c.texts[i])) return false;
      return true;
    case kind::raw: {
      std::string_view left = c.raw;
      for (std::size_t i = 0; i < n; ++i) {
        std::uint32_t size = 0;
        if (left.size() < sizeof size)
          return wrong(element(in, i) + " has no length: the raw data ends before it");
        std::memcpy(&size, left.data(), sizeof size);
        left.remove_prefix(sizeof size);
        if (size > left.size())
          return wrong(element(in, i) + " has a length of " + std::to_string(size) +
                       ", the raw data ends after " + std::to_string(left.size()) + " bytes");
        if (!take(i, left.substr(0, size))) return false;
        left.remove_prefix(size);
      }
      return left.empty() || wrong(name(in) + " has " + std::to_string(left.size()) +
                                   " bytes of raw data behind its last element");
    }
    case kind::json: {
      const auto leaf = [&](const dom::element& e, std::size_t i) {
        std::string_view text;
        if (e.get(text) != simdjson::SUCCESS || is_marker(text))
          return wrong(element(in, i) + " must be a string, found " + std::string(found(e)));
        return take(i, text);
      };
      dom::array list;
      if (c.json->get(list) != simdjson::SUCCESS)
        return wrong("data of " + name(in) + " must be a list, found " + std::string(found(*c.json)));
      std::size_t at = 0;
      if (list.begin() != list.end() && (*list.begin()).is_array())
        return in.shape.empty() ? shape_mismatch(in) : json_leaves(in, *c.json, 0, at, leaf);
      for (const dom::element e : list) {
        if (at == n) return shape_mismatch(in);
        if (!leaf(e, at)) return false;
        ++at;
      }
      return at == n || shape_mismatch(in);
    }
    case kind::none:
      return wrong(name(in) + " has no data");
    default:
      return wrong("contents of " + name(in) + " do not fit its datatype BYTES");
  }
}

bool reader::text_cells(const v2_input& in, const tensor_input& as, const target& to) {
  const bool json = in.contents.held == v2_contents::kind::json;
  return texts(in, to.rows * to.per_row, [&](std::size_t i, std::string_view text) {
    double& cell = to.base[i / to.per_row * to.stride + i % to.per_row];
    if (as.holds == tensor_input::kind::text) {
      if (!json && !simdjson::validate_utf8(text.data(), text.size()))
        return wrong(element(in, i) + " is not valid UTF-8");
      cell = text_cell_in(batch_, batch_.keep(text));
      return true;
    }
    if (json) {
      auto* const bytes = static_cast<char*>(batch_.arena.allocate(decoded_size(text), 1));
      const auto size = decode_base64(text, bytes);
      if (!size) return wrong(element(in, i) + " is a string, but not of base64");
      text = {bytes, *size};
    } else {
      text = batch_.keep(text);
    }
    if (text.empty()) return wrong(element(in, i) + " is empty");
    cell = text_cell_in(batch_, text);
    return true;
  });
}

}  // namespace

request_fault read_v2_rows(std::span<const v2_input> inputs, record& r, record_batch& batch,
                           const tensor_limits& most) {
  return reader(inputs, r, batch, most).read();
}

}  // namespace troupe::codec
