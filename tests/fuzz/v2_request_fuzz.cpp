// Any bytes as the body of a V2 request; behind a byte 0x1e at their end a number: the length of the JSON
// part. Whatever it is, it ends as rows within the limits or with an error, and a good request is answered in
// JSON that another library reads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/codec/v2_infer.hpp"
#include "runtime/model/cells.hpp"
#include "runtime/model/model.hpp"

namespace {

using namespace troupe;

#define MUST(condition) \
  if (!(condition)) std::abort()

std::shared_ptr<const model::model_table> models() {
  using kind = model::tensor_input::kind;
  std::vector<std::shared_ptr<const model::loaded_model>> all;
  const auto add = [&](const char* name, model::schema schema, model::output_spec output) {
    model::loaded_model::parts p;
    p.name = name;
    p.version = std::string("1");
    p.schema = std::move(schema);
    p.output = std::move(output);
    all.push_back(std::make_shared<const model::loaded_model>(std::move(p)));
  };
  auto colours = std::make_shared<model::cell_rule>();
  colours->categories = {"red", "green"};
  colours->index();
  model::feature colour{"colour", false};
  colour.rule = colours;
  add("trio", model::schema({{"a", false}, {"bmi", true}, {"c", false}}, true), {});
  add("mixed", model::schema({{"a", true}, colour}, true),
      {model::task::classification, 3, {"one", "two", "three"}});
  add("both",
      model::schema(std::vector<model::tensor_input>{{"ids", kind::number, {2, 2}, 0, 4},
                                                     {"word", kind::text, {1}, 4, 1}}),
      {});
  add("file", model::schema(std::vector<model::tensor_input>{{"x", kind::bytes, {}, 0, 1}}), {});
  model::model_table::options options;
  options.default_model = "trio";
  return std::make_shared<const model::model_table>(std::move(all), options);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto table = models();
  static codec::v2_tools tools;
  static const codec::infer_options options = [] {
    codec::infer_options o;
    o.class_targets = {100, 200};
    o.max_rows = 50;
    o.max_elements = 500;
    return o;
  }();
  std::string_view input(reinterpret_cast<const char*>(data), size);
  std::optional<std::size_t> length;
  if (const std::size_t at = input.rfind('\x1e'); at != input.npos && input.size() - at < 8) {
    if (codec::read_header_length(input.substr(at + 1), at, length)) length.reset();
    input = input.substr(0, at);
  }
  // In memory of its exact size, so that a read beyond it is caught.
  const auto body = std::make_unique<char[]>(input.size());
  input.copy(body.get(), input.size());

  for (const char* name : {"trio", "mixed", "both", "file"}) {
    const batch_ptr batch = batch_ptr::make();
    batch->via = door::http;
    batch->models = table;
    batch->arrived = 1'000'000;
    batch->arrived_ms = 1'731'650'000'500;
    batch->values.resize(3);
    record& r = batch->records.emplace_back();
    codec::infer_head head;
    head.model = name;
    head.fallback_id = "made";
    codec::v2_plan plan;
    bool own_id = false;
    codec::read_v2_body({body.get(), input.size()}, length, head, options, tools, r, *batch, plan, own_id);
    MUST((r.error == error_code::none) == r.error_message.empty());
    MUST((r.error == error_code::none) == (r.rows > 0));
    MUST(r.model != nullptr && r.rows <= options.max_rows);
    const auto& schema = r.model->schema();
    const std::size_t width = schema.features.size();
    MUST(batch->values.size() == 3 + r.rows * width);
    MUST(nlohmann::json::parse(r.request_id).is_string());
    if (r.error != error_code::none) {
      MUST(nlohmann::json::parse(codec::v2_error(r.error_message)).contains("error"));
      continue;
    }
    for (std::size_t i = 0; i < r.rows * width; ++i) {
      const double x = batch->values[3 + i];
      if (schema.texts && !schema.inputs.empty() && i % width == width - 1) {
        std::size_t sum = 0;
        for (const char c : model::text_in(x)) sum += static_cast<unsigned char>(c);
        MUST(sum < SIZE_MAX);
        continue;
      }
      MUST(!std::isinf(x));
      MUST(!std::isnan(x) || (schema.inputs.empty() && schema.missing_allowed(i % width)));
    }
    const std::vector<double> outputs(r.rows * r.model->output().width, 0.25);
    std::string out;
    std::optional<std::size_t> json_part;
    MUST(tools.writer.write(out, r, {outputs.data(), own_id ? r.request_id : std::string_view(), {}}, plan,
                            json_part));
    const auto j = nlohmann::json::parse(out.substr(0, json_part.value_or(out.size())));
    MUST(j["outputs"].size() == plan.items.size());
    std::size_t binary = 0;
    for (const auto& one : j["outputs"])
      if (one.contains("parameters")) binary += one["parameters"]["binary_data_size"].get<std::size_t>();
    MUST(binary == out.size() - json_part.value_or(out.size()));
  }
  return 0;
}
