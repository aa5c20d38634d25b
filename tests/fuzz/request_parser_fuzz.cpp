// Any bytes as a record's value (and, after a byte 0x1e, as its headers): the parser must end each record as
// documented, and agree with nlohmann::json on what is JSON.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/codec/content_type.hpp"
#include "runtime/codec/request_parser.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/model/model.hpp"

namespace {

using namespace troupe;

#define MUST(condition) \
  if (!(condition)) std::abort()

std::shared_ptr<const model::model_table> models() {
  std::vector<std::shared_ptr<const model::loaded_model>> all;
  for (const std::string version : {"1", "2"}) {
    model::loaded_model::parts p;
    p.name = std::string("trio");
    p.version = version;
    p.schema = model::schema({{"a", false}, {"bmi", true}, {"c", false}}, true);
    all.push_back(std::make_shared<const model::loaded_model>(std::move(p)));
  }
  model::loaded_model::parts p;
  p.name = std::string("iris");
  p.version = std::string("1");
  p.schema = model::schema({{"f0", true}}, false);
  p.output = {model::task::classification, 2, {"yes", "no"}};
  all.push_back(std::make_shared<const model::loaded_model>(std::move(p)));
  const std::vector<model::tensor_input> tensors[] = {
      {{"ids", model::tensor_input::kind::number, {2, 2}, 0, 4},
       {"word", model::tensor_input::kind::text, {1}, 4, 1}},
      {{"g", model::tensor_input::kind::number, {1, 2, 2}, 0, 4}},
      {{"x", model::tensor_input::kind::bytes, {}, 0, 1}}};
  const char* const names[] = {"both", "cube", "file"};
  for (std::size_t i = 0; i < 3; ++i) {
    model::loaded_model::parts t;
    t.name = names[i];
    t.version = std::string("1");
    t.schema = model::schema(tensors[i]);
    all.push_back(std::make_shared<const model::loaded_model>(std::move(t)));
  }
  model::model_table::options options;
  options.default_model = "trio";
  return std::make_shared<const model::model_table>(std::move(all), options);
}

/// What another library makes of the value.
struct oracle {
  bool valid = false;
  bool object = false;
  bool unsure =
      false;  ///< it has a number that this library can't hold, or NaN, which the parser reports by name
  std::size_t depth = 0;
};

struct reader : nlohmann::json_sax<nlohmann::json> {
  oracle* o;
  std::size_t level = 0;
  bool begin(bool object) {
    if (level == 0) o->object = object;
    o->depth = std::max(o->depth, ++level);
    return true;
  }
  bool end() {
    --level;
    return true;
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return begin(true); }
  bool key(string_t&) override { return true; }
  bool end_object() override { return end(); }
  bool start_array(std::size_t) override { return begin(false); }
  bool end_array() override { return end(); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& e) override {
    o->unsure = dynamic_cast<const nlohmann::json::out_of_range*>(&e) != nullptr;
    return false;
  }
};

oracle ask(std::string_view text) {
  oracle o;
  reader r;
  r.o = &o;
  o.valid = nlohmann::json::sax_parse(text.begin(), text.end(), &r);
  // It takes a NUL for the end of the text.
  if (text.find('\0') != text.npos) o.valid = o.unsure = false;
  if (!o.valid && text.find("NaN") != text.npos) o.unsure = true;
  if (!o.valid && text.find("Infinity") != text.npos) o.unsure = true;
  return o;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto table = models();
  static codec::request_parser parser({.max_record_bytes = 1 << 16,
                                       .max_rows = 100,
                                       .max_values = 1000,
                                       .default_class = 1,
                                       .class_targets = {100'000'000, 1'000'000'000}});
  static codec::result_writer writer({.seed = 1});

  // In memory of its exact size, so that a read beyond it is caught.
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = std::min(input.find('\x1e'), size);
  const auto value = std::make_unique<char[]>(cut);
  input.copy(value.get(), cut);
  const std::string rest(input.substr(std::min(size, cut + 1)));

  const batch_ptr batch = batch_ptr::make();
  batch->topic = std::make_shared<const std::string>("t");
  batch->arrived = 1'000'000'000'000;
  batch->arrived_ms = 1'731'650'000'500;
  static const std::string good = R"({"request_id":"good","features":[1,2,3]})";
  batch->records.resize(2);
  for (record& r : batch->records) {
    r.timestamp_ms = 1'731'650'000'123;
    r.batch = batch.get();
  }
  record& r = batch->records[0];
  r.value = {value.get(), cut};
  static constexpr std::string_view names[] = {"request_id", "model",       "model_version", "priority",
                                               "timeout_ms", "traceparent", "content-type"};
  for (std::size_t i = 0, at = 0; i < std::size(names) && at < rest.size(); ++i) {
    const std::size_t end = std::min(rest.find('\x1e', at), rest.size());
    batch->headers.push_back({names[i], std::string_view(rest).substr(at, end - at)});
    at = end + 1;
  }
  r.headers_count = static_cast<std::uint32_t>(batch->headers.size());
  batch->records[1].value = good;
  parser.parse(*batch, table);

  MUST(r.parsed || r.error != error_code::none);
  MUST((r.error == error_code::none) == r.error_message.empty());
  MUST(r.error != error_code::none || (r.model != nullptr && r.rows > 0));
  MUST((r.error == error_code::none) == (r.rows > 0));
  const std::size_t width = r.model != nullptr ? r.model->schema().features.size() : 0;
  MUST(batch->values.size() == r.rows * width + 3);
  for (std::size_t i = 0; i < r.rows * width; ++i) MUST(!std::isinf(batch->values[r.values_begin + i]));
  MUST(nlohmann::json::parse(r.request_id).is_string());

  bool bytes = false;
  for (std::uint32_t i = 0; i < r.headers_count; ++i)
    bytes |= batch->headers[i].name == "content-type" && codec::holds_bytes(batch->headers[i].value);
  if (cut <= 1 << 16 && !bytes) {
    const oracle o = ask(r.value);
    if (o.valid && o.object && o.depth <= codec::max_depth) MUST(r.parsed);
    if (r.parsed && !o.unsure) MUST(o.valid && o.object);
  }

  std::string out;
  if (r.error == error_code::none) {
    const std::vector<double> outputs(r.rows * r.model->output().width, 0.5);
    MUST(writer.prediction(out, r, outputs.data()));
  } else {
    writer.error(out, r, r.error, r.error_message);
  }
  MUST(nlohmann::json::parse(out)["request_id"] == nlohmann::json::parse(r.request_id));
  std::vector<header> headers;
  writer.result_headers(headers, batch->headers);
  writer.dead_letter_headers(headers, r, r.error, r.error_message);

  // Whatever the first was, the next record is read as ever.
  const record& next = batch->records[1];
  MUST(next.error == error_code::none && next.request_id == "\"good\"" && next.rows == 1);
  MUST(batch->values[next.values_begin] == 1 && batch->values[next.values_begin + 2] == 3);
  return 0;
}
