#include "runtime/model/xgboost.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/model/build.hpp"

namespace troupe::model {
namespace {

using nlohmann::json;

constexpr std::size_t most_nesting = 64;
constexpr double most_category = 65'536;  ///< a set of categories has a bit for each

[[noreturn]] void refuse(const std::string& what) {
  throw load_error(what);
}

/// Counts what a document holds, so that neither deep nesting nor an array of a billion nulls in twenty bytes
/// of UBJSON is ever built.
class gauge : public nlohmann::json_sax<json> {
 public:
  explicit gauge(std::size_t most) : left_(most) {}
  bool null() override { return one(); }
  bool boolean(bool) override { return one(); }
  bool number_integer(number_integer_t) override { return one(); }
  bool number_unsigned(number_unsigned_t) override { return one(); }
  bool number_float(number_float_t, const string_t&) override { return one(); }
  bool string(string_t&) override { return one(); }
  bool binary(binary_t&) override { return one(); }
  bool start_object(std::size_t) override { return ++depth_ < most_nesting && one(); }
  bool key(string_t&) override { return true; }
  bool end_object() override { return --depth_, true; }
  bool start_array(std::size_t) override { return ++depth_ < most_nesting && one(); }
  bool end_array() override { return --depth_, true; }
  bool parse_error(std::size_t, const std::string&, const json::exception&) override { return false; }

 private:
  bool one() { return left_-- > 0; }
  std::size_t left_;
  std::size_t depth_ = 0;
};

const json& member(const json& of, const char* name) {
  const auto at = of.is_object() ? of.find(name) : of.end();
  if (!of.is_object() || at == of.end())
    refuse(std::string("it has no ") + name + "; is it a model of XGBoost?");
  return *at;
}

/// XGBoost keeps its parameters as text.
std::vector<double> parameter(const json& of, const char* name) {
  const json& node = member(of, name);
  if (node.is_number()) return {node.get<double>()};
  std::string text = node.is_string() ? node.get<std::string>() : "";
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  std::vector<double> out;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    double value = 0;
    const auto [next, failed] = std::from_chars(at, end, value);
    if (failed != std::errc()) refuse(std::string(name) + " is not a number");
    out.push_back(value);
    at = next;
    while (at < end && (*at == ',' || *at == ' ')) ++at;
  }
  if (out.empty()) refuse(std::string(name) + " is not a number");
  return out;
}

std::size_t count(const json& of, const char* name, std::size_t most) {
  const double value = parameter(of, name)[0];
  if (!(value >= 0) || value > static_cast<double>(most) || value != std::floor(value))
    refuse(std::string(name) + " is out of range");
  return static_cast<std::size_t>(value);
}

const json& list(const json& of, const char* name) {
  const json& node = member(of, name);
  if (!node.is_array()) refuse(std::string(name) + " is not a list");
  return node;
}

/// Numbers of a tree, one a node.
std::vector<double> column(const json& tree, const char* name, std::size_t size) {
  const json& node = list(tree, name);
  if (node.size() != size)
    refuse(std::string(name) + " of a tree has " + std::to_string(node.size()) + " entries for " +
           std::to_string(size) + " nodes");
  std::vector<double> out;
  out.reserve(size);
  for (const json& each : node) {
    if (each.is_boolean()) {
      out.push_back(each.get<bool>() ? 1 : 0);
    } else if (each.is_number()) {
      out.push_back(each.get<double>());
    } else {
      refuse(std::string(name) + " of a tree has an entry that is no number");
    }
  }
  return out;
}

double to_float(double x) {
  return static_cast<double>(static_cast<float>(x));
}

struct objective {
  post_transform how = post_transform::none;
  task kind = task::regression;
};

objective objective_of(const json& learner) {
  const json& node = member(member(learner, "objective"), "name");
  const std::string name = node.is_string() ? node.get<std::string>() : "";
  static const std::string_view plain[] = {
      "reg:squarederror",  "reg:linear",        "reg:squaredlogerror", "reg:pseudohubererror",
      "reg:absoluteerror", "reg:quantileerror", "binary:logitraw",     "rank:pairwise",
      "rank:ndcg",         "rank:map"};
  if (std::find(std::begin(plain), std::end(plain), name) != std::end(plain)) return {};
  if (name == "reg:logistic") return {post_transform::logistic, task::regression};
  if (name == "binary:logistic") return {post_transform::logistic, task::classification};
  if (name == "multi:softprob" || name == "multi:softmax")
    return {post_transform::softmax, task::classification};
  if (name == "count:poisson" || name == "reg:gamma" || name == "reg:tweedie")
    return {post_transform::exponential, task::regression};
  refuse("objective " + name.substr(0, 64) + " is not built in");
}

class reader {
 public:
  reader(const json& root, const graph_hints& hints, const onnx::limits& most)
      : learner_(member(root, "learner")), hints_(hints), most_(most) {}

  compiled_graph run() {
    const json& parameters = member(learner_, "learner_model_param");
    const objective what = objective_of(learner_);
    const std::size_t classes = count(parameters, "num_class", most_.outputs);
    const std::size_t targets =
        parameters.contains("num_target") ? count(parameters, "num_target", most_.outputs) : 1;
    ensemble e;
    e.width = count(parameters, "num_feature", most_.features);
    e.float_input = true;
    e.handles_missing = true;
    e.transform = what.how;
    e.sums = std::max<std::size_t>({classes, targets, 1});
    output_spec output;
    output.kind = what.kind;
    e.outputs = e.sums;
    if (what.kind == task::classification) {
      if (e.sums == 1) e.outputs = 2;
      if (what.how == post_transform::logistic && e.sums != 1)
        refuse("several targets of classes are not built in");
      for (std::size_t k = 0; k < e.outputs; ++k) output.classes.push_back(std::to_string(k));
    }
    set_base(parameters, e, what);
    pipeline_builder b(e.width, most_);
    category_splits sets(e.width, most_.features);
    add_trees(e, sets);
    const std::uint32_t x = b.add_sets(std::move(sets), e, b.rows());
    const std::uint32_t result = b.add_model(std::move(e), x, hints_.explain);
    return b.finish(result, "forest", std::move(output), names(), hints_);
  }

 private:
  void set_base(const json& parameters, ensemble& e, const objective& what) const {
    std::vector<double> base = parameter(parameters, "base_score");
    if (base.size() == 1) base.resize(e.sums, base[0]);
    if (base.size() != e.sums) refuse("base_score does not fit the number of outputs");
    const json& name = member(member(learner_, "objective"), "name");
    for (double& b : base) {
      b = to_float(b);
      if (what.how == post_transform::logistic || name == "binary:logitraw") {
        b = std::log(b / (1 - b));
      } else if (what.how == post_transform::exponential) {
        b = std::log(b);
      }
      if (!std::isfinite(b)) refuse("base_score is out of range");
    }
    e.base = std::move(base);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> out;
    const auto at = learner_.find("feature_names");
    if (at == learner_.end() || !at->is_array()) return out;
    for (const json& each : *at) {
      if (!each.is_string()) refuse("feature_names has an entry that is no text");
      out.push_back(each.get<std::string>());
    }
    return out;
  }

  /// How many trees answer.
  std::size_t used_trees(const json& model, std::size_t all) const {
    const auto attributes = learner_.find("attributes");
    if (attributes == learner_.end() || !attributes->is_object()) return all;
    const auto best = attributes->find("best_iteration");
    if (best == attributes->end() || !attributes->contains("scikit_learn") ||
        !model.contains("iteration_indptr"))
      return all;
    const std::size_t iteration = count(*attributes, "best_iteration", most_.tree_nodes);
    const json& begins = list(model, "iteration_indptr");
    if (iteration + 1 >= begins.size() || !begins[iteration + 1].is_number()) return all;
    const double end = begins[iteration + 1].get<double>();
    return end >= 1 && end <= static_cast<double>(all) ? static_cast<std::size_t>(end) : all;
  }

  void add_trees(ensemble& e, category_splits& sets) const {
    const json* booster = &member(learner_, "gradient_booster");
    const json& name = member(*booster, "name");
    std::vector<double> drop;
    if (name == "dart") {
      for (const json& w : list(*booster, "weight_drop")) {
        if (!w.is_number()) refuse("weight_drop has an entry that is no number");
        drop.push_back(w.get<double>());
      }
      booster = &member(*booster, "gbtree");
    } else if (name != "gbtree") {
      refuse("booster " + (name.is_string() ? name.get<std::string>().substr(0, 32) : "") +
             " is not built in; gbtree and dart are");
    }
    const json& model = member(*booster, "model");
    const json& trees = list(model, "trees");
    const json& groups = list(model, "tree_info");
    if (groups.size() != trees.size() || (!drop.empty() && drop.size() != trees.size()))
      refuse("the number of trees differs from tree_info or weight_drop");
    const std::size_t used = used_trees(model, trees.size());
    for (std::size_t t = 0; t < used; ++t) {
      if (!groups[t].is_number_integer()) refuse("tree_info has an entry that is no number");
      const double group = groups[t].get<double>();
      if (!(group >= 0) || group >= static_cast<double>(e.sums))
        refuse("a tree belongs to an output that does not exist");
      add_tree(e, sets, trees[t], static_cast<std::size_t>(group), drop.empty() ? 1 : to_float(drop[t]));
    }
  }

  /// By node, the categories that go to the right.
  static std::map<double, category_set> read_sets(const json& tree) {
    std::map<double, category_set> out;
    const std::size_t count = list(tree, "categories_nodes").size();
    const auto nodes = column(tree, "categories_nodes", count);
    const auto begins = column(tree, "categories_segments", count);
    const auto sizes = column(tree, "categories_sizes", count);
    const auto members = column(tree, "categories", list(tree, "categories").size());
    std::size_t words = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (!(nodes[i] >= 0)) refuse("categories_nodes is out of range");
      if (!(begins[i] >= 0) || !(sizes[i] >= 0) || begins[i] + sizes[i] > static_cast<double>(members.size()))
        refuse("categories_segments is out of range");
      category_set& s = out[nodes[i]];
      s.members_left = false;
      s.float_input = true;
      for (auto at = static_cast<std::size_t>(begins[i]); at < static_cast<std::size_t>(begins[i] + sizes[i]);
           ++at) {
        if (!(members[at] >= 0) || members[at] >= most_category) refuse("categories is out of range");
        const auto k = static_cast<std::size_t>(members[at]);
        if (k / 32 >= s.bits.size()) s.bits.resize(k / 32 + 1);
        s.bits[k / 32] |= 1U << (k % 32);
      }
      if ((words += s.bits.size()) > most_category_words) refuse("its sets of categories are too large");
    }
    return out;
  }

  /// Only what is reached from the root: pruned nodes stay in the file.
  void add_tree(ensemble& e, category_splits& splits, const json& tree, std::size_t group,
                double factor) const {
    const json& parameters = member(tree, "tree_param");
    if (parameters.contains("size_leaf_vector") && count(parameters, "size_leaf_vector", most_.outputs) > 1)
      refuse(
          "trees with several values a leaf are not built in; train with "
          "multi_strategy='one_output_per_tree'");
    const std::size_t size = list(tree, "left_children").size();
    if (size == 0) refuse("a tree has no nodes");
    const auto left = column(tree, "left_children", size);
    const auto right = column(tree, "right_children", size);
    const auto feature = column(tree, "split_indices", size);
    const auto condition = column(tree, "split_conditions", size);
    const auto missing = column(tree, "default_left", size);
    const auto cover = column(tree, "sum_hessian", size);
    const auto kind =
        tree.contains("split_type") ? column(tree, "split_type", size) : std::vector<double>(size, 0);
    std::map<double, category_set> sets;
    if (std::any_of(kind.begin(), kind.end(), [](double k) { return k != 0; })) sets = read_sets(tree);
    struct place {
      std::size_t from;
      std::uint32_t to;
    };
    std::vector<std::uint8_t> seen(size, 0);
    std::vector<double> weights(e.sums);
    std::vector<place> todo = {{0, static_cast<std::uint32_t>(e.nodes.size())}};
    const auto add = [&](double value) {
      if (e.nodes.size() >= most_.tree_nodes)
        refuse("more than " + std::to_string(most_.tree_nodes) + " nodes, the limit");
      if (!(value >= 0) || value >= static_cast<double>(size)) refuse("a child does not exist");
      const auto from = static_cast<std::size_t>(value);
      if (seen[from]++) refuse("a node has two parents");
      e.nodes.emplace_back();
      e.cover.push_back(to_float(cover[from]));
      return place{from, static_cast<std::uint32_t>(e.nodes.size() - 1)};
    };
    e.roots.push_back(todo[0].to);
    todo[0] = add(0);
    while (!todo.empty()) {
      const place p = todo.back();
      todo.pop_back();
      if (left[p.from] == -1) {
        std::fill(weights.begin(), weights.end(), 0.0);
        weights[group] = to_float(condition[p.from]) * factor;
        e.set_leaf(e.nodes[p.to], weights.data(), weights.size());
        continue;
      }
      const double c = feature[p.from];
      if (!(c >= 0) || c >= static_cast<double>(e.width))
        refuse("a tree asks for a feature that does not exist");
      const place yes = add(left[p.from]);
      const place no = add(right[p.from]);
      if (kind[p.from] != 0) {
        const auto set = sets.find(static_cast<double>(p.from));
        if (set == sets.end()) refuse("a split by categories has no categories");
        set->second.missing_left = missing[p.from] != 0;
        e.nodes[p.to].yes = yes.to;
        e.nodes[p.to].no = no.to;
        splits.add(e.nodes[p.to], static_cast<std::uint32_t>(c), set->second);
        todo.push_back(yes);
        todo.push_back(no);
        continue;
      }
      e.nodes[p.to] = {to_float(condition[p.from]), static_cast<std::uint32_t>(c), yes.to, no.to, split::lt,
                       missing[p.from] != 0};
      todo.push_back(yes);
      todo.push_back(no);
    }
  }

  const json& learner_;
  const graph_hints& hints_;
  const onnx::limits& most_;
};

}  // namespace

compiled_graph read_xgboost(std::string_view file, bool binary, const graph_hints& hints,
                            const onnx::limits& most) {
  const auto format = binary ? json::input_format_t::ubjson : json::input_format_t::json;
  gauge seen(file.size() + 16);
  if (!json::sax_parse(file.begin(), file.end(), &seen, format))
    refuse(binary ? "is not UBJSON; write it with Booster.save_model('model.ubj')"
                  : "is not JSON; write it with Booster.save_model('model.json')");
  const json root = binary ? json::from_ubjson(file.begin(), file.end(), true, false)
                           : json::parse(file.begin(), file.end(), nullptr, false);
  if (root.is_discarded()) refuse("is not a JSON document");
  return reader(root, hints, most).run();
}

}  // namespace troupe::model
