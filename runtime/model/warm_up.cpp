#include "runtime/model/warm_up.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

namespace troupe::model {
namespace {

using nlohmann::json;

constexpr std::uintmax_t most_probe_bytes = 16U << 20;
constexpr std::size_t most_probe_rows = 1024;

double number_of(const json& v, const feature& of, const std::string& where) {
  const cell_rule* const rule = of.rule.get();
  if (v.is_null()) return rule ? rule->missing : std::numeric_limits<double>::quiet_NaN();
  if (rule && !rule->categories.empty()) {
    const double x = v.is_string() ? rule->number_of(v.get_ref<const std::string&>()) : cell_rule::none;
    if (std::isnan(x)) throw load_error(where + ": feature '" + of.name + "' must be " + rule->allowed());
    return x;
  }
  if (!v.is_number()) throw load_error(where + ": expected rows of numbers or null");
  double x = v.get<double>();
  if (rule && !rule->take(x))
    throw load_error(where + ": feature '" + of.name + "' must be " + rule->allowed());
  return x;
}

}  // namespace

void recent_rows::offer(const std::string& model, std::span<const double* const> rows, std::size_t width) {
  const std::size_t n = std::min(rows.size(), kept);
  const std::lock_guard lock(mutex_);
  auto at = std::find_if(some_.begin(), some_.end(),
                         [&](const some& s) { return s.model == model && s.width == width; });
  if (at == some_.end()) at = some_.insert(some_.end(), {model, width, {}});
  at->values.clear();
  for (std::size_t i = 0; i < n; ++i) at->values.insert(at->values.end(), rows[i], rows[i] + width);
}

std::vector<double> recent_rows::take(const std::string& model, std::size_t width) const {
  const std::lock_guard lock(mutex_);
  for (const some& s : some_)
    if (s.model == model && s.width == width) return s.values;
  return {};
}

std::vector<double> probe_rows(const std::filesystem::path& version_dir, const schema& columns) {
  if (!columns.inputs.empty()) return {};
  for (const char* name : {"probe.json", "input_example.json"}) {
    const auto file = version_dir / name;
    std::error_code error;
    const auto size = std::filesystem::file_size(file, error);
    if (error) continue;
    const std::string where = file.string();
    if (size > most_probe_bytes) throw load_error(where + ": has more than 16 MiB; a few rows are enough");
    std::ifstream in(file, std::ios::binary);
    json rows = json::parse(in, nullptr, false);
    // MLflow's forms of input_example.json.
    for (const char* key : {"dataframe_split", "data", "inputs", "instances"})
      if (rows.is_object() && rows.contains(key)) rows = json(rows[key]);
    if (!rows.is_array()) throw load_error(where + ": expected a JSON list of rows");
    const std::size_t width = columns.features.size();
    std::vector<double> values;
    for (std::size_t i = 0; i < std::min(rows.size(), most_probe_rows); ++i) {
      const json& row = rows[i];
      if (row.is_object()) {
        const std::size_t at = values.size();
        for (const feature& of : columns.features) values.push_back(number_of(nullptr, of, where));
        for (const auto& [key, value] : row.items()) {
          const int column = columns.index_of(key);
          if (column < 0) throw load_error(where + ": the model has no feature '" + key + "'");
          const auto c = static_cast<std::size_t>(column);
          values[at + c] = number_of(value, columns.features[c], where);
        }
      } else if (row.is_array() && row.size() == width) {
        for (std::size_t c = 0; c < width; ++c)
          values.push_back(number_of(row[c], columns.features[c], where));
      } else {
        throw load_error(where + ": row " + std::to_string(i) + " is not a list of " + std::to_string(width) +
                         " numbers");
      }
    }
    return values;
  }
  return {};
}

warm_up_result warm_up(const loaded_model& m, const recent_rows& recent) {
  constexpr int rounds = 3;
  const std::size_t width = m.schema().features.size();
  warm_up_result result;
  std::vector<double> values = probe_rows(m.path().parent_path(), m.schema());
  result.from = "probe";
  const bool own = !values.empty();
  if (values.empty() && m.schema().inputs.empty()) {
    values = recent.take(m.name(), width);
    result.from = "recent";
  }
  if (values.empty()) {
    values.assign(std::max<std::size_t>(1, width), 0);
    result.from = "zeros";
  }
  result.rows = width == 0 ? 1 : values.size() / width;
  std::vector<const double*> rows;
  for (std::size_t i = 0; i < result.rows; ++i) rows.push_back(values.data() + i * width);
  std::vector<double> out(result.rows * m.output().width);
  try {
    for (int round = 0; round < rounds; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      m.engine().score(rows, out.data());
      result.took_us = static_cast<long>(
          std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin)
              .count());
    }
  } catch (const model_error& e) {
    throw load_error(m.path().string() + ": the model can't score its warm-up rows: " + e.what());
  }
  if (own && !std::all_of(out.begin(), out.end(), [](double v) { return std::isfinite(v); }))
    throw load_error(m.path().string() + ": the prediction for one of its own example rows is not finite");
  return result;
}

}  // namespace troupe::model
