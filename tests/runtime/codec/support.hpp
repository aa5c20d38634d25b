#pragma once
// Models and batches made in memory for the tests of the codec.

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/codec/request_parser.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec::testing {

inline constexpr nanos arrived = 5'000'000'000'000;
inline constexpr std::int64_t arrived_ms = 1'731'650'000'500;
inline constexpr std::int64_t sent_ms = 1'731'650'000'123;  // 377 ms earlier
inline constexpr nanos sent = arrived - 377'000'000;

inline std::shared_ptr<const model::loaded_model> make_model(std::string name, std::string version,
                                                             std::vector<model::feature> features,
                                                             bool named = true,
                                                             model::output_spec output = {}) {
  model::loaded_model::parts p;
  p.name = std::move(name);
  p.version = std::move(version);
  p.schema = model::schema(std::move(features), named);
  p.output = std::move(output);
  return std::make_shared<const model::loaded_model>(std::move(p));
}

/// `trio` 1, 2, 3 (production; a, bmi, c; bmi may be missing), `iris` 1 (classifier, two features), `wide` 1
/// (20 unnamed features). The default is trio.
inline std::shared_ptr<const model::model_table> make_models(bool fallback = true) {
  using model::feature;
  const std::vector<feature> trio = {{"a", false}, {"bmi", true}, {"c", false}};
  std::vector<feature> wide;
  for (int i = 0; i < 20; ++i) wide.push_back({std::string("f").append(std::to_string(i)), true});
  model::output_spec classes{model::task::classification, 3, {"setosa", "versi\"color", "virginica"}};
  model::model_table::options options;
  options.default_model = "trio";
  options.fallback = fallback;
  return std::make_shared<const model::model_table>(
      std::vector<std::shared_ptr<const model::loaded_model>>{
          make_model("iris", "1", {{"petal", false}, {"sepal", false}}, true, classes),
          make_model("trio", "1", trio), make_model("trio", "2", trio), make_model("trio", "3", trio),
          make_model("wide", "1", wide, false)},
      options);
}

inline parser_options make_options() {
  parser_options o;
  o.default_class = 2;
  o.class_targets = {100'000'000, 1'000'000'000, 60'000'000'000};
  return o;
}

/// A batch of one topic; `add` copies nothing, so texts must outlive it.
struct test_batch {
  batch_ptr batch = batch_ptr::make();

  test_batch() {
    batch->topic = std::make_shared<const std::string>("requests");
    batch->partition = 3;
    batch->arrived = arrived;
    batch->arrived_ms = arrived_ms;
  }
  record& add(std::string_view value, std::vector<header> headers = {}, std::int64_t timestamp_ms = sent_ms) {
    record r;
    r.offset = 100 + static_cast<std::int64_t>(batch->records.size());
    r.timestamp_ms = timestamp_ms;
    r.value = value;
    r.batch = batch.get();
    r.headers_begin = static_cast<std::uint32_t>(batch->headers.size());
    r.headers_count = static_cast<std::uint32_t>(headers.size());
    batch->headers.insert(batch->headers.end(), headers.begin(), headers.end());
    batch->records.push_back(std::move(r));
    return batch->records.back();
  }
  const record& operator[](std::size_t i) const { return batch->records[i]; }
  std::vector<double> values(std::size_t i) const {
    const record& r = batch->records[i];
    if (r.model == nullptr) return {};
    const double* from = batch->values.data() + r.values_begin;
    return {from, from + r.rows * r.model->schema().features.size()};
  }
};

}  // namespace troupe::codec::testing
