#include "runtime/traffic/requests.hpp"

#include <inference.pb.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>

namespace troupe::traffic {
namespace {

static_assert(std::endian::native == std::endian::little, "raw tensors are little-endian");

using json = nlohmann::ordered_json;

/// One request's worth of FP32.
struct tensor {
  std::vector<float> values;
  std::int64_t rows = 0;
  std::int64_t features = 0;
  [[nodiscard]] std::string bytes() const {
    std::string raw(values.size() * sizeof(float), '\0');
    std::memcpy(raw.data(), values.data(), raw.size());
    return raw;
  }
};

std::vector<float> numbers(const std::string& row, std::size_t at, std::size_t expected) {
  const auto name = [&] { return "row " + std::to_string(at + 1); };
  const auto list = json::parse(row, nullptr, false);
  if (!list.is_array())
    throw std::invalid_argument(name() +
                                " is no list of numbers, which a tensor needs; /score takes objects");
  std::vector<float> values;
  for (const auto& v : list) {
    if (!v.is_number()) throw std::invalid_argument(name() + " is no list of numbers, which a tensor needs");
    values.push_back(v.get<float>());
  }
  if (values.empty()) throw std::invalid_argument(name() + " has no numbers");
  if (expected != 0 && values.size() != expected)
    throw std::invalid_argument(name() + " has " + std::to_string(values.size()) +
                                " numbers, the first has " + std::to_string(expected));
  return values;
}

/// As many requests as there are rows, unless a whole number of requests takes them all.
std::size_t request_count(std::size_t rows, std::size_t a_request) {
  return rows % a_request == 0 ? rows / a_request : rows;
}

std::vector<tensor> tensors(const std::vector<std::string>& rows, std::size_t a_request) {
  std::vector<std::vector<float>> values;
  for (std::size_t i = 0; i < rows.size(); ++i)
    values.push_back(numbers(rows[i], i, values.empty() ? 0 : values.front().size()));
  std::vector<tensor> out;
  for (std::size_t n = 0; n < request_count(rows.size(), a_request); ++n) {
    tensor& t = out.emplace_back();
    t.rows = static_cast<std::int64_t>(a_request);
    t.features = static_cast<std::int64_t>(values.front().size());
    for (std::size_t k = 0; k < a_request; ++k) {
      const auto& row = values[(n * a_request + k) % values.size()];
      t.values.insert(t.values.end(), row.begin(), row.end());
    }
  }
  return out;
}

json v2_document(const tensor& t, const request_options& o) {
  json j = json::object();
  if (o.priority > 0) j["parameters"]["priority"] = o.priority;
  if (o.timeout_us > 0) j["parameters"]["timeout"] = o.timeout_us;
  j["inputs"] = json::array({{{"name", "input"}, {"shape", {t.rows, t.features}}, {"datatype", "FP32"}}});
  return j;
}

}  // namespace

std::vector<std::string> generated_rows(std::int64_t distinct, std::size_t features, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> value(0, 0.048);
  std::vector<std::string> rows;
  for (std::int64_t i = 0; i < distinct; ++i) {
    std::string row = "[";
    char number[32];
    for (std::size_t k = 0; k < features; ++k) {
      std::snprintf(number, sizeof number, "%s%.6f", k ? "," : "", value(random));
      row += number;
    }
    rows.push_back(row + "]");
  }
  return rows;
}

std::vector<http_body> score_bodies(const std::vector<std::string>& rows, const request_options& o) {
  std::vector<http_body> out;
  for (std::size_t n = 0; n < request_count(rows.size(), o.rows); ++n) {
    std::string body = "{\"data\":[";
    for (std::size_t k = 0; k < o.rows; ++k) body += (k ? "," : "") + rows[(n * o.rows + k) % rows.size()];
    out.push_back({body + "]}", 0});
  }
  return out;
}

std::vector<http_body> v2_bodies(const std::vector<std::string>& rows, const request_options& o) {
  std::vector<http_body> out;
  for (const tensor& t : tensors(rows, o.rows)) {
    std::string text = v2_document(t, o).dump();
    text.resize(text.size() - 3);  // }]}
    text += ",\"data\":[";
    char number[32];
    for (std::size_t i = 0; i < t.values.size(); ++i) {
      std::snprintf(number, sizeof number, "%s%.9g", i ? "," : "", static_cast<double>(t.values[i]));
      text += number;
    }
    out.push_back({text + "]}]}", 0});
  }
  return out;
}

std::vector<http_body> binary_bodies(const std::vector<std::string>& rows, const request_options& o) {
  std::vector<http_body> out;
  for (const tensor& t : tensors(rows, o.rows)) {
    json j = v2_document(t, o);
    const std::string raw = t.bytes();
    j["parameters"]["binary_data_output"] = true;
    j["inputs"][0]["parameters"]["binary_data_size"] = raw.size();
    const std::string head = j.dump();
    out.push_back({head + raw, head.size()});
  }
  return out;
}

std::vector<std::string> grpc_messages(const std::vector<std::string>& rows, const request_options& o) {
  std::vector<std::string> out;
  for (const tensor& t : tensors(rows, o.rows)) {
    inference::ModelInferRequest request;
    request.set_model_name(o.model);
    request.set_model_version(o.model_version);
    auto& parameters = *request.mutable_parameters();
    if (o.priority > 0) parameters["priority"].set_int64_param(o.priority);
    if (o.timeout_us > 0) parameters["timeout"].set_int64_param(o.timeout_us);
    auto& input = *request.add_inputs();
    input.set_name("input");
    input.set_datatype("FP32");
    input.add_shape(t.rows);
    input.add_shape(t.features);
    request.add_raw_input_contents(t.bytes());
    out.push_back(request.SerializeAsString());
  }
  return out;
}

}  // namespace troupe::traffic
