// troupe models explain: what each feature adds, without a broker.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/model_choice.hpp"
#include "runtime/codec/explanation.hpp"
#include "runtime/model/shap.hpp"
#include "runtime/policy/nearest.hpp"

namespace troupe::cli {
namespace {

using nlohmann::ordered_json;
using row = std::vector<double>;

constexpr std::size_t most_input_bytes = 256U << 20;

double number(const nlohmann::json& x, const model::schema& s, std::size_t column) {
  const model::cell_rule* const rule = s.features[column].rule.get();
  const std::string name = "feature '" + s.features[column].name + "'";
  if (rule && x.is_null() && !std::isnan(rule->missing)) return rule->missing;
  if (rule && !rule->categories.empty() && !x.is_null()) {
    const double at =
        x.is_string() ? rule->number_of(x.get_ref<const std::string&>()) : model::cell_rule::none;
    if (std::isnan(at)) throw usage_error(name + " must be " + rule->allowed());
    return at;
  }
  if (x.is_number() && std::isfinite(x.get<double>())) {
    double taken = x.get<double>();
    if (rule && !rule->take(taken)) throw usage_error(name + " must be " + rule->allowed());
    return taken;
  }
  if (!x.is_null()) throw usage_error(name + " is not a number");
  if (!s.missing_allowed(column))
    throw usage_error(name + " is missing, and the model says nothing of what that means");
  return std::numeric_limits<double>::quiet_NaN();
}

row row_of(const nlohmann::json& x, const model::schema& s) {
  const std::size_t width = s.features.size();
  row out(width);
  if (x.is_array()) {
    if (x.size() != width) {
      throw usage_error("a row has " + std::to_string(x.size()) + " features, the model takes " +
                        std::to_string(width));
    }
    for (std::size_t c = 0; c < width; ++c) out[c] = number(x[c], s, c);
    return out;
  }
  if (!x.is_object()) throw usage_error("a row is a list of numbers or an object by feature name");
  std::vector<bool> seen(width, false);
  for (const auto& [name, value] : x.items()) {
    const int c = s.index_of(name);
    if (c < 0) {
      std::vector<std::string> known;
      for (const auto& f : s.features) known.push_back(f.name);
      const std::string near = policy::nearest(name, known, 2);
      throw usage_error("there is no feature '" + name.substr(0, 64) + "'" +
                        (near.empty() ? "" : " (did you mean " + near + "?)"));
    }
    const auto column = static_cast<std::size_t>(c);
    out[column] = number(value, s, column);
    seen[column] = true;
  }
  for (std::size_t c = 0; c < width; ++c) {
    if (!seen[c]) out[c] = number(nullptr, s, c);
  }
  return out;
}

/// One row, a list of rows, or an object with either under `features`, as in a request.
void add_rows(std::string_view text, const model::schema& s, std::vector<row>& rows) {
  nlohmann::json x = nlohmann::json::parse(text, nullptr, false);
  if (x.is_discarded()) throw usage_error("not JSON: " + std::string(text.substr(0, 64)));
  if (x.is_object() && x.contains("features") && s.index_of("features") < 0)
    x = nlohmann::json(x["features"]);
  const bool several = x.is_array() && !x.empty() && (x[0].is_array() || x[0].is_object());
  if (!several) return rows.push_back(row_of(x, s));
  for (const auto& each : x) rows.push_back(row_of(each, s));
}

std::string read_all(const std::string& file) {
  std::ifstream opened;
  if (file != "-") {
    opened.open(file, std::ios::binary);
    if (!opened) throw usage_error(file + " cannot be read");
  }
  std::istream& in = file == "-" ? std::cin : opened;
  std::string text;
  char part[65536];
  while (in.read(part, sizeof part) || in.gcount() > 0) {
    text.append(part, static_cast<std::size_t>(in.gcount()));
    if (text.size() > most_input_bytes) throw usage_error(file + " has more than 256 MiB");
  }
  return text;
}

std::vector<row> rows_of(const explain_options& o, const model::schema& s) {
  if (o.features.empty() == o.file.empty())
    throw usage_error("give the row as --features or a FILE of rows, one of them");
  std::vector<row> rows;
  if (!o.features.empty()) {
    add_rows(o.features, s, rows);
    return rows;
  }
  const std::string text = read_all(o.file);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) add_rows(line, s, rows);
  }
  if (rows.empty()) throw usage_error(o.file + " has no rows");
  return rows;
}

ordered_json number_or_null(double x) {
  return std::isfinite(x) ? ordered_json(x) : ordered_json(nullptr);
}

ordered_json prediction_of(const model::output_spec& out, const double* answer) {
  if (out.kind == model::task::classification)
    return out.classes[static_cast<std::size_t>(std::max_element(answer, answer + out.width) - answer)];
  if (out.width == 1) return number_or_null(answer[0]);
  ordered_json list = ordered_json::array();
  for (std::size_t k = 0; k < out.width; ++k) list.push_back(number_or_null(answer[k]));
  return list;
}

}  // namespace

int models_explain(const explain_options& o) {
  auto settings = settings_of(o.common, true).values;
  settings.models.explain = true;
  const auto m = load_one_model(settings, o.model, o.version);
  const model::explainer* const e = m->explain();
  if (!e) {
    std::fprintf(stderr, "troupe: %s: %s\n", m->path().c_str(), m->unexplained().c_str());
    return failed;
  }
  const auto& features = m->schema().features;
  const std::vector<row> rows = rows_of(o, m->schema());
  std::vector<const double*> pointers;
  for (const row& r : rows) pointers.push_back(r.data());
  const std::size_t width = m->output().width;
  const std::size_t scores = e->outputs();
  std::vector<double> answers(rows.size() * width);
  std::vector<double> score(rows.size() * scores);
  std::vector<double> shares(rows.size() * scores * features.size());
  m->engine().score(pointers, answers.data());
  e->explain(pointers, shares.data(), score.data());
  const auto names = codec::names_of_scores(*m);
  ordered_json list = ordered_json::array();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const ordered_json prediction = prediction_of(m->output(), &answers[r * width]);
    ordered_json outputs = ordered_json::array();
    if (!o.common.json)
      std::printf("%s%s/%s predicts %s\n", r ? "\n" : "", m->name().c_str(), m->version().c_str(),
                  prediction.dump().c_str());
    for (std::size_t k = 0; k < scores; ++k) {
      const double* const own = &shares[(r * scores + k) * features.size()];
      if (o.common.json) {
        ordered_json of;
        if (!names[k].empty()) of["output"] = names[k];
        of["base"] = number_or_null(e->base()[k]);
        of["score"] = number_or_null(score[r * scores + k]);
        for (std::size_t c = 0; c < features.size(); ++c)
          of["contributions"][features[c].name] = number_or_null(own[c]);
        outputs.push_back(std::move(of));
        continue;
      }
      std::vector<std::size_t> order(features.size());
      for (std::size_t c = 0; c < order.size(); ++c) order[c] = c;
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return std::fabs(own[a]) > std::fabs(own[b]); });
      std::size_t wide = 4;
      for (const auto& f : features) wide = std::max(wide, f.name.size());
      const int w = static_cast<int>(wide);
      if (!names[k].empty()) std::printf(" %s\n", names[k].c_str());
      std::printf("  %-*s  %12s  %+12.6g\n", w, "base", "", e->base()[k]);
      for (const std::size_t c : order) {
        if (std::isnan(rows[r][c])) {
          std::printf("  %-*s  %12s  %+12.6g\n", w, features[c].name.c_str(), "missing", own[c]);
        } else if (const auto* rule = features[c].rule.get(); rule && !rule->categories.empty()) {
          const auto at = rows[r][c] < 0 ? rule->categories.size() : static_cast<std::size_t>(rows[r][c]);
          std::printf("  %-*s  %12s  %+12.6g\n", w, features[c].name.c_str(),
                      at < rule->categories.size() ? rule->categories[at].c_str() : "unknown", own[c]);
        } else {
          std::printf("  %-*s  %12.6g  %+12.6g\n", w, features[c].name.c_str(), rows[r][c], own[c]);
        }
      }
      std::printf("  %-*s  %12s  %+12.6g\n", w, "score", "", score[r * scores + k]);
    }
    if (o.common.json) list.push_back({{"prediction", prediction}, {"outputs", std::move(outputs)}});
  }
  if (o.common.json)
    std::printf("%s\n",
                ordered_json({{"model", m->name()}, {"version", m->version()}, {"rows", std::move(list)}})
                    .dump()
                    .c_str());
  return ok;
}

}  // namespace troupe::cli
