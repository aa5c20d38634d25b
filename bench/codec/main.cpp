// What it costs to read a request and to write its answer, in nanoseconds of one core a record, beside
// nlohmann::json doing the same to the same records. README.md says how to read it.
//   bench_codec [--smoke] [--json]

#include <time.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/codec/request_parser.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/codec/v2_infer.hpp"
#include "runtime/model/model.hpp"

namespace {

using namespace troupe;

constexpr std::size_t features = 10;
constexpr std::size_t batch_records = 256;

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::shared_ptr<const model::model_table> one_model() {
  model::loaded_model::parts p;
  p.name = std::string("diabetes-rf-model");
  p.version = std::string("3");
  std::vector<model::feature> columns;
  for (const char* name : {"age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"})
    columns.push_back({name, false});
  p.schema = model::schema(std::move(columns), true);
  return std::make_shared<const model::model_table>(
      std::vector<std::shared_ptr<const model::loaded_model>>{
          std::make_shared<const model::loaded_model>(std::move(p))},
      model::model_table::options{});
}

/// Requests as a Python client writes them: a UUID and ten features with `digits` significant digits.
std::vector<std::string> requests(int digits, bool by_name) {
  static constexpr std::array<const char*, features> names = {"age", "sex", "bmi", "bp", "s1",
                                                              "s2",  "s3",  "s4",  "s5", "s6"};
  std::mt19937_64 random(1);
  std::normal_distribution<double> feature(0, 0.05);
  std::vector<std::string> out;
  for (std::size_t i = 0; i < batch_records; ++i) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%08x-%04x-4%03x-a%03x-%012llx", static_cast<unsigned>(random()),
                  static_cast<unsigned>(random() & 0xffff), static_cast<unsigned>(random() & 0xfff),
                  static_cast<unsigned>(random() & 0xfff),
                  static_cast<unsigned long long>(random() & 0xffffffffffff));
    std::string r =
        std::string("{\"request_id\": \"") + text.data() + "\", \"features\": " + (by_name ? "{" : "[");
    for (std::size_t k = 0; k < features; ++k) {
      std::snprintf(text.data(), text.size(), "%.*g", digits, feature(random));
      if (k != 0) r += ", ";
      if (by_name) r += std::string("\"") + names[k] + "\": ";
      r += text.data();
    }
    out.push_back(r + (by_name ? "}" : "]") + ", \"model_version\": \"v3\"}");
  }
  return out;
}

struct figure {
  std::string name;
  double ns = 0;
  double reference_ns = 0;
  std::size_t bytes = 0;
};

/// The median over `rounds` of CPU nanoseconds a record; the two take turns, so that both see the same
/// machine.
std::pair<double, double> measure(int rounds, int repeats, const std::function<void()>& ours,
                                  const std::function<void()>& reference) {
  std::vector<double> a, b;
  const auto timed = [&](const std::function<void()>& f, int times) {
    const double begin = cpu_seconds();
    for (int i = 0; i < times; ++i) f();
    return (cpu_seconds() - begin) * 1e9 / static_cast<double>(times) / static_cast<double>(batch_records);
  };
  timed(ours, 2);
  timed(reference, 2);
  for (int round = 0; round < rounds; ++round) {
    a.push_back(timed(ours, repeats));
    b.push_back(timed(reference, std::max(1, repeats / 10)));
  }
  const auto median = [](std::vector<double>& v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
  };
  return {median(a), median(b)};
}

void fill(record_batch& batch, const std::vector<std::string>& values) {
  batch.topic = std::make_shared<const std::string>("inference-requests");
  batch.arrived = 1'000'000'000'000;
  batch.arrived_ms = 1'731'650'000'500;
  batch.records.resize(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    batch.records[i].value = values[i];
    batch.records[i].offset = static_cast<std::int64_t>(i);
    batch.records[i].timestamp_ms = 1'731'650'000'123;
    batch.records[i].batch = &batch;
  }
}

/// V2 requests of FP32 tensors of `rows` rows, as tritonclient writes them, and their answers.
void v2_figures(std::size_t rows, const std::shared_ptr<const model::model_table>& models, int rounds,
                int repeats, std::vector<figure>& figures, bool& same) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> feature(0, 0.05);
  std::vector<float> floats;
  for (std::size_t i = 0; i < rows * features; ++i) floats.push_back(static_cast<float>(feature(random)));
  std::vector<double> expected(floats.begin(), floats.end());
  nlohmann::ordered_json data = expected;
  const std::string shape = "[" + std::to_string(rows) + ",10]";
  const std::string begin =
      R"({"id":"7","inputs":[{"name":"input","shape":)" + shape + R"(,"datatype":"FP32",)";
  const std::string json = begin + "\"data\":" + data.dump() + "}]}";
  std::string binary = begin + R"("parameters":{"binary_data_size":)" +
                       std::to_string(floats.size() * sizeof(float)) +
                       R"(}}],"parameters":{"binary_data_output":true}})";
  const std::size_t header = binary.size();
  binary.append(reinterpret_cast<const char*>(floats.data()), floats.size() * sizeof(float));
  std::vector<double> outputs;
  for (std::size_t i = 0; i < rows; ++i) outputs.push_back(152.13 + static_cast<double>(i) / 8);
  const std::string suffix = "_" + std::to_string(rows) + "x10";

  codec::v2_tools tools;
  codec::infer_options options;
  options.class_targets = {100'000'000, 1'000'000'000, 60'000'000'000};
  const auto n = static_cast<int>(batch_records);
  for (const bool is_binary : {false, true}) {
    const std::string& body = is_binary ? binary : json;
    const std::string name = std::string(is_binary ? "v2_binary" : "v2_json") + suffix;
    std::vector<double> last, theirs;
    // One batch a request, as a lone caller has it.
    const auto read = [&](record_batch& batch, codec::v2_plan& plan) -> record& {
      batch.models = models;
      batch.via = door::http;
      batch.arrived = 1'000'000'000'000;
      batch.arrived_ms = 1'731'650'000'500;
      record& r = batch.records.emplace_back();
      codec::infer_head head;
      head.model = "diabetes-rf-model";
      head.fallback_id = "made";
      bool own = false;
      codec::read_v2_body(body, is_binary ? std::optional(header) : std::nullopt, head, options, tools, r,
                          batch, plan, own);
      same = same && r.error == error_code::none;
      return r;
    };
    const auto ours = [&] {
      for (int i = 0; i < n; ++i) {
        const batch_ptr batch = batch_ptr::make();
        codec::v2_plan plan;
        read(*batch, plan);
        last.swap(batch->values);
      }
    };
    const auto reference = [&] {
      for (int i = 0; i < n; ++i) {
        theirs.clear();
        const auto j =
            nlohmann::json::parse(std::string_view(body).substr(0, is_binary ? header : body.size()));
        if (is_binary) {
          std::vector<float> raw(rows * features);
          std::memcpy(raw.data(), body.data() + header, raw.size() * sizeof(float));
          theirs.assign(raw.begin(), raw.end());
        } else {
          for (const auto& x : j["inputs"][0]["data"]) theirs.push_back(x.get<double>());
        }
      }
    };
    const auto [a, b] = measure(rounds, std::max(1, repeats / static_cast<int>(4 * rows)), ours, reference);
    same = same && last == theirs;
    figures.push_back({name, a, b, body.size()});

    const batch_ptr batch = batch_ptr::make();
    codec::v2_plan plan;
    const record& r = read(*batch, plan);
    std::string out, their_text;
    std::optional<std::size_t> json_part;
    const auto write = [&] {
      for (int i = 0; i < n; ++i) {
        out.clear();
        same = tools.writer.write(out, r, {outputs.data(), r.request_id, {}}, plan, json_part) && same;
      }
    };
    const auto write_reference = [&] {
      for (int i = 0; i < n; ++i) {
        nlohmann::ordered_json j;
        j["model_name"] = r.model->name();
        j["model_version"] = r.model->version();
        j["id"] = "7";
        nlohmann::ordered_json output = {{"name", "prediction"}, {"datatype", "FP64"}, {"shape", {rows}}};
        if (is_binary) {
          output["parameters"] = {{"binary_data_size", rows * sizeof(double)}};
        } else {
          output["data"] = outputs;
        }
        j["outputs"].push_back(std::move(output));
        their_text = j.dump();
        if (is_binary)
          their_text.append(reinterpret_cast<const char*>(outputs.data()), rows * sizeof(double));
      }
    };
    const auto [c, d] =
        measure(rounds, std::max(1, repeats / static_cast<int>(4 * rows)), write, write_reference);
    if (is_binary) same = same && out == their_text;
    figures.push_back({name + "_write", c, d, out.size()});
  }
}

}  // namespace

int main(int argc, char** argv) {
  bool smoke = false;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--smoke") == 0) {
      smoke = true;
    } else if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else {
      std::fprintf(stderr, "usage: %s [--smoke] [--json]\n", argv[0]);
      return 2;
    }
  }
  const int rounds = smoke ? 3 : 15;
  const int repeats = smoke ? 10 : 200;
  const auto models = one_model();
  std::vector<figure> figures;
  bool same = true;

  struct shape {
    const char* name;
    int digits;
    bool by_name;
  };
  for (const shape& s :
       {shape{"parse", 10, false}, shape{"parse_17_digits", 17, false}, shape{"parse_by_name", 10, true}}) {
    const auto values = requests(s.digits, s.by_name);
    codec::request_parser parser({.class_targets = {100'000'000, 1'000'000'000, 60'000'000'000}});
    std::vector<double> last;
    const auto ours = [&] {
      const batch_ptr batch = batch_ptr::make();
      fill(*batch, values);
      parser.parse(*batch, models);
      last.swap(batch->values);
      for (const record& r : batch->records) same = same && r.error == error_code::none;
    };
    std::vector<double> theirs;
    std::string id, version;
    const auto reference = [&] {
      theirs.clear();
      for (const auto& value : values) {
        const auto j = nlohmann::json::parse(value);
        id = j["request_id"].get_ref<const std::string&>();
        version = j["model_version"].get_ref<const std::string&>();
        if (s.by_name) {
          for (const auto& column : models->all()[0]->schema().features)
            theirs.push_back(j["features"][column.name].get<double>());
        } else {
          for (const auto& x : j["features"]) theirs.push_back(x.get<double>());
        }
      }
    };
    const auto [a, b] = measure(rounds, repeats, ours, reference);
    same = same && last == theirs;
    std::size_t bytes = 0;
    for (const auto& value : values) bytes += value.size();
    figures.push_back({s.name, a, b, bytes / values.size()});
  }

  {
    const auto values = requests(10, false);
    const batch_ptr batch = batch_ptr::make();
    fill(*batch, values);
    codec::request_parser parser({});
    parser.parse(*batch, models);
    std::vector<double> outputs;
    std::mt19937_64 random(2);
    std::uniform_real_distribution<double> output(25, 346);
    for (std::size_t i = 0; i < values.size(); ++i) outputs.push_back(std::round(output(random) * 1e4) / 1e4);
    codec::result_writer writer;
    std::string text, theirs;
    const auto ours = [&] {
      text.clear();
      for (std::size_t i = 0; i < batch->records.size(); ++i)
        same = writer.prediction(text, batch->records[i], &outputs[i]) && same;
    };
    const auto reference = [&] {
      theirs.clear();
      for (std::size_t i = 0; i < batch->records.size(); ++i) {
        const record& r = batch->records[i];
        nlohmann::ordered_json j;
        j["request_id"] = r.request_id.substr(1, r.request_id.size() - 2);
        j["prediction"] = outputs[i];
        j["model_name"] = r.model->name();
        j["model_version"] = r.model->version();
        j["timestamp"] = r.timestamp_ms;
        theirs += j.dump();
      }
    };
    const auto [a, b] = measure(rounds, repeats, ours, reference);
    same = same && text == theirs;
    figures.push_back({"write", a, b, text.size() / values.size()});
  }

  for (const std::size_t rows : {1, 64}) v2_figures(rows, models, rounds, repeats, figures, same);

  if (json) {
    nlohmann::ordered_json out;
    out["benchmark"] = "codec";
    out["unit"] = "ns of one core a record";
    out["agrees"] = same;
    for (const auto& f : figures) {
      out["figures"].push_back({{"name", f.name},
                                {"bytes", f.bytes},
                                {"ns", f.ns},
                                {"nlohmann_ns", f.reference_ns},
                                {"times", f.reference_ns / f.ns}});
    }
    std::printf("%s\n", out.dump(2).c_str());
  } else {
    std::printf("%-22s %6s %10s %12s %7s\n", "", "bytes", "ns/record", "nlohmann ns", "times");
    for (const auto& f : figures)
      std::printf("%-22s %6zu %10.0f %12.0f %7.1f\n", f.name.c_str(), f.bytes, f.ns, f.reference_ns,
                  f.reference_ns / f.ns);
  }
  if (!same) std::fprintf(stderr, "the two do not agree on the numbers or the text\n");
  return same ? 0 : 1;
}
