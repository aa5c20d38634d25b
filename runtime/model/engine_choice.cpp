#include "runtime/model/engine_choice.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <utility>

#include "runtime/model/engine_process.hpp"

namespace troupe::model {
namespace {

using json = nlohmann::json;

constexpr std::size_t grid_rows = 128;
constexpr std::size_t most_examples = 256;

class inside_engine : public engine {
 public:
  inside_engine(std::string_view file, const onnxruntime::session_options& how,
                onnxruntime::table_hints hints)
      : table_(file, how, std::move(hints)) {}
  void score(std::span<const double* const> rows, double* out) const override { table_.score(rows, out); }
  [[nodiscard]] std::string_view kind() const override { return "onnxruntime"; }
  [[nodiscard]] const onnxruntime::table_spec& spec() const { return table_.spec(); }

 private:
  onnxruntime::table table_;
};

class isolated_engine : public engine {
 public:
  isolated_engine(std::string_view file, onnxruntime::table_hints hints, engine_process_options how)
      : limit_(how.batch_limit), process_(file, std::move(hints), std::move(how)) {}
  void score(std::span<const double* const> rows, double* out) const override { process_.score(rows, out); }
  [[nodiscard]] std::string_view kind() const override { return "onnxruntime"; }
  [[nodiscard]] policy::nanos ends_after() const override { return limit_; }
  [[nodiscard]] const onnxruntime::table_spec& spec() const { return process_.spec(); }

 private:
  policy::nanos limit_;
  engine_process process_;
};

/// What the file's own records say about names, as far as it can be read.
struct said {
  std::vector<std::string> features;
  std::vector<std::string> classes;
};

said read_said(const onnx::graph& g) {
  said s;
  for (const auto& [key, text] : g.metadata) {
    if (key != "feature_names") continue;
    const json list = json::parse(text, nullptr, false);
    if (list.is_array() &&
        std::all_of(list.begin(), list.end(), [](const json& j) { return j.is_string(); })) {
      s.features = list.get<std::vector<std::string>>();
    } else {
      for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find(',', at), text.size());
        s.features.emplace_back(text.substr(at, end - at));
        at = end + 1;
      }
    }
  }
  for (const auto& n : g.nodes) {
    for (const char* name : {"classlabels_strings", "classlabels_int64s", "classlabels_ints"}) {
      const auto* a = n.find(name);
      if (!a || (a->strings.empty() && a->ints.empty())) continue;
      s.classes.clear();
      for (const auto text : a->strings) s.classes.emplace_back(text);
      for (const auto number : a->ints) s.classes.push_back(std::to_string(number));
    }
  }
  return s;
}

void describe_output(const onnxruntime::table_spec& spec, const graph_hints& hints, const said& s,
                     output_spec& made) {
  made.width = spec.width;
  made.parts = spec.parts;
  const bool classes = spec.classification || !hints.classes.empty() || hints.softmax;
  made.kind = classes ? task::classification : task::regression;
  if (!classes) return;
  if (!spec.parts.empty())
    throw load_error("model.yaml lists classes, and the model has several outputs; pick one with outputs:");
  made.classes = !hints.classes.empty() ? hints.classes : !spec.classes.empty() ? spec.classes : s.classes;
  if (made.classes.empty())
    for (std::size_t k = 0; k < spec.width; ++k) made.classes.push_back(std::to_string(k));
  if (made.classes.size() != spec.width)
    throw load_error(std::to_string(made.classes.size()) + " class names for " + std::to_string(spec.width) +
                     " probabilities; list them as classes: in model.yaml");
}

/// Schema and output in the words of graph.hpp.
void describe(const onnxruntime::table_spec& spec, const graph_hints& hints, const said& s,
              compiled_graph& made) {
  if (!spec.inputs.empty()) {
    if (!hints.features.empty())
      throw load_error("model.yaml lists features, and the graph takes tensors: leave features out");
    made.schema = schema(spec.inputs);
    describe_output(spec, hints, s, made.output);
    return;
  }
  std::vector<std::string> names = spec.names;
  bool named = !names.empty();
  if (!hints.features.empty()) {
    if (hints.features.size() != spec.columns)
      throw load_error("model.yaml lists " + std::to_string(hints.features.size()) +
                       " features, the graph has " + std::to_string(spec.columns));
    names = hints.features;
    named = true;
  } else if (!named && s.features.size() == spec.columns) {
    names = s.features;
    named = true;
  }
  std::vector<feature> features;
  for (std::size_t c = 0; c < spec.columns; ++c)
    features.push_back({named ? names[c] : "f" + std::to_string(c), false});
  std::vector<std::string> sorted;
  for (const auto& f : features) sorted.push_back(f.name);
  std::sort(sorted.begin(), sorted.end());
  if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end())
    throw load_error("two features are called " + *twice);
  made.schema = schema(std::move(features), named);

  describe_output(spec, hints, s, made.output);
}

compiled_graph by_onnxruntime(std::string_view file, const graph_hints& hints, const engine_options& how,
                              const std::string& name, const said& s, bool background = false) {
  compiled_graph made;
  made.unexplained = "ONNX Runtime scores it, which gives no reasons";
  onnxruntime::table_hints rows;
  rows.columns = hints.features.size();
  rows.shapes = hints.shapes;
  rows.step = hints.input;
  rows.outputs = hints.outputs;
  rows.softmax = hints.softmax;
  if (how.isolated) {
    engine_process_options o;
    o.command = how.command;
    o.session = how.session;
    o.batch_limit = how.timeout;
    o.background = background;
    if (how.tell) o.tell = [tell = how.tell, name](const std::string& what) { tell(name, what); };
    auto e = std::make_unique<const isolated_engine>(file, std::move(rows), std::move(o));
    describe(e->spec(), hints, s, made);
    made.engine = std::move(e);
  } else {
    auto e = std::make_unique<const inside_engine>(file, how.session, std::move(rows));
    describe(e->spec(), hints, s, made);
    made.engine = std::move(e);
  }
  return made;
}

/// How many of the answers differ; a float's worth of rounding, summed over many trees, is no difference.
std::size_t differing(const compiled_graph& a, const compiled_graph& b,
                      const std::vector<std::vector<double>>& probes) {
  std::vector<const double*> rows;
  for (const auto& p : probes) rows.push_back(p.data());
  const std::size_t width = a.output.width;
  std::vector<double> x(rows.size() * width);
  std::vector<double> y(x.size());
  a.engine->score(rows, x.data());
  b.engine->score(rows, y.data());
  std::size_t count = 0;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    bool same = true;
    for (std::size_t k = r * width; k < (r + 1) * width; ++k) {
      const bool both = !std::isfinite(x[k]) && !std::isfinite(y[k]);
      same = same &&
             (both || std::fabs(x[k] - y[k]) <= 1e-4 * std::max({1.0, std::fabs(x[k]), std::fabs(y[k])}));
    }
    count += !same;
  }
  return count;
}

}  // namespace

std::vector<std::vector<double>> read_examples(std::string_view text) {
  const json root = json::parse(text, nullptr, false);
  const json* rows = &root;
  for (const char* key : {"dataframe_split", "data", "inputs", "instances"})
    if (root.is_object() && root.contains(key)) rows = &root[key];
  std::vector<std::vector<double>> found;
  if (!rows->is_array()) return found;
  for (const auto& row : *rows) {
    if (!row.is_array() || found.size() == most_examples) break;
    std::vector<double> numbers;
    for (const auto& cell : row) {
      if (!cell.is_number()) return {};
      numbers.push_back(cell.get<double>());
    }
    found.push_back(std::move(numbers));
  }
  return found;
}

std::vector<std::vector<double>> probe_rows(const onnx::graph& g, std::size_t columns,
                                            std::span<const std::vector<double>> examples) {
  std::vector<std::vector<double>> rows;
  for (const auto& e : examples)
    if (e.size() == columns) rows.push_back(e);
  std::vector<std::vector<float>> thresholds(columns);
  for (const auto& n : g.nodes) {
    const auto* where = n.find("nodes_featureids");
    const auto* values = n.find("nodes_values");
    if (!where || !values) continue;
    for (std::size_t i = 0; i < std::min(where->ints.size(), values->floats.size()); ++i) {
      const auto c = where->ints[i];
      if (c >= 0 && static_cast<std::size_t>(c) < columns && std::isfinite(values->floats[i]))
        thresholds[static_cast<std::size_t>(c)].push_back(values->floats[i]);
    }
  }
  std::mt19937_64 random(1);
  for (std::size_t r = 0; r < grid_rows; ++r) {
    auto& row = rows.emplace_back(columns);
    for (std::size_t c = 0; c < columns; ++c) {
      const auto& t = thresholds[c];
      const std::uint64_t draw = random();
      if (t.empty() || r % 4 == 3) {
        row[c] = static_cast<double>(static_cast<std::int64_t>(draw % 6001) - 3000) / 1000;
        continue;
      }
      const float at = t[(draw >> 8) % t.size()];
      constexpr float up = std::numeric_limits<float>::infinity();
      row[c] = static_cast<double>(draw % 3 == 0   ? at
                                   : draw % 3 == 1 ? std::nextafterf(at, up)
                                                   : std::nextafterf(at, -up));
    }
  }
  return rows;
}

namespace {

chosen_engine choose(std::string_view file, const graph_hints& hints, const onnx::limits& most,
                     const engine_options& how, const std::string& name,
                     std::span<const std::vector<double>> examples) {
  chosen_engine made;
  if (how.mode == engine_mode::builtin) {
    if (hints.beyond_tables())
      throw load_error("model.yaml asks for what only ONNX Runtime does; set models.engine to auto");
    made.graph = compile(file, hints, most);
    made.why = "models.engine";
    return made;
  }
  onnx::graph g;
  std::string refused;
  try {
    g = onnx::read(file, most);
    if (hints.beyond_tables()) throw load_error("model.yaml asks for what only ONNX Runtime does");
    if (how.mode == engine_mode::automatic) {
      made.graph = compile(g, hints, most);
      made.why = "every operator is built in";
    }
  } catch (const load_error& e) {
    refused = e.what();
  }
  const said s = read_said(g);
  if (how.mode == engine_mode::onnxruntime) {
    made.graph = by_onnxruntime(file, hints, how, name, s);
    made.why = "models.engine";
    return made;
  }
  compiled_graph other;
  try {
    // While others are served, a comparison is in no hurry.
    other = by_onnxruntime(file, hints, how, name, s, refused.empty());
  } catch (const load_error& e) {
    if (!refused.empty()) throw load_error(refused + "; ONNX Runtime does not take it either: " + e.what());
    made.why += "; not compared: " + std::string(e.what());
    return made;
  }
  if (!refused.empty()) {
    made.why = "not built in: " + refused;
    made.graph = std::move(other);
    return made;
  }
  if (other.output.width != made.graph.output.width ||
      other.schema.features.size() != made.graph.schema.features.size()) {
    made.why = "the built-in engine reads another number of columns or answers";
    made.graph = by_onnxruntime(file, hints, how, name, s);
    return made;
  }
  const auto probes = probe_rows(g, made.graph.schema.features.size(), examples);
  std::size_t differ = 0;
  try {
    differ = differing(made.graph, other, probes);
  } catch (const model_error& e) {
    made.why += "; not compared: " + std::string(e.what());
    return made;
  }
  if (differ > 0) {
    made.why = "the built-in engine answers " + std::to_string(differ) + " of " +
               std::to_string(probes.size()) + " probe rows differently";
    made.graph.explain.reset();  // it explains the engine that goes
    made.graph.unexplained = other.unexplained;
    made.graph.engine = by_onnxruntime(file, hints, how, name, s).engine;
  } else {
    made.why += ", and ONNX Runtime agrees on " + std::to_string(probes.size()) + " probe rows";
  }
  return made;
}

}  // namespace

chosen_engine choose_engine(std::string_view file, const graph_hints& hints, const onnx::limits& most,
                            const engine_options& how, const std::string& name,
                            std::span<const std::vector<double>> examples) {
  chosen_engine made = choose(file, hints, most, how, name, examples);
  if (hints.top_k > 0 && made.graph.output.kind != task::classification)
    throw load_error("model.yaml: top_k is of a classification; list its classes:");
  made.graph.output.top_k = std::min(hints.top_k, made.graph.output.width);
  return made;
}

}  // namespace troupe::model
