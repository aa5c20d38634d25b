#include "runtime/codec/v2_response.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "runtime/codec/appender.hpp"
#include "runtime/codec/class_scores.hpp"
#include "runtime/codec/feature_rows.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/codec/v2_rows.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::size_t kept_texts = 16;
constexpr std::size_t kept_buffer = std::size_t{64} << 10;

/// Where an output's elements come from in a row of the model's numbers.
enum class source : std::uint8_t { numbers, probabilities, label, top_probabilities, top_labels };

struct output_text {
  v2_tensor_spec spec;
  source from = source::numbers;
  std::size_t begin = 0;
  std::size_t size = 1;  ///< elements of a row
  std::string head;      ///< {"name":"..","datatype":"..","shape":[
  std::string class_head;
  std::string tail;  ///< the shape behind the rows, and its bracket
};

std::vector<output_text> outputs_of(const model::loaded_model& m) {
  std::vector<output_text> all;
  const auto& output = m.output();
  const auto add = [&](std::string name, v2_type type, bool column, source from, std::size_t begin,
                       std::size_t size) {
    output_text& one = all.emplace_back();
    one.spec.name = std::move(name);
    one.spec.type = type;
    one.spec.shape.push_back(-1);
    if (!column) one.spec.shape.push_back(static_cast<std::int64_t>(size));
    one.from = from;
    one.begin = begin;
    one.size = size;
  };
  if (!output.parts.empty()) {
    std::size_t begin = 0;
    for (const auto& part : output.parts) {
      add(part.name, v2_type::fp64, part.width == 1, source::numbers, begin, part.width);
      begin += part.width;
    }
  } else if (output.kind == model::task::regression) {
    add("prediction", v2_type::fp64, output.width == 1, source::numbers, 0, output.width);
  } else if (output.top_k > 0) {
    const std::size_t top = std::min(output.top_k, output.width);
    add("top_k_probabilities", v2_type::fp32, false, source::top_probabilities, 0, top);
    add("top_k_classes", v2_type::bytes, false, source::top_labels, 0, top);
    add("predicted_class", v2_type::bytes, true, source::label, 0, 1);
  } else {
    add("probabilities", v2_type::fp32, false, source::probabilities, 0, output.width);
    add("predicted_class", v2_type::bytes, true, source::label, 0, 1);
  }
  return all;
}

template <class T>
void append_bytes(std::string& out, T x) {
  char bytes[sizeof x];
  std::memcpy(bytes, &x, sizeof x);
  out.append(bytes, sizeof x);
}

void append_text(std::string& out, std::string_view text) {
  append_bytes(out, static_cast<std::uint32_t>(text.size()));
  out += text;
}

void number_text(std::string& out, double x, v2_type type) {
  char text[32];
  const auto result = type == v2_type::fp32 ? std::to_chars(text, text + sizeof text, static_cast<float>(x))
                                            : std::to_chars(text, text + sizeof text, x);
  out.append(text, result.ptr);
}

}  // namespace

std::vector<v2_tensor_spec> v2_inputs_of(const model::loaded_model& m) {
  std::vector<v2_tensor_spec> all;
  const auto& schema = m.schema();
  for (const auto& input : schema.inputs) {
    v2_tensor_spec& one = all.emplace_back();
    one.name = input.name;
    one.type = input.holds == model::tensor_input::kind::number ? v2_type::fp32 : v2_type::bytes;
    one.shape.push_back(-1);
    one.shape.insert(one.shape.end(), input.shape.begin(), input.shape.end());
  }
  if (!all.empty()) return all;
  bool categories = false;
  for (std::size_t i = 0; i < schema.features.size(); ++i) categories = categories || takes_category(m, i);
  if (!categories) {
    all.push_back({std::string(v2_tabular_input),
                   v2_type::fp32,
                   {-1, static_cast<std::int64_t>(schema.features.size())}});
    return all;
  }
  // Texts and numbers have no tensor in common.
  for (std::size_t i = 0; i < schema.features.size(); ++i)
    all.push_back({schema.features[i].name, takes_category(m, i) ? v2_type::bytes : v2_type::fp32, {-1, 1}});
  return all;
}

std::vector<v2_tensor_spec> v2_outputs_of(const model::loaded_model& m) {
  std::vector<v2_tensor_spec> all;
  for (auto& one : outputs_of(m)) all.push_back(std::move(one.spec));
  return all;
}

std::string v2_platform_of(const model::loaded_model& m) {
  return "troupe_" + std::string(m.engine().kind());
}

struct v2_response_writer::model_text {
  const model::loaded_model* model = nullptr;
  std::uint64_t digest = 0;
  std::string name, version;
  std::string head;  ///< {"model_name":"..","model_version":".."
  std::vector<output_text> outputs;
  std::vector<std::string> labels;  ///< as they are
  std::vector<std::string> quoted;  ///< as JSON strings
};

struct v2_response_writer::work {
  std::vector<std::unique_ptr<model_text>> texts;
  std::size_t oldest = 0;
  std::string buffer;  ///< of the JSON
  std::string binary;
  std::string class_text;
  std::vector<std::size_t> order;
  std::vector<std::int64_t> shape;

  model_text& text_of(const model::loaded_model& m);
  [[nodiscard]] static std::size_t per_row(const output_text& o, const v2_plan::item& item) {
    return item.classification == 0 ? o.size : std::min<std::size_t>(item.classification, o.size);
  }
  std::string_view classified(const model_text& t, const output_text& o, const double* p, std::size_t i);
  void raw(std::string& out, const model_text& t, const output_text& o, const v2_plan::item& item,
           std::size_t rows, const double* outputs, std::size_t width);
  void data(appender& out, const model_text& t, const output_text& o, const v2_plan::item& item,
            std::size_t rows, const double* outputs, std::size_t width);
};

v2_response_writer::model_text& v2_response_writer::work::text_of(const model::loaded_model& m) {
  // An address may be another model's by now, so names and digest are compared too.
  for (const auto& t : texts)
    if (t->model == &m && t->digest == m.digest() && t->version == m.version() && t->name == m.name())
      return *t;
  auto t = std::make_unique<model_text>();
  t->model = &m;
  t->digest = m.digest();
  t->name = m.name();
  t->version = m.version();
  t->head = "{\"model_name\":";
  append_quoted(t->head, t->name);
  t->head += ",\"model_version\":";
  append_quoted(t->head, t->version);
  t->outputs = outputs_of(m);
  for (output_text& o : t->outputs) {
    std::string name = "{\"name\":";
    append_quoted(name, o.spec.name);
    o.class_head = name + ",\"datatype\":\"BYTES\",\"shape\":[";
    o.head = name + ",\"datatype\":\"" + std::string(name_of(o.spec.type)) + "\",\"shape\":[";
    if (o.spec.shape.size() > 1) o.tail = "," + std::to_string(o.size);
    o.tail += "]";
  }
  if (m.output().kind == model::task::classification)
    for (std::size_t i = 0; i < m.output().width; ++i) {
      t->labels.push_back(i < m.output().classes.size() ? m.output().classes[i] : std::to_string(i));
      append_quoted(t->quoted.emplace_back(), t->labels.back());
    }
  if (texts.size() < kept_texts) return *texts.emplace_back(std::move(t));
  oldest = (oldest + 1) % kept_texts;
  texts[oldest] = std::move(t);
  return *texts[oldest];
}

/// The i-th of a row's largest numbers, whose ranks are in `order`.
std::string_view v2_response_writer::work::classified(const model_text& t, const output_text& o,
                                                      const double* p, std::size_t i) {
  const std::size_t at = order[i];
  const double x = p[at];
  class_text.clear();
  number_text(class_text, o.from == source::probabilities ? probability(x) : x, o.spec.type);
  class_text += ':';
  class_text += std::to_string(at);
  if (o.from == source::probabilities) {
    class_text += ':';
    class_text += t.labels[at];
  }
  return class_text;
}

void v2_response_writer::work::raw(std::string& out, const model_text& t, const output_text& o,
                                   const v2_plan::item& item, std::size_t rows, const double* outputs,
                                   std::size_t width) {
  if (o.from == source::numbers && item.classification == 0) {
    if (o.size == width) {
      out.append(reinterpret_cast<const char*>(outputs), rows * width * sizeof(double));
    } else {
      for (std::size_t row = 0; row < rows; ++row)
        out.append(reinterpret_cast<const char*>(outputs + row * width + o.begin), o.size * sizeof(double));
    }
    return;
  }
  if (o.from == source::probabilities && item.classification == 0) {
    const std::size_t at = out.size();
    out.resize(at + rows * width * sizeof(float));
    char* to = out.data() + at;
    for (std::size_t i = 0; i < rows * width; ++i) {
      const auto x = static_cast<float>(probability(outputs[i]));
      std::memcpy(to + i * sizeof x, &x, sizeof x);
    }
    return;
  }
  const std::size_t n = per_row(o, item);
  for (std::size_t row = 0; row < rows; ++row) {
    const double* const p = outputs + row * width;
    if (item.classification != 0) {
      rank(p + o.begin, o.size, n, order);
      for (std::size_t i = 0; i < n; ++i) append_text(out, classified(t, o, p + o.begin, i));
      continue;
    }
    if (o.from == source::label) {
      append_text(out, t.labels[likeliest(p, width)]);
      continue;
    }
    rank(p, width, n, order);
    for (std::size_t i = 0; i < n; ++i) {
      if (o.from == source::top_labels) {
        append_text(out, t.labels[order[i]]);
      } else {
        append_bytes(out, static_cast<float>(probability(p[order[i]])));
      }
    }
  }
}

void v2_response_writer::work::data(appender& out, const model_text& t, const output_text& o,
                                    const v2_plan::item& item, std::size_t rows, const double* outputs,
                                    std::size_t width) {
  const std::size_t n = per_row(o, item);
  bool first = true;
  const auto comma = [&] {
    if (!first) out += ',';
    first = false;
  };
  out += '[';
  for (std::size_t row = 0; row < rows; ++row) {
    const double* const p = outputs + row * width;
    if (item.classification != 0) {
      rank(p + o.begin, o.size, n, order);
      for (std::size_t i = 0; i < n; ++i) {
        comma();
        std::string quoted;
        append_quoted(quoted, classified(t, o, p + o.begin, i));
        out += quoted;
      }
      continue;
    }
    switch (o.from) {
      case source::numbers:
        for (std::size_t i = 0; i < n; ++i) {
          comma();
          out.number(p[o.begin + i]);
        }
        break;
      case source::probabilities:
        for (std::size_t i = 0; i < n; ++i) {
          comma();
          out.number(static_cast<float>(probability(p[i])));
        }
        break;
      case source::label:
        comma();
        out += t.quoted[likeliest(p, width)];
        break;
      case source::top_probabilities:
      case source::top_labels:
        rank(p, width, n, order);
        for (std::size_t i = 0; i < n; ++i) {
          comma();
          if (o.from == source::top_labels) {
            out += t.quoted[order[i]];
          } else {
            out.number(static_cast<float>(probability(p[order[i]])));
          }
        }
        break;
    }
  }
  out += ']';
}

v2_response_writer::v2_response_writer() : work_(std::make_unique<work>()) {}
v2_response_writer::~v2_response_writer() = default;
v2_response_writer::v2_response_writer(v2_response_writer&&) noexcept = default;
v2_response_writer& v2_response_writer::operator=(v2_response_writer&&) noexcept = default;

request_fault v2_response_writer::plan(const model::loaded_model& m, const v2_request& request,
                                       v2_plan& into) {
  const model_text& t = work_->text_of(m);
  into.items.clear();
  if (request.outputs.empty()) {
    for (std::uint32_t i = 0; i < t.outputs.size(); ++i) into.items.push_back({i, 0, request.binary_output});
    return {};
  }
  for (const v2_output_wish& wish : request.outputs) {
    std::uint32_t i = 0;
    while (i < t.outputs.size() && t.outputs[i].spec.name != wish.name) ++i;
    if (i == t.outputs.size()) {
      const auto close =
          nearest(wish.name, t.outputs, [](const auto& x) -> std::string_view { return x.spec.name; });
      return {error_code::invalid_features,
              shown(wish.name) + " is not an output of " + asked_model(m) +
                  (close.empty() ? std::string() : "; did you mean " + shown(close) + "?")};
    }
    const bool numbers = t.outputs[i].from == source::numbers || t.outputs[i].from == source::probabilities;
    if (wish.classification != 0 && !numbers)
      return {error_code::invalid_features, "output " + shown(wish.name) +
                                                " cannot be asked for as classification: it is no list of "
                                                "scores by class"};
    into.items.push_back({i, wish.classification, wish.binary.value_or(request.binary_output)});
  }
  return {};
}

bool v2_response_writer::write(std::string& into, const record& request, const answer& a, const v2_plan& plan,
                               std::optional<std::size_t>& header_length) {
  const model::loaded_model& m = *request.model;
  const std::size_t width = m.output().width;
  const std::size_t rows = request.rows;
  for (std::size_t i = 0; i < rows * width; ++i)
    if (!std::isfinite(a.outputs[i])) return false;
  work& w = *work_;
  const model_text& t = w.text_of(m);
  w.binary.clear();
  bool binary = false;
  appender out(w.buffer);
  out += t.head;
  if (!a.id.empty()) {
    out += ",\"id\":";
    out += a.id;
  }
  if (!a.explanation.empty()) {
    std::string_view value = a.explanation;
    constexpr std::string_view key = ",\"explanation\":";
    if (value.starts_with(key)) value.remove_prefix(key.size());
    out += ",\"parameters\":{\"explanation\":";
    out += value;
    out += '}';
  }
  out += ",\"outputs\":[";
  for (std::size_t k = 0; k < plan.items.size(); ++k) {
    const v2_plan::item& item = plan.items[k];
    const output_text& o = t.outputs[item.output];
    if (k != 0) out += ',';
    if (item.classification == 0) {
      out += o.head;
      out.number(rows);
      out += o.tail;
    } else {
      out += o.class_head;
      out.number(rows);
      out += ',';
      out.number(work::per_row(o, item));
      out += ']';
    }
    if (item.binary) {
      binary = true;
      const std::size_t before = w.binary.size();
      w.raw(w.binary, t, o, item, rows, a.outputs, width);
      out += ",\"parameters\":{\"binary_data_size\":";
      out.number(w.binary.size() - before);
      out += "}}";
    } else {
      out += ",\"data\":";
      w.data(out, t, o, item, rows, a.outputs, width);
      out += '}';
    }
  }
  out += "]}";
  into += out.text();
  header_length.reset();
  if (binary) {
    header_length = out.size();
    into += w.binary;
  }
  if (w.buffer.size() > kept_buffer) std::string().swap(w.buffer);
  if (w.binary.size() > kept_buffer) std::string().swap(w.binary);
  return true;
}

v2_response_writer::described v2_response_writer::describe(const record& request, const v2_plan::item& item) {
  const output_text& o = work_->text_of(*request.model).outputs[item.output];
  auto& shape = work_->shape;
  shape.assign(1, static_cast<std::int64_t>(request.rows));
  if (item.classification != 0) {
    shape.push_back(static_cast<std::int64_t>(work::per_row(o, item)));
    return {o.spec.name, v2_type::bytes, shape};
  }
  shape.insert(shape.end(), o.spec.shape.begin() + 1, o.spec.shape.end());
  return {o.spec.name, o.spec.type, shape};
}

void v2_response_writer::append_raw(std::string& out, const record& request, const double* outputs,
                                    const v2_plan::item& item) {
  const model_text& t = work_->text_of(*request.model);
  work_->raw(out, t, t.outputs[item.output], item, request.rows, outputs, request.model->output().width);
}

std::string v2_error(std::string_view message) {
  std::string body = "{\"error\":";
  append_quoted(body, message);
  return body += '}';
}

}  // namespace troupe::codec
