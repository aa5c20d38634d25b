// troupe models score: what a version on disk predicts, without a broker.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "runtime/model/repository.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

std::vector<std::vector<double>> rows_of(std::istream& in, const model::schema& s) {
  std::vector<std::vector<double>> rows;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = "row " + std::to_string(rows.size() + 1);
    const json x = json::parse(line, nullptr, false);
    if (!x.is_array() || x.size() != s.features.size())
      throw usage_error(where + " is not a list of " + std::to_string(s.features.size()) + " numbers");
    auto& row = rows.emplace_back();
    for (const auto& v : x) {
      const auto& of = s.features[row.size()];
      if (!v.is_number() && !(v.is_null() && of.imputed))
        throw usage_error(
            where + ": feature '" + of.name + "' is " +
            (v.is_null() ? "missing, and the model says nothing of what that means" : "no number"));
      row.push_back(v.is_null() ? std::numeric_limits<double>::quiet_NaN() : v.get<double>());
    }
  }
  return rows;
}

}  // namespace

int models_score(const models_options& o) {
  const auto settings = settings_of(o.common, true).values;
  const auto m = model::load_model(o.model, "model", "1", model_options(settings).engines);
  std::ifstream file;
  if (o.rows != "-") {
    file.open(o.rows);
    if (!file) throw usage_error(o.rows + " cannot be read");
  }
  const auto rows = rows_of(o.rows == "-" ? std::cin : file, m->schema());
  std::vector<const double*> pointers;
  for (const auto& r : rows) pointers.push_back(r.data());
  const std::size_t width = m->output().width;
  std::vector<double> answers(rows.size() * width);
  m->engine().score(pointers, answers.data());
  json all = json::array();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    json one = json::array();
    for (std::size_t k = 0; k < width; ++k) {
      const double v = answers[r * width + k];
      one.push_back(std::isfinite(v) ? json(v) : json());
    }
    if (!o.common.json) std::printf("%s\n", one.dump().c_str());
    all.push_back(std::move(one));
  }
  if (o.common.json)
    std::printf("%s\n",
                json({{"engine", m->engine().kind()}, {"classes", m->output().classes}, {"rows", all}})
                    .dump()
                    .c_str());
  return ok;
}

}  // namespace troupe::cli
