#pragma once
// V2 requests of the tests, and what becomes of them.

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/codec/v2_infer.hpp"
#include "support.hpp"

namespace troupe::codec::testing {

using kind = model::tensor_input::kind;

inline std::shared_ptr<const model::loaded_model> tensor_model(std::string name,
                                                               std::vector<model::tensor_input> inputs) {
  model::loaded_model::parts p;
  p.name = std::move(name);
  p.version = std::string("1");
  p.schema = model::schema(std::move(inputs));
  return std::make_shared<const model::loaded_model>(std::move(p));
}

/// trio (a, bmi, c; bmi may be missing), iris (classifier of 3), kinds (number 0 to 10, a category), grid,
/// both (numbers and a text), file (bytes), two (targets), parted, ranked (top_k 2).
inline std::shared_ptr<const model::model_table> v2_models() {
  const std::vector<std::string> names = {"setosa", "versi\"color", "virginica"};
  auto category = std::make_shared<model::cell_rule>();
  category->categories = {"red", "green"};
  category->index();
  auto bounds = std::make_shared<model::cell_rule>();
  bounds->minimum = 0;
  bounds->maximum = 10;
  bounds->missing = 5;
  model::feature size{"size", true};
  size.rule = bounds;
  model::feature colour{"colour", false};
  colour.rule = category;
  model::output_spec parted;
  parted.width = 3;
  parted.parts = {{"mean", 1}, {"range", 2}};
  model::output_spec ranked{model::task::classification, 3, names};
  ranked.top_k = 2;
  model::output_spec two;
  two.width = 2;
  model::model_table::options options;
  options.default_model = "trio";
  const std::vector<model::feature> trio = {{"a", false}, {"bmi", true}, {"c", false}};
  const std::vector<model::feature> petals = {{"petal", false}, {"sepal", false}};
  return std::make_shared<const model::model_table>(
      std::vector<std::shared_ptr<const model::loaded_model>>{
          make_model("trio", "1", trio), make_model("trio", "3", trio),
          make_model("iris", "1", petals, true, {model::task::classification, 3, names}),
          make_model("kinds", "1", {size, colour}), make_model("two", "1", petals, true, two),
          make_model("parted", "1", petals, true, parted), make_model("ranked", "1", petals, true, ranked),
          tensor_model("grid", {{"g", kind::number, {2, 2}, 0, 4}}),
          tensor_model("both", {{"ids", kind::number, {2}, 0, 2}, {"word", kind::text, {1}, 2, 1}}),
          tensor_model("file", {{"x", kind::bytes, {}, 0, 1}})},
      options);
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string out(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

inline std::string bytes_of_texts(const std::vector<std::string>& texts) {
  std::string out;
  for (const auto& t : texts) out += bytes_of(std::vector{static_cast<std::uint32_t>(t.size())}) + t;
  return out;
}

struct v2_read {
  test_batch batch;
  v2_plan plan;
  bool own_id = false;
  v2_tools tools;

  const record& r() const { return batch[0]; }
  std::vector<double> values() const { return batch.values(0); }
};

inline v2_read read_v2_text(std::string_view body, std::string_view model = "trio",
                            std::optional<std::size_t> header_length = {}, infer_options options = {},
                            std::string_view version = {}) {
  v2_read out;
  out.batch.batch->via = door::http;
  out.batch.batch->models = v2_models();
  record& r = out.batch.add({});
  infer_head head;
  head.model = model;
  head.version = version;
  head.fallback_id = "made";
  read_v2_body(body, header_length, head, options, out.tools, r, *out.batch.batch, out.plan, out.own_id);
  return out;
}

/// One JSON input, and one with binary data behind the header.
inline std::string json_request(std::string_view name, std::string_view type, std::string_view shape,
                                std::string_view data, std::string_view more = {}) {
  return "{\"inputs\":[{\"name\":\"" + std::string(name) + "\",\"datatype\":\"" + std::string(type) +
         "\",\"shape\":" + std::string(shape) + ",\"data\":" + std::string(data) + "}]" + std::string(more) +
         "}";
}

inline std::string binary_header(std::string_view name, std::string_view type, std::string_view shape,
                                 std::size_t bytes) {
  return "{\"inputs\":[{\"name\":\"" + std::string(name) + "\",\"datatype\":\"" + std::string(type) +
         "\",\"shape\":" + std::string(shape) +
         ",\"parameters\":{\"binary_data_size\":" + std::to_string(bytes) + "}}]}";
}

inline v2_read read_binary(std::string_view model, std::string_view name, std::string_view type,
                           std::string_view shape, const std::string& raw) {
  const std::string head = binary_header(name, type, shape, raw.size());
  return read_v2_text(head + raw, model, head.size());
}

}  // namespace troupe::codec::testing
