#include "runtime/model/preprocess.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "runtime/model/shap.hpp"

namespace troupe::model {
namespace {

constexpr std::size_t most_category_bytes = 256;

/// The steps from features to columns; null where there is nothing to do.
std::shared_ptr<const pipeline> steps_of(const std::vector<preprocessing::feature>& features,
                                         std::size_t columns) {
  const auto scales = [](const auto& f) { return f.mean != 0 || f.scale != 1; };
  const bool scaled = std::any_of(features.begin(), features.end(), scales);
  const bool widened = std::any_of(features.begin(), features.end(), [](const auto& f) { return f.one_hot; });
  if (!scaled && !widened) return nullptr;
  auto made = std::make_shared<pipeline>();
  made->name = "preprocessing";
  const std::size_t width = features.size();
  const std::size_t most = 8 * (width + columns);
  std::uint32_t last = made->add_slot(width, most);
  made->sources.push_back({last, 0, false});
  const auto add = [&](step_ptr s, std::vector<std::uint32_t> from, std::size_t wide) {
    const std::uint32_t to = made->add_slot(wide, most);
    made->operations.push_back({std::move(s), std::move(from), to});
    return to;
  };
  if (scaled) {
    std::vector<double> means;
    std::vector<double> by;
    for (const auto& f : features) {
      means.push_back(f.mean);
      by.push_back(f.scale);
    }
    last = add(with_constant(arithmetic::sub, std::move(means), false, false), {last}, width);
    last = add(with_constant(arithmetic::div, std::move(by), false, false), {last}, width);
  }
  if (widened) {  // runs of features that are alike, side by side
    std::vector<std::uint32_t> parts;
    for (std::size_t i = 0; i < width;) {
      std::vector<std::uint32_t> run;
      std::vector<category_list> lists;
      std::size_t wide = 0;
      const bool one_hot_run = features[i].one_hot;
      for (; i < width && features[i].one_hot == one_hot_run; ++i) {
        run.push_back(static_cast<std::uint32_t>(i));
        if (!one_hot_run) continue;
        auto& list = lists.emplace_back();
        for (std::size_t k = 0; k < features[i].rule->categories.size(); ++k)
          list.values.push_back(static_cast<double>(k));
        wide += list.values.size();
      }
      const std::size_t count = run.size();
      std::uint32_t part = add(pick(std::move(run)), {last}, count);
      if (one_hot_run) part = add(one_hot(std::move(lists), std::vector<int>(count, -1)), {part}, wide);
      parts.push_back(part);
    }
    const std::size_t count = parts.size();
    last = add(concat(count), std::move(parts), columns);
  }
  made->result = last;
  return made;
}

/// Rows of the request become rows of the model in these, which a thread keeps.
struct scratch {
  std::vector<double> numbers;
  std::vector<const double*> rows;

  std::span<const double* const> fill(const pipeline& front, std::span<const double* const> from) {
    const std::size_t width = front.slots[front.result].width;
    if (numbers.size() < from.size() * width) numbers.resize(from.size() * width);
    rows.resize(from.size());
    for (std::size_t r = 0; r < from.size(); ++r) rows[r] = numbers.data() + r * width;
    front.score(from, numbers.data());
    return rows;
  }
};

/// So many rows at a time: 8 MiB of scratch a thread.
std::size_t block_of(std::size_t width) {
  return std::max<std::size_t>(1, (std::size_t{1} << 20) / width);
}

class preprocessed_engine final : public engine {
 public:
  preprocessed_engine(std::shared_ptr<const pipeline> front, std::unique_ptr<const engine> inner,
                      std::size_t answers)
      : front_(std::move(front)), inner_(std::move(inner)), answers_(answers) {}

  void score(std::span<const double* const> rows, double* out) const override {
    thread_local scratch kept;
    const std::size_t block = block_of(front_->slots[front_->result].width);
    for (std::size_t at = 0; at < rows.size(); at += block) {
      const auto some = rows.subspan(at, std::min(block, rows.size() - at));
      inner_->score(kept.fill(*front_, some), out + at * answers_);
    }
  }
  [[nodiscard]] std::string_view kind() const override { return inner_->kind(); }

 private:
  std::shared_ptr<const pipeline> front_;
  std::unique_ptr<const engine> inner_;
  std::size_t answers_;
};

class preprocessed_explainer final : public explainer {
 public:
  preprocessed_explainer(std::shared_ptr<const pipeline> front, std::shared_ptr<const explainer> inner)
      : front_(std::move(front)), inner_(std::move(inner)), from_(origins(*front_)[front_->result]) {}

  [[nodiscard]] std::size_t features() const override { return front_->slots[0].width; }
  [[nodiscard]] std::size_t outputs() const override { return inner_->outputs(); }
  [[nodiscard]] std::span<const double> base() const override { return inner_->base(); }
  void explain(std::span<const double* const> rows, double* contributions, double* scores) const override {
    thread_local scratch kept;
    std::vector<double> wide;
    const std::size_t block = block_of(from_.size() * outputs());
    std::fill_n(contributions, rows.size() * outputs() * features(), 0.0);
    for (std::size_t at = 0; at < rows.size(); at += block) {
      const auto some = rows.subspan(at, std::min(block, rows.size() - at));
      wide.resize(some.size() * outputs() * from_.size());
      inner_->explain(kept.fill(*front_, some), wide.data(), scores + at * outputs());
      double* to = contributions + at * outputs() * features();
      for (std::size_t i = 0; i < some.size() * outputs(); ++i, to += features())
        for (std::size_t c = 0; c < from_.size(); ++c) to[from_[c]] += wide[i * from_.size() + c];
    }
  }

 private:
  std::shared_ptr<const pipeline> front_;
  std::shared_ptr<const explainer> inner_;
  std::vector<std::uint32_t> from_;  ///< by column, the feature that it comes from
};

class reader {
 public:
  explicit reader(const std::filesystem::path& file) : file_(file) {}

  [[nodiscard]] preprocessing::feature feature(const YAML::Node& n) const;

  [[noreturn]] void fail(const YAML::Node& at, const std::string& what) const {
    throw load_error(file_.string() + ":" + std::to_string(at.Mark().line + 1) + ": " + what);
  }

 private:
  [[nodiscard]] double number(const YAML::Node& n, const std::string& key) const {
    double x = 0;
    if (!n.IsScalar() || !YAML::convert<double>::decode(n, x) || !std::isfinite(x))
      fail(n, key + " is not a finite number; write one");
    return x;
  }
  void categories(const YAML::Node& n, const std::string& key, cell_rule& rule) const;
  [[nodiscard]] double category(const YAML::Node& n, const std::string& key, const cell_rule& rule) const {
    const double at = n.IsScalar() ? rule.number_of(n.Scalar()) : cell_rule::none;
    if (std::isnan(at)) fail(n, key + " is none of the categories; write " + rule.allowed());
    return at;
  }

  std::filesystem::path file_;
};

void reader::categories(const YAML::Node& n, const std::string& key, cell_rule& rule) const {
  if (!n.IsSequence() || n.size() == 0) fail(n, key + " is not a list of texts; write [red, green]");
  std::set<std::string> seen;
  for (const auto& each : n) {
    if (!each.IsScalar()) fail(each, key + " holds what is no text; put it into quotes");
    if (each.Scalar().size() > most_category_bytes)
      fail(each,
           key + " holds a text of more than " + std::to_string(most_category_bytes) + " bytes; shorten it");
    if (!seen.insert(each.Scalar()).second)
      fail(each, key + " holds '" + each.Scalar() + "' twice; take one out");
    rule.categories.push_back(each.Scalar());
  }
  rule.index();
}

preprocessing::feature reader::feature(const YAML::Node& n) const {
  constexpr std::string_view known[] = {"name", "default", "minimum",    "maximum", "outside",
                                        "mean", "scale",   "categories", "encode",  "unknown"};
  constexpr std::string_view keys =
      "name, default, minimum, maximum, outside, mean, scale, categories, encode, unknown";
  preprocessing::feature made;
  if (n.IsScalar()) {
    made.name = n.Scalar();
    if (made.name.empty()) fail(n, "features holds an empty name; write one");
    return made;
  }
  if (!n.IsMap()) fail(n, "features is a list of names and mappings; write a name or {name: ...}");
  std::set<std::string> seen;
  for (const auto& entry : n) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    if (std::find(std::begin(known), std::end(known), key) == std::end(known))
      fail(entry.first, "unknown key " + key + " of a feature; it can hold " + std::string(keys));
    if (!seen.insert(key).second) fail(entry.first, key + " is there twice; take one out");
  }
  if (!n["name"] || !n["name"].IsScalar() || n["name"].Scalar().empty())
    fail(n, "a feature has no name; add name: ...");
  made.name = n["name"].Scalar();
  const std::string of = "feature " + made.name + ": ";
  auto rule = std::make_shared<cell_rule>();
  if (n["categories"]) {
    for (const char* key : {"minimum", "maximum", "outside", "mean", "scale"})
      if (n[key]) fail(n[key], of + key + " is of numbers, and it has categories; take one of them out");
    categories(n["categories"], of + "categories", *rule);
    if (n["default"]) rule->missing = category(n["default"], of + "default", *rule);
    if (const YAML::Node e = n["encode"]) {
      if (!e.IsScalar() || (e.Scalar() != "ordinal" && e.Scalar() != "one_hot"))
        fail(e, of + "encode is ordinal or one_hot; write one of them");
      made.one_hot = e.Scalar() == "one_hot";
    }
    if (const YAML::Node u = n["unknown"]) {
      const bool category_called_so = u.IsScalar() && !std::isnan(rule->number_of(u.Scalar()));
      if (category_called_so || !u.IsScalar() || (u.Scalar() != "reject" && u.Scalar() != "ignore"))
        rule->unknown = category(u, of + "unknown (reject, ignore or a category)", *rule);
      else if (u.Scalar() == "ignore")
        rule->unknown = -1;
    }
    made.rule = std::move(rule);
    return made;
  }
  for (const char* key : {"encode", "unknown"})
    if (n[key]) fail(n[key], of + key + " is of categories, and it has none; add categories: [...]");
  if (n["minimum"]) rule->minimum = number(n["minimum"], of + "minimum");
  if (n["maximum"]) rule->maximum = number(n["maximum"], of + "maximum");
  if (rule->minimum > rule->maximum) fail(n["minimum"], of + "minimum is above maximum; exchange them");
  if (const YAML::Node o = n["outside"]) {
    if (!o.IsScalar() || (o.Scalar() != "reject" && o.Scalar() != "clip"))
      fail(o, of + "outside is reject or clip; write one of them");
    if (!n["minimum"] && !n["maximum"]) fail(o, of + "outside of no bounds; add minimum: or maximum:");
    rule->clip = o.Scalar() == "clip";
  }
  if (n["default"]) {
    const double x = number(n["default"], of + "default");
    if (x < rule->minimum || x > rule->maximum)
      fail(n["default"], of + "default is outside of the bounds; write a number " + rule->allowed());
    rule->missing = x;
  }
  if (n["mean"]) made.mean = number(n["mean"], of + "mean");
  if (n["scale"]) made.scale = number(n["scale"], of + "scale");
  if (made.scale == 0) fail(n["scale"], of + "scale is 0; take it out, or write what x - mean is divided by");
  if (n["minimum"] || n["maximum"] || n["default"]) made.rule = std::move(rule);
  return made;
}

}  // namespace

preprocessing::preprocessing(std::vector<feature> features, const onnx::limits& most)
    : features_(std::move(features)) {
  for (const auto& f : features_) {
    if (!f.one_hot) {
      columns_.push_back(f.name);
    } else {
      for (const auto& c : f.rule->categories) columns_.push_back(f.name + "=" + c);
    }
    if (columns_.size() > most.features)
      throw load_error("features makes more than " + std::to_string(most.features) +
                       " columns; leave some out, or encode: ordinal");
  }
  front_ = steps_of(features_, columns_.size());
}

schema preprocessing::request() const {
  std::vector<model::feature> made;
  for (const auto& f : features_) made.push_back({f.name, true, f.rule});
  return schema(std::move(made), true);
}

std::vector<std::vector<double>> preprocessing::rows_of_model(const std::vector<double>& values) const {
  std::vector<std::vector<double>> made;
  const std::size_t width = features_.size();
  for (std::size_t at = 0; at + width <= values.size(); at += width) {
    const double* const row = values.data() + at;
    if (std::any_of(row, row + width, [](double x) { return std::isnan(x); })) continue;
    auto& out = made.emplace_back(row, row + width);
    if (!front_) continue;
    out.resize(columns_.size());
    front_->score({&row, 1}, out.data());
  }
  return made;
}

void preprocessing::put_before(compiled_graph& graph) const {
  std::vector<model::feature> made;
  std::size_t column = 0;
  for (const auto& f : features_) {
    // A missing category has no column, and only the model's own columns may tell what is missing.
    made.push_back({f.name, !f.one_hot && graph.schema.features[column].imputed, f.rule});
    column += f.one_hot ? f.rule->categories.size() : 1;
  }
  graph.schema = schema(std::move(made), true);
  if (!front_) return;
  graph.engine =
      std::make_unique<const preprocessed_engine>(front_, std::move(graph.engine), graph.output.width);
  if (graph.explain)
    graph.explain = std::make_shared<preprocessed_explainer>(front_, std::move(graph.explain));
}

std::unique_ptr<const preprocessing> read_preprocessing(std::string_view text,
                                                        const std::filesystem::path& file) {
  const reader r(file);
  const YAML::Node root = YAML::Load(std::string(text));
  if (!root.IsMap()) return nullptr;
  const YAML::Node list = root["features"];
  if (!list || !list.IsSequence() ||
      std::none_of(list.begin(), list.end(), [](const auto& n) { return n.IsMap(); }))
    return nullptr;
  std::vector<preprocessing::feature> made;
  std::set<std::string> seen;
  for (const auto& each : list) {
    made.push_back(r.feature(each));
    if (!seen.insert(made.back().name).second)
      r.fail(each, "feature " + made.back().name + " is there twice; take one out");
  }
  try {
    return std::make_unique<const preprocessing>(std::move(made));
  } catch (const load_error& e) {
    r.fail(list, e.what());
  }
}

}  // namespace troupe::model
