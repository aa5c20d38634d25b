#include "runtime/registry/mlmodel.hpp"

#include <yaml-cpp/yaml.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>

#include "runtime/registry/mlflow_client.hpp"

namespace troupe::registry {
namespace {

using json = nlohmann::json;
constexpr std::size_t most_names = 100'000;

std::string scalar(const YAML::Node& map, const char* key) {
  if (!map || !map.IsMap()) return {};
  const YAML::Node node = map[key];
  return node && node.IsScalar() ? node.Scalar() : std::string();
}

std::string path_of(const YAML::Node& map, const char* key) {
  std::string path = scalar(map, key);
  if (!path.empty() && !is_safe_path(path))
    throw std::runtime_error("MLmodel: " + std::string(key) + " is a path outside of the model");
  return path;
}

std::vector<std::string> columns_of(const std::string& inputs) {
  std::vector<std::string> names;
  const json list = json::parse(inputs, nullptr, false);
  if (!list.is_array() || list.size() > most_names) return names;
  for (const auto& column : list) {
    if (!column.is_object() || column.value("type", json()) == "tensor" || !column.contains("name") ||
        !column["name"].is_string() || column["name"].get_ref<const std::string&>().empty())
      return {};
    names.push_back(column["name"].get<std::string>());
  }
  return names;
}

/// The flavours of boosters hold a pickle when they were given a scikit-learn estimator.
bool is_pickle(std::string_view file) {
  return file.ends_with(".pkl") || file.ends_with(".pickle") || file.ends_with(".joblib");
}

double number_in(const json& value) {
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (!value.is_number()) throw std::runtime_error("input example: a value is no number");
  return value.get<double>();
}

}  // namespace

std::string_view name_of(flavour f) {
  constexpr std::string_view names[] = {"none", "onnx", "xgboost", "lightgbm", "skops"};
  return names[static_cast<std::size_t>(f)];
}

mlmodel parse_mlmodel(const std::string& text) {
  mlmodel m;
  YAML::Node root;
  try {
    root = YAML::Load(text);
    const YAML::Node flavours = root.IsMap() ? root["flavors"] : YAML::Node();
    if (!flavours || !flavours.IsMap()) throw std::runtime_error("MLmodel: has no flavors");
    for (const auto& entry : flavours) m.others += (m.others.empty() ? "" : ", ") + entry.first.Scalar();
    for (const auto& [name, kind] : {std::pair{"onnx", flavour::onnx}, std::pair{"xgboost", flavour::xgboost},
                                     std::pair{"lightgbm", flavour::lightgbm}}) {
      if (m.kind != flavour::none) break;
      m.file = path_of(flavours[name], "data");
      if (is_pickle(m.file)) m.file.clear();
      if (!m.file.empty()) m.kind = kind;
    }
    if (const YAML::Node sklearn = flavours["sklearn"];
        m.kind == flavour::none && scalar(sklearn, "serialization_format") == "skops") {
      m.file = path_of(sklearn, "pickled_model");
      if (!m.file.empty()) m.kind = flavour::skops;
    }
    m.features = columns_of(scalar(root["signature"], "inputs"));
    m.input_example = path_of(root["saved_input_example_info"], "artifact_path");
  } catch (const YAML::Exception& e) {
    throw std::runtime_error("MLmodel: line " + std::to_string(e.mark.line + 1) + ": " + e.msg);
  }
  return m;
}

example_rows parse_input_example(const std::string& text) {
  json root = json::parse(text, nullptr, false);
  if (root.is_discarded()) throw std::runtime_error("input example: is not JSON");
  example_rows e;
  if (root.is_object()) {
    if (root.contains("columns") && root["columns"].is_array())
      for (const auto& c : root["columns"])
        e.columns.push_back(c.is_string() ? c.get<std::string>() : c.dump());
    for (const char* key : {"data", "inputs"})
      if (root.contains(key)) {
        json inner = root[key];
        root = std::move(inner);
        break;
      }
  }
  if (!root.is_array()) throw std::runtime_error("input example: has no rows");
  if (!root.empty() && !root.front().is_array()) root = json::array({root});
  for (const auto& row : root) {
    if (!row.is_array() || row.size() != root.front().size())
      throw std::runtime_error("input example: its rows differ in length");
    auto& values = e.rows.emplace_back();
    for (const auto& v : row) values.push_back(number_in(v));
  }
  return e;
}

}  // namespace troupe::registry
