#pragma once
// A tree ensemble as every source of models describes it: what `forest` is built from, and what explanations
// are computed on. It is neutral between ONNX, scikit-learn, XGBoost and LightGBM: double thresholds, one of
// four comparisons a node, an optional direction for missing values, leaves that add to any number of sums.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe::model {

/// What happens to the sums of an ensemble or the scores of a linear model. `one_vs_rest`: logistic, then
/// divided by their sum.
enum class post_transform : std::uint8_t { none, logistic, softmax, softmax_zero, one_vs_rest, exponential };

/// In place, on one row's scores.
void apply(post_transform how, double* scores, std::size_t count);

/// Two probabilities out of the one score of a binary classifier. Logistic: of the score; else s and 1 - s,
/// or s and -s where scores may be negative.
void split_binary(post_transform how, bool scores_are_shares, double score, double* out);

/// What a leaf adds to one sum.
struct leaf_share {
  double weight = 0;
  std::uint32_t output = 0;
};

enum class split : std::uint8_t { leaf, leq, lt, gte, gt };

struct tree_node {
  double threshold = 0;
  std::uint32_t column = 0;
  std::uint32_t yes = 0;  ///< the node where `value how threshold` holds; of a leaf: its first share
  std::uint32_t no = 0;   ///< of a leaf: one behind its last share
  split how = split::leaf;
  bool missing_yes = false;  ///< where a missing value goes
};

/// Trees and what is done with their sums: transform(scale * sum of leaves + base).
struct ensemble {
  std::size_t width = 0;     ///< columns of a row
  bool float_input = false;  ///< values are rounded to float32 before they are compared
  bool handles_missing = false;
  std::size_t outputs = 1;
  std::size_t sums = 1;  ///< outputs, or one where a binary classifier has a single score
  double scale = 1;
  std::vector<double> base;  ///< none, or one a sum
  post_transform transform = post_transform::none;

  std::vector<tree_node> nodes;
  std::vector<std::uint32_t> roots;
  std::vector<leaf_share> shares;  ///< of each leaf, by rising output, each output once
  /// By column, the one that it says something about, where several say something about one
  /// (category_splits); empty: each about itself. Explanations take them for one feature.
  std::vector<std::uint32_t> stands_for;
  std::vector<double> cover;  ///< the weight of the training rows that came by each node; empty: not known

  /// Adds a leaf's shares and makes `n` that leaf.
  void set_leaf(tree_node& n, const double* weights, std::size_t count);
};

/// Throws load_error unless every index is in range, each tree has one root, each other node one parent, all
/// numbers are finite where they have to be, and every node is reached.
void check(const ensemble& e);

/// Which child a value leads to; NaN is a missing value. `x` is rounded already if the ensemble says so.
[[nodiscard]] inline std::uint32_t child(const tree_node& n, double x) {
  bool yes = n.missing_yes;
  if (x == x) {
    switch (n.how) {
      case split::lt:
        yes = x < n.threshold;
        break;
      case split::gte:
        yes = x >= n.threshold;
        break;
      case split::gt:
        yes = x > n.threshold;
        break;
      default:
        yes = x <= n.threshold;
    }
  }
  return yes ? n.yes : n.no;
}

}  // namespace troupe::model
