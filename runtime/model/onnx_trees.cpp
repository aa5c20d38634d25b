#include "runtime/model/onnx_trees.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/model/model.hpp"

namespace troupe::model {
namespace {

[[noreturn]] void refuse(const onnx::node& n, const std::string& what) {
  throw load_error("operator " + std::string(n.op) + ": " + what);
}

split mode_of(const onnx::node& n, std::string_view text) {
  if (text == "LEAF") return split::leaf;
  if (text == "BRANCH_LEQ") return split::leq;
  if (text == "BRANCH_LT") return split::lt;
  if (text == "BRANCH_GTE") return split::gte;
  if (text == "BRANCH_GT") return split::gt;
  refuse(n, "node mode " + std::string(text.substr(0, 32)) + " is not built in");
}

/// `floats` of the attribute, or the numbers of its twin <name>_as_tensor.
std::vector<double> numbers_of(const onnx::node& n, const std::string& name) {
  if (const auto* a = n.find(name); a && !a->floats.empty()) return {a->floats.begin(), a->floats.end()};
  if (const auto* a = n.find(name + "_as_tensor"); a && !a->t.empty()) return a->t[0].numbers;
  return {};
}

const std::vector<std::int64_t>& ints_of(const onnx::node& n, std::string_view name) {
  static const std::vector<std::int64_t> none;
  const auto* a = n.find(name);
  return a ? a->ints : none;
}

/// Finds a node by (tree, node) in the order of the file, which is mostly sorted and without gaps.
class node_index {
 public:
  node_index(const onnx::node& n, const std::vector<std::int64_t>& trees,
             const std::vector<std::int64_t>& ids)
      : trees_(trees), ids_(ids), order_(trees.size()) {
    std::iota(order_.begin(), order_.end(), 0U);
    const auto less = [&](std::uint32_t a, std::uint32_t b) { return key(a) < key(b); };
    if (!std::is_sorted(order_.begin(), order_.end(), less)) std::sort(order_.begin(), order_.end(), less);
    for (std::size_t i = 1; i < order_.size(); ++i) {
      if (key(order_[i - 1]) == key(order_[i])) {
        refuse(n, "node " + std::to_string(ids[order_[i]]) + " of tree " + std::to_string(trees[order_[i]]) +
                      " is there twice");
      }
    }
  }

  static constexpr std::uint32_t none = UINT32_MAX;

  [[nodiscard]] std::uint32_t find(std::int64_t tree, std::int64_t id) const {
    const auto at = std::lower_bound(order_.begin(), order_.end(), std::pair(tree, id),
                                     [&](std::uint32_t a, const auto& wanted) { return key(a) < wanted; });
    return at != order_.end() && key(*at) == std::pair(tree, id) ? *at : none;
  }

  /// Positions in the file, by tree and node.
  [[nodiscard]] const std::vector<std::uint32_t>& order() const { return order_; }

 private:
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> key(std::uint32_t i) const {
    return {trees_[i], ids_[i]};
  }

  const std::vector<std::int64_t>& trees_;
  const std::vector<std::int64_t>& ids_;
  std::vector<std::uint32_t> order_;
};

/// Turns the operator's flat lists into an ensemble, its nodes in the order of the file.
struct reader {
  const onnx::node& n;
  ensemble& e;

  const std::vector<std::int64_t>& trees = ints_of(n, "nodes_treeids");
  const std::vector<std::int64_t>& ids = ints_of(n, "nodes_nodeids");
  const std::vector<std::int64_t>& features = ints_of(n, "nodes_featureids");
  const std::vector<std::int64_t>& yes = ints_of(n, "nodes_truenodeids");
  const std::vector<std::int64_t>& no = ints_of(n, "nodes_falsenodeids");
  const std::vector<std::int64_t>& missing = ints_of(n, "nodes_missing_value_tracks_true");
  std::vector<double> values = numbers_of(n, "nodes_values");

  void check_lists() {
    const std::size_t count = trees.size();
    if (count == 0) refuse(n, "it has no trees");
    const auto* texts = n.find("nodes_modes");
    const std::pair<const char*, std::size_t> sizes[] = {
        {"nodes_nodeids", ids.size()},
        {"nodes_featureids", features.size()},
        {"nodes_truenodeids", yes.size()},
        {"nodes_falsenodeids", no.size()},
        {"nodes_values", values.size()},
        {"nodes_modes", texts ? texts->strings.size() : 0},
        {"nodes_missing_value_tracks_true", missing.empty() ? count : missing.size()}};
    for (const auto& [name, size] : sizes) {
      if (size != count) {
        refuse(n, std::string(name) + " has " + std::to_string(size) + " entries, nodes_treeids " +
                      std::to_string(count));
      }
    }
    e.nodes.resize(count);
    for (std::size_t i = 0; i < count; ++i) e.nodes[i].how = mode_of(n, texts->strings[i]);
  }

  void link(const node_index& index) {
    const std::size_t count = trees.size();
    std::vector<std::uint8_t> has_parent(count, 0);
    const auto child_of = [&](std::size_t i, std::int64_t id) {
      const std::uint32_t at = index.find(trees[i], id);
      const auto where = [&] { return " of tree " + std::to_string(trees[i]); };
      if (at == node_index::none) refuse(n, "child " + std::to_string(id) + where() + " does not exist");
      if (has_parent[at]++) refuse(n, "node " + std::to_string(id) + where() + " has two parents");
      return at;
    };
    for (std::size_t i = 0; i < count; ++i) {
      tree_node& to = e.nodes[i];
      if (to.how == split::leaf) continue;
      if (features[i] < 0 || static_cast<std::uint64_t>(features[i]) >= e.width) {
        refuse(n, "feature " + std::to_string(features[i]) + " of a row with " + std::to_string(e.width));
      }
      to.threshold = values[i];
      to.column = static_cast<std::uint32_t>(features[i]);
      to.yes = child_of(i, yes[i]);
      to.no = child_of(i, no[i]);
      to.missing_yes = !missing.empty() && missing[i] != 0;
      if (to.missing_yes) e.handles_missing = true;
    }
    // One root a tree; what is left over then is in no cycle only if it is reached, which check() counts.
    std::int64_t last = 0;
    for (const std::uint32_t i : index.order()) {
      if (has_parent[i]) continue;
      if (!e.roots.empty() && trees[i] == last) refuse(n, "tree " + std::to_string(last) + " has two roots");
      e.roots.push_back(i);
      last = trees[i];
    }
  }

  void read_leaves(const node_index& index, const char* kind) {
    const std::string prefix(kind);
    const auto& leaf_trees = ints_of(n, prefix + "_treeids");
    const auto& leaf_ids = ints_of(n, prefix + "_nodeids");
    const auto& outputs = ints_of(n, prefix + "_ids");
    const auto weights = numbers_of(n, prefix + "_weights");
    const std::size_t count = leaf_trees.size();
    if (leaf_ids.size() != count || outputs.size() != count || weights.size() != count) {
      refuse(n, prefix + "_treeids, _nodeids, _ids and _weights differ in length");
    }
    struct entry {
      std::uint32_t at;
      std::uint32_t output;
      double weight;
    };
    std::vector<entry> entries;
    entries.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t at = index.find(leaf_trees[i], leaf_ids[i]);
      if (at == node_index::none) {
        refuse(n, "leaf " + std::to_string(leaf_ids[i]) + " of tree " + std::to_string(leaf_trees[i]) +
                      " does not exist");
      }
      if (outputs[i] < 0 || static_cast<std::uint64_t>(outputs[i]) >= e.outputs) {
        refuse(n, "a leaf's " + prefix + " " + std::to_string(outputs[i]) + " is not one of " +
                      std::to_string(e.outputs));
      }
      if (!std::isfinite(weights[i])) refuse(n, "a leaf's weight is not finite");
      if (e.nodes[at].how != split::leaf) continue;  // a weight on an inner node is never reached
      entries.push_back({at, static_cast<std::uint32_t>(outputs[i]), weights[i]});
    }
    const bool classifier = prefix == "class";
    e.sums = e.outputs;
    if (classifier && e.outputs == 2 && std::all_of(entries.begin(), entries.end(), [&](const entry& one) {
          return one.output == entries[0].output;
        })) {
      e.sums = 1;
      for (entry& one : entries) one.output = 0;
    }
    std::stable_sort(entries.begin(), entries.end(), [](const entry& a, const entry& b) {
      return std::pair(a.at, a.output) < std::pair(b.at, b.output);
    });
    e.shares.reserve(entries.size());
    for (std::size_t i = 0; i < entries.size();) {
      tree_node& leaf = e.nodes[entries[i].at];
      leaf.yes = static_cast<std::uint32_t>(e.shares.size());
      for (const std::uint32_t at = entries[i].at; i < entries.size() && entries[i].at == at; ++i) {
        if (e.shares.size() > leaf.yes && e.shares.back().output == entries[i].output) {
          e.shares.back().weight += entries[i].weight;
        } else {
          e.shares.push_back({entries[i].weight, entries[i].output});
        }
      }
      leaf.no = static_cast<std::uint32_t>(e.shares.size());
    }
  }
};

}  // namespace

post_transform post_transform_of(const onnx::node& n) {
  const auto* a = n.find("post_transform");
  const std::string_view name = a ? a->s : "NONE";
  if (name == "NONE" || name.empty()) return post_transform::none;
  if (name == "LOGISTIC") return post_transform::logistic;
  if (name == "SOFTMAX") return post_transform::softmax;
  if (name == "SOFTMAX_ZERO") return post_transform::softmax_zero;
  refuse(n, "post_transform " + std::string(name.substr(0, 32)) + " is not built in");
}

ensemble read_trees(const onnx::node& n, std::size_t width, bool float_input, const onnx::limits& most) {
  const bool classifier = n.op == "TreeEnsembleClassifier";
  if (ints_of(n, "nodes_treeids").size() > most.tree_nodes) {
    refuse(n, "more than " + std::to_string(most.tree_nodes) + " nodes, the limit");
  }
  ensemble e;
  e.width = width;
  e.float_input = float_input;
  reader r{n, e};
  r.check_lists();
  if (classifier) {
    const auto* texts = n.find("classlabels_strings");
    e.outputs =
        texts && !texts->strings.empty() ? texts->strings.size() : ints_of(n, "classlabels_int64s").size();
  } else {
    const auto* targets = n.find("n_targets");
    e.outputs = targets && targets->i > 0 ? static_cast<std::size_t>(targets->i) : 0;
  }
  if (e.outputs == 0 || e.outputs > most.outputs) {
    refuse(n, std::to_string(e.outputs) + " outputs; 1 to " + std::to_string(most.outputs) + " are possible");
  }
  e.transform = post_transform_of(n);
  const node_index index(n, r.trees, r.ids);
  r.link(index);
  r.read_leaves(index, classifier ? "class" : "target");
  e.base = numbers_of(n, "base_values");
  if (const auto* a = n.find("aggregate_function"); a && !a->s.empty() && a->s != "SUM") {
    if (a->s != "AVERAGE")
      refuse(n, "aggregate_function " + std::string(a->s.substr(0, 32)) + " is not built in");
    e.scale = 1 / static_cast<double>(e.roots.size());
  }
  try {
    check(e);
  } catch (const load_error& error) {
    refuse(n, error.what());
  }
  return e;
}

}  // namespace troupe::model
