#include "runtime/model/forest.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "runtime/model/model.hpp"

namespace troupe::model {
namespace {

constexpr std::size_t chains = 16;  ///< 8 leave the core waiting, 24 spill registers
constexpr std::size_t block_rows = 64;
constexpr double infinity = std::numeric_limits<double>::infinity();

[[noreturn]] void refuse(const onnx::node& n, const std::string& what) {
  throw load_error("operator " + std::string(n.op) + ": " + what);
}

/// Unsigned integers in the order of the numbers; -0 is 0, a NaN above all, and 0 below all.
std::uint32_t key_of(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x + 0.0F);
  const auto key = bits ^ (static_cast<std::uint32_t>(-static_cast<std::int32_t>(bits >> 31)) | 0x8000'0000U);
  return x != x ? UINT32_MAX : key;
}
std::uint64_t key_of(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x + 0.0);
  const auto key =
      bits ^ (static_cast<std::uint64_t>(-static_cast<std::int64_t>(bits >> 63)) | 0x8000'0000'0000'0000U);
  return x != x ? UINT64_MAX : key;
}

/// The largest value of the input's type that is <= t.
double at_most(double t, bool float_input) {
  if (!float_input) return t;
  auto f = static_cast<float>(t);
  if (static_cast<double>(f) > t) f = std::nextafter(f, -std::numeric_limits<float>::infinity());
  return static_cast<double>(f);
}

/// The largest value of the input's type that is < t; NaN if there is none.
double below(double t, bool float_input) {
  if (t == -infinity) return std::numeric_limits<double>::quiet_NaN();
  if (!float_input) return std::nextafter(t, -infinity);
  auto f = static_cast<float>(t);
  if (static_cast<double>(f) >= t) f = std::nextafter(f, -std::numeric_limits<float>::infinity());
  return static_cast<double>(f);
}

enum class mode : std::uint8_t { leaf, leq, lt, gte, gt };

mode mode_of(const onnx::node& n, std::string_view text) {
  if (text == "LEAF") return mode::leaf;
  if (text == "BRANCH_LEQ") return mode::leq;
  if (text == "BRANCH_LT") return mode::lt;
  if (text == "BRANCH_GTE") return mode::gte;
  if (text == "BRANCH_GT") return mode::gt;
  refuse(n, "node mode " + std::string(text.substr(0, 32)) + " is not built in");
}

mode opposite(mode m) {
  switch (m) {
    case mode::leq:
      return mode::gt;
    case mode::lt:
      return mode::gte;
    case mode::gte:
      return mode::lt;
    case mode::gt:
      return mode::leq;
    case mode::leaf:
      break;
  }
  return m;
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

template <class T>
void softmax(T* scores, std::size_t count, bool keep_zeros) {
  const double most = *std::max_element(scores, scores + count);
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (keep_zeros && scores[i] == 0) continue;
    scores[i] = std::exp(scores[i] - most);
    sum += scores[i];
  }
  if (sum == 0) return;
  for (std::size_t i = 0; i < count; ++i) scores[i] /= sum;
}

double logistic(double x) {
  return 1 / (1 + std::exp(-x));
}

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

void apply(post_transform how, double* scores, std::size_t count) {
  switch (how) {
    case post_transform::none:
      break;
    case post_transform::logistic:
      for (std::size_t i = 0; i < count; ++i) scores[i] = logistic(scores[i]);
      break;
    case post_transform::softmax:
      softmax(scores, count, false);
      break;
    case post_transform::softmax_zero:
      softmax(scores, count, true);
      break;
  }
}

void split_binary(post_transform how, bool scores_are_shares, double score, double* out) {
  if (how == post_transform::logistic) {
    out[0] = logistic(-score);
    out[1] = logistic(score);
    return;
  }
  out[0] = scores_are_shares ? 1 - score : -score;
  out[1] = score;
  if (how != post_transform::none) apply(how, out, 2);
}

/// Turns the operator's flat lists into checked trees, then into the layout of the walk.
struct forest::builder {
  builder(const onnx::node& op, forest& to, bool floats_in) : n(op), f(to), float_input(floats_in) {}

  const onnx::node& n;
  forest& f;
  const bool float_input;

  const std::vector<std::int64_t>& trees = ints_of(n, "nodes_treeids");
  const std::vector<std::int64_t>& ids = ints_of(n, "nodes_nodeids");
  const std::vector<std::int64_t>& features = ints_of(n, "nodes_featureids");
  const std::vector<std::int64_t>& yes = ints_of(n, "nodes_truenodeids");
  const std::vector<std::int64_t>& no = ints_of(n, "nodes_falsenodeids");
  const std::vector<std::int64_t>& missing = ints_of(n, "nodes_missing_value_tracks_true");
  std::vector<double> values = numbers_of(n, "nodes_values");
  std::vector<mode> modes;
  std::vector<std::uint32_t> yes_at, no_at;  ///< positions in the file
  std::vector<std::uint32_t> roots;

  // The leaves, by position in the file.
  std::vector<double> weight;          ///< sums == 1
  std::vector<std::uint32_t> payload;  ///< sums > 1: index into payload_begin_
  bool floats = true;                  ///< thresholds and weights are all float32

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
    modes.reserve(count);
    for (const auto text : texts->strings) modes.push_back(mode_of(n, text));
  }

  void link(const node_index& index) {
    const std::size_t count = trees.size();
    std::vector<std::uint8_t> has_parent(count, 0);
    yes_at.assign(count, node_index::none);
    no_at.assign(count, node_index::none);
    const auto child = [&](std::size_t i, std::int64_t id) {
      const std::uint32_t at = index.find(trees[i], id);
      const auto where = [&] { return " of tree " + std::to_string(trees[i]); };
      if (at == node_index::none) refuse(n, "child " + std::to_string(id) + where() + " does not exist");
      if (has_parent[at]++) refuse(n, "node " + std::to_string(id) + where() + " has two parents");
      return at;
    };
    for (std::size_t i = 0; i < count; ++i) {
      if (modes[i] == mode::leaf) continue;
      if (features[i] < 0 || static_cast<std::uint64_t>(features[i]) >= f.width_) {
        refuse(n, "feature " + std::to_string(features[i]) + " of a row with " + std::to_string(f.width_));
      }
      if (std::isnan(values[i])) refuse(n, "a threshold is not a number");
      yes_at[i] = child(i, yes[i]);
      no_at[i] = child(i, no[i]);
      if (!missing.empty() && missing[i] != 0) f.handles_missing_ = true;
    }
    // One root a tree; what is left over then is in no cycle only if it is reached, which lay_out counts.
    std::int64_t last = 0;
    for (const std::uint32_t i : index.order()) {
      if (has_parent[i]) continue;
      if (!roots.empty() && trees[i] == last) refuse(n, "tree " + std::to_string(last) + " has two roots");
      roots.push_back(i);
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
      if (outputs[i] < 0 || static_cast<std::uint64_t>(outputs[i]) >= f.outputs_) {
        refuse(n, "a leaf's " + prefix + " " + std::to_string(outputs[i]) + " is not one of " +
                      std::to_string(f.outputs_));
      }
      if (!std::isfinite(weights[i])) refuse(n, "a leaf's weight is not finite");
      if (modes[at] != mode::leaf) continue;  // a weight on an inner node is never reached
      if (weights[i] < 0) f.shares_ = false;
      entries.push_back({at, static_cast<std::uint32_t>(outputs[i]), weights[i]});
    }
    const bool classifier = prefix == "class";
    f.sums_ = f.outputs_;
    if (classifier && f.outputs_ == 2 && std::all_of(entries.begin(), entries.end(), [&](const entry& e) {
          return e.output == entries[0].output;
        })) {
      f.sums_ = 1;
      for (entry& e : entries) e.output = 0;
    }
    std::stable_sort(entries.begin(), entries.end(), [](const entry& a, const entry& b) {
      return std::pair(a.at, a.output) < std::pair(b.at, b.output);
    });
    if (f.sums_ == 1) {
      weight.assign(trees.size(), 0);
      for (const entry& e : entries) weight[e.at] += e.weight;
      return;
    }
    payload.assign(trees.size(), 0);  // payload 0 is that of a leaf without weights
    f.payload_begin_ = {0, 0};
    for (std::size_t i = 0; i < entries.size();) {
      const std::uint32_t at = entries[i].at;
      payload[at] = static_cast<std::uint32_t>(f.payload_begin_.size() - 1);
      for (; i < entries.size() && entries[i].at == at; ++i) {
        if (f.payload_.size() > f.payload_begin_.back() && f.payload_.back().output == entries[i].output) {
          f.payload_.back().weight += entries[i].weight;
        } else {
          f.payload_.push_back({entries[i].weight, entries[i].output});
        }
      }
      f.payload_begin_.push_back(static_cast<std::uint32_t>(f.payload_.size()));
    }
  }

  struct comparison {
    bool negated;
    double threshold;
    std::uint32_t left, right;  ///< positions in the file
  };

  /// `x mode t ? yes : no`, with missing values on the side they belong, as `value <= threshold ? left :
  /// right`, where a missing value goes right: it is never <= anything.
  [[nodiscard]] comparison compare(std::uint32_t i) const {
    mode m = modes[i];
    std::uint32_t left = yes_at[i];
    std::uint32_t right = no_at[i];
    if (!missing.empty() && missing[i] != 0) {
      m = opposite(m);
      std::swap(left, right);
    }
    const double t = values[i];
    switch (m) {
      case mode::lt:
        return {false, below(t, float_input), left, right};
      case mode::gte:
        return {true, at_most(-t, float_input), left, right};
      case mode::gt:
        return {true, below(-t, float_input), left, right};
      default:
        return {false, at_most(t, float_input), left, right};
    }
  }

  void choose_layout() {
    for (std::uint32_t i = 0; i < trees.size(); ++i) {
      if (modes[i] == mode::leaf) {
        if (f.sums_ == 1 && static_cast<double>(static_cast<float>(weight[i])) != weight[i]) floats = false;
      } else if (compare(i).negated) {
        f.negated_ = true;
      }
    }
    f.columns_ = (f.negated_ ? 2 : 1) * f.width_ + 1;
    if (!float_input || trees.size() >= (1U << 24) || f.columns_ > 256) floats = false;
    f.stride_ = f.columns_ <= 16 ? 16 : f.columns_ <= 64 ? 64 : f.columns_ <= 256 ? 256 : f.columns_;
  }

  template <class Node>
  void lay_out(std::vector<Node>& out) {
    const auto columns = static_cast<std::uint32_t>(f.columns_);
    const auto width = static_cast<std::uint32_t>(f.width_);
    struct place {
      std::uint32_t from, to, depth;
    };
    struct tree {
      std::uint32_t root, depth;
    };
    std::vector<tree> built;
    std::vector<place> queue;
    out.reserve(trees.size());
    using value = typename Node::value;
    for (const std::uint32_t root : roots) {
      queue.clear();
      const auto begin = static_cast<std::uint32_t>(out.size());
      out.emplace_back();
      queue.push_back({root, begin, 0});
      for (std::size_t head = 0; head < queue.size(); ++head) {
        const place p = queue[head];
        if (modes[p.from] == mode::leaf) {
          // The last column is below all: a leaf leads to itself, and its threshold is free to hold its
          // value.
          out[p.to] = Node(0, p.to, columns - 1);
          if (f.sums_ == 1) {
            out[p.to].threshold = std::bit_cast<typename Node::key>(static_cast<value>(weight[p.from]));
          } else {
            out[p.to].threshold = payload[p.from];
          }
          continue;
        }
        const comparison c = compare(p.from);
        const auto left = static_cast<std::uint32_t>(out.size());
        out.resize(out.size() + 2);
        const auto column = static_cast<std::uint32_t>(features[p.from]) + (c.negated ? width : 0);
        // No key is 0 but the last column's, so nothing goes left there.
        const auto key = std::isnan(c.threshold) ? 0 : key_of(static_cast<value>(c.threshold));
        out[p.to] = Node(key, left, column);
        queue.push_back({c.left, left, p.depth + 1});
        queue.push_back({c.right, left + 1, p.depth + 1});
      }
      built.push_back({begin, queue.back().depth});
    }
    if (out.size() != trees.size()) refuse(n, "the nodes of a tree form a circle");
    // Trees of one depth walk together without waiting for a deeper one.
    std::stable_sort(built.begin(), built.end(),
                     [](const tree& a, const tree& b) { return a.depth > b.depth; });
    for (const tree& t : built) {
      f.roots_.push_back(t.root);
      f.depths_.push_back(t.depth);
    }
  }
};

forest::forest(const onnx::node& n, std::size_t width, bool float_input, const onnx::limits& most)
    : width_(width) {
  const bool classifier = n.op == "TreeEnsembleClassifier";
  if (ints_of(n, "nodes_treeids").size() > most.tree_nodes) {
    refuse(n, "more than " + std::to_string(most.tree_nodes) + " nodes, the limit");
  }
  builder b(n, *this, float_input);
  b.check_lists();
  if (classifier) {
    const auto* texts = n.find("classlabels_strings");
    outputs_ =
        texts && !texts->strings.empty() ? texts->strings.size() : ints_of(n, "classlabels_int64s").size();
  } else {
    const auto* targets = n.find("n_targets");
    outputs_ = targets && targets->i > 0 ? static_cast<std::size_t>(targets->i) : 0;
  }
  if (outputs_ == 0 || outputs_ > most.outputs) {
    refuse(n, std::to_string(outputs_) + " outputs; 1 to " + std::to_string(most.outputs) + " are possible");
  }
  transform_ = post_transform_of(n);
  const node_index index(n, b.trees, b.ids);
  b.link(index);
  b.read_leaves(index, classifier ? "class" : "target");

  base_ = numbers_of(n, "base_values");
  if (!base_.empty() && base_.size() != sums_) {
    refuse(n, std::to_string(base_.size()) + " base_values for " + std::to_string(sums_) + " sums");
  }
  for (const double v : base_) {
    if (!std::isfinite(v)) refuse(n, "a base value is not finite");
    if (v < 0) shares_ = false;
  }
  if (const auto* a = n.find("aggregate_function"); a && !a->s.empty() && a->s != "SUM") {
    if (a->s != "AVERAGE")
      refuse(n, "aggregate_function " + std::string(a->s.substr(0, 32)) + " is not built in");
    scale_ = 1 / static_cast<double>(b.roots.size());
  }

  b.choose_layout();
  if (b.floats) {
    b.lay_out(narrow_);
  } else {
    b.lay_out(wide_);
  }
}

namespace {

// One step of a walk.
template <class Node, class Key>
inline std::uint32_t step(const Node* nodes, std::uint32_t at, const Key* x) {
  const Node q = nodes[at];
  std::uint32_t to = q.left();
  if (q.threshold < x[q.column()]) ++to;
  return to;
}

/// Walks `K` paths to their leaves. Deep trees are mostly shallow: from the eighth level on, ends as soon as
/// all have arrived.
template <std::size_t K, class Node, class RowOf>
inline void walk(const Node* nodes, std::uint32_t* at, std::uint32_t depth, RowOf row_of) {
  const std::uint32_t plain = depth <= 12 ? depth : 8;
  for (std::uint32_t d = 0; d < plain; ++d) {
    for (std::size_t j = 0; j < K; ++j) at[j] = step(nodes, at[j], row_of(j));
  }
  for (std::uint32_t d = plain; d < depth; d += 4) {
    std::uint32_t moved = 0;
    for (int i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < K; ++j) at[j] = step(nodes, at[j], row_of(j));
    }
    for (std::size_t j = 0; j < K; ++j) {
      const std::uint32_t to = step(nodes, at[j], row_of(j));
      moved |= to ^ at[j];
      at[j] = to;
    }
    if (moved == 0) return;
  }
}

}  // namespace

template <class Node>
inline void forest::add_leaf(const Node& leaf, double* sums) const {
  if (sums_ == 1) {
    sums[0] += static_cast<double>(std::bit_cast<typename Node::value>(leaf.threshold));
    return;
  }
  const auto i = static_cast<std::size_t>(leaf.threshold);
  for (std::uint32_t k = payload_begin_[i]; k < payload_begin_[i + 1]; ++k)
    sums[payload_[k].output] += payload_[k].weight;
}

template <std::size_t Stride, class Node, class Key>
void forest::walk_block(const std::vector<Node>& nodes, const Key* x, std::size_t rows, double* sums) const {
  const std::size_t stride = Stride ? Stride : stride_;
  const Node* const a = nodes.data();
  // A tree stays in the first-level cache while all rows of the block pass through it.
  const auto rows_together = [&]<std::size_t K>(std::size_t from, std::size_t t) {
    std::uint32_t at[K];
    const Key* const base = x + from * stride;
    std::fill_n(at, K, roots_[t]);
    walk<K>(a, at, depths_[t], [&](std::size_t j) { return base + j * stride; });
    for (std::size_t j = 0; j < K; ++j) add_leaf(a[at[j]], sums + (from + j) * sums_);
  };
  const std::size_t sixteens = rows / chains * chains;
  const std::size_t grouped = rows % chains >= chains / 2 ? sixteens + chains / 2 : sixteens;
  for (std::size_t t = 0; grouped && t < roots_.size(); ++t) {
    for (std::size_t i = 0; i < sixteens; i += chains) rows_together.template operator()<chains>(i, t);
    if (grouped > sixteens) rows_together.template operator()<chains / 2>(sixteens, t);
  }
  for (std::size_t i = grouped; i < rows; ++i) {
    const Key* const row = x + i * stride;
    // The last group walks its first tree several times over where there are too few.
    const auto trees_together = [&]<std::size_t K>(std::size_t from) {
      const std::size_t count = std::min(K, roots_.size() - from);
      std::uint32_t at[K];
      for (std::size_t j = 0; j < K; ++j) at[j] = roots_[from + (j < count ? j : 0)];
      walk<K>(a, at, depths_[from], [&](std::size_t) { return row; });
      if (sums_ > 1) {
        for (std::size_t j = 0; j < count; ++j) add_leaf(a[at[j]], sums + i * sums_);
        return;
      }
      double sum = sums[i];
      for (std::size_t j = 0; j < count; ++j) add_leaf(a[at[j]], &sum);
      sums[i] = sum;
    };
    std::size_t t = 0;
    for (; roots_.size() - t > chains / 2; t += std::min(chains, roots_.size() - t)) {
      trees_together.template operator()<chains>(t);
    }
    if (roots_.size() - t > chains / 4) {
      trees_together.template operator()<chains / 2>(t);
    } else if (t < roots_.size()) {
      trees_together.template operator()<chains / 4>(t);
    }
  }
}

template <class Node>
void forest::walk_all(const std::vector<Node>& nodes, const double* in, std::size_t rows,
                      double* sums) const {
  using value = typename Node::value;
  using key = typename Node::key;
  thread_local std::vector<key> x;
  const std::size_t block = std::min(rows, block_rows);
  if (x.size() < block * stride_) x.resize(block * stride_);
  for (std::size_t done = 0; done < rows; done += block) {
    const std::size_t count = std::min(block, rows - done);
    for (std::size_t r = 0; r < count; ++r) {
      const double* const from = in + (done + r) * width_;
      key* const to = x.data() + r * stride_;
      for (std::size_t c = 0; c < width_; ++c) to[c] = key_of(static_cast<value>(from[c]));
      if (negated_) {
        for (std::size_t c = 0; c < width_; ++c) to[width_ + c] = key_of(-static_cast<value>(from[c]));
      }
      to[columns_ - 1] = 0;
    }
    double* const to = sums + done * sums_;
    switch (stride_) {
      case 16:
        walk_block<16>(nodes, x.data(), count, to);
        break;
      case 64:
        walk_block<64>(nodes, x.data(), count, to);
        break;
      case 256:
        walk_block<256>(nodes, x.data(), count, to);
        break;
      default:
        walk_block<0>(nodes, x.data(), count, to);
    }
  }
}

void forest::finish(double* sums, double* out) const {
  if (scale_ != 1) {
    for (std::size_t k = 0; k < sums_; ++k) sums[k] *= scale_;
  }
  for (std::size_t k = 0; k < base_.size(); ++k) sums[k] += base_[k];
  if (sums_ != outputs_) {
    split_binary(transform_, shares_, sums[0], out);
    return;
  }
  if (transform_ != post_transform::none) apply(transform_, out, outputs_);
}

void forest::score(const double* in, std::size_t rows, double* out) const {
  thread_local std::vector<double> single;
  double* sums = out;
  if (sums_ != outputs_) {
    if (single.size() < rows * sums_) single.resize(rows * sums_);
    sums = single.data();
  }
  std::fill_n(sums, rows * sums_, 0.0);
  if (!narrow_.empty()) {
    walk_all(narrow_, in, rows, sums);
  } else {
    walk_all(wide_, in, rows, sums);
  }
  if (scale_ == 1 && base_.empty() && transform_ == post_transform::none && sums_ == outputs_) return;
  for (std::size_t r = 0; r < rows; ++r) finish(sums + r * sums_, out + r * outputs_);
}

}  // namespace troupe::model
