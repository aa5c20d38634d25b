#include "runtime/model/build.hpp"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "runtime/model/shap.hpp"

namespace troupe::model {

pipeline_builder::pipeline_builder(std::size_t width, const onnx::limits& most) : most_(most) {
  if (width == 0 || width > most.features) {
    throw load_error("a row has " + std::to_string(width) + " features; 1 to " +
                     std::to_string(most.features) + " are possible");
  }
  rules_.resize(width);
  made_->sources.push_back({made_->add_slot(width, most.features * 64), 0, false});
}

std::uint32_t pipeline_builder::add(step_ptr s, std::vector<std::uint32_t> from, std::size_t width) {
  if (width == 0) throw load_error("a step leaves no columns");
  if (made_->operations.size() >= most_.graph_nodes) throw load_error("it has too many steps");
  const std::uint32_t out = made_->add_slot(width, most_.features * 64);
  made_->operations.push_back({std::move(s), std::move(from), out});
  return out;
}

std::uint32_t pipeline_builder::add_sets(category_splits sets, ensemble& e, std::uint32_t from) {
  if (sets.empty()) return from;
  e.stands_for = sets.columns();
  e.width = sets.width();
  return add(std::move(sets).step(), {from}, e.width);
}

std::uint32_t pipeline_builder::add_model(ensemble e, std::uint32_t from, bool keep) {
  if (e.nodes.size() > most_.tree_nodes)
    throw load_error("more than " + std::to_string(most_.tree_nodes) + " nodes, the limit");
  model_ = made_->operations.size();
  const std::size_t outputs = e.outputs;
  step_ptr s = trees(forest(e));
  if (keep) trees_ = std::move(e);
  return add(std::move(s), {from}, outputs);
}

std::uint32_t pipeline_builder::add_model(affine a, post_transform how, bool binary, std::uint32_t from,
                                          bool keep) {
  model_ = made_->operations.size();
  if (keep) linear_ = a;
  const std::size_t outputs = binary ? 2 : a.outputs;
  return add(binary ? linear_binary(std::move(a), how) : linear(std::move(a), how, false), {from}, outputs);
}

void pipeline_builder::require_known(const std::vector<category_list>& of, std::uint32_t from) {
  requirement r{add(known(of), {from}, 1), from, {}};
  for (const category_list& each : of) {
    const auto number = std::find_if(each.values.begin(), each.values.end(), [](double x) { return x == x; });
    r.examples.push_back(number == each.values.end() ? each.values[0] : *number);
  }
  required_.push_back(std::move(r));
}

void pipeline_builder::take_texts(const std::vector<std::shared_ptr<const cell_rule>>& rules,
                                  std::uint32_t from) {
  const auto features = origins(*made_)[from];
  for (std::size_t c = 0; c < rules.size(); ++c) {
    if (!rules[c]) continue;
    if (features.size() != rules.size()) throw load_error("a step before an encoder of texts mixes columns");
    auto& rule = rules_[features[c]];
    if (rule && !(*rule == *rules[c]))
      throw load_error("two encoders disagree on the categories of feature " + std::to_string(features[c]) +
                       "; encode it once");
    rule = rules[c];
  }
}

compiled_graph pipeline_builder::finish(std::uint32_t result, std::string_view kind, output_spec output,
                                        std::vector<std::string> names, const graph_hints& hints) {
  for (const requirement& r : required_)
    result = add(with_column(arithmetic::add, false), {result, r.answer}, width_of(result));
  const std::size_t width = width_of(0);
  made_->result = result;
  made_->name = kind;
  output.width = width_of(result);
  if (output.width > most_.outputs)
    throw load_error("it has more than " + std::to_string(most_.outputs) + " outputs");
  if (output.kind == task::classification) {
    if (!hints.classes.empty()) output.classes = hints.classes;
    if (output.classes.size() != output.width) {
      throw load_error(std::to_string(output.classes.size()) + " class names for " +
                       std::to_string(output.width) + " probabilities; list them as classes: in model.yaml");
    }
  } else if (!hints.classes.empty()) {
    throw load_error("model.yaml names classes, but it is a regressor; take classes: out");
  }
  const bool named = !hints.features.empty() || !names.empty();
  if (!hints.features.empty()) names = hints.features;
  if (named && names.size() != width) {
    throw load_error(std::string(hints.features.empty() ? "it" : "model.yaml") + " names " +
                     std::to_string(names.size()) + " features, the model takes " + std::to_string(width));
  }
  for (std::size_t c = 0; !named && c < width; ++c) names.push_back("f" + std::to_string(c));
  std::unordered_set<std::string_view> seen;
  for (const std::string& n : names) {
    if (!seen.insert(n).second) throw load_error("two features are called '" + n.substr(0, 64) + "'");
  }
  std::vector<double> answerable(width, 1.0);
  const auto from = origins(*made_);
  for (const requirement& r : required_) {
    for (std::size_t c = 0; c < from[r.from].size(); ++c) answerable[from[r.from][c]] = r.examples[c];
  }
  const std::vector<bool> missing = missing_allowed(*made_, std::move(answerable));
  std::vector<feature> features;
  for (std::size_t c = 0; c < width; ++c)
    features.push_back({std::move(names[c]), missing[c], std::move(rules_[c])});
  compiled_graph out;
  out.schema = schema(std::move(features), named);
  out.output = std::move(output);
  try {
    if (trees_) out.explain = explain_trees(*made_, model_, width, std::move(*trees_));
    if (linear_) out.explain = explain_linear(*made_, model_, width, std::move(*linear_));
  } catch (const load_error& error) {
    out.unexplained = error.what();
  }
  out.engine = std::move(made_);
  return out;
}

}  // namespace troupe::model
