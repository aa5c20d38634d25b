#pragma once
// Tree ensembles (ai.onnx.ml TreeEnsembleRegressor and TreeEnsembleClassifier, see
// https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html), laid out for walking many at
// once.
//
// A walk is a chain of dependent loads, so a core that follows one path waits most of the time. Here 16 paths
// are in flight: 16 rows in one tree, or 16 trees for a single row. Every node is 8 bytes and there is no
// branch: all comparisons have the one form `value <= threshold goes left`, right stands next to left, and a
// leaf leads to itself. Values and thresholds are compared as unsigned integers in the order of the numbers
// they stand for, with missing values above all: that compares faster than floats do, and puts missing values
// on the right for nothing. What does not fit (more than 255 columns, 2^24 nodes, or numbers that are no
// float32) uses nodes of 16 bytes.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/model/onnx.hpp"

namespace troupe::model {

/// What happens to the sums of an ensemble or the scores of a linear model.
enum class post_transform : std::uint8_t { none, logistic, softmax, softmax_zero };

/// The transform an operator's post_transform attribute names. Throws load_error for the ones not built in.
[[nodiscard]] post_transform post_transform_of(const onnx::node& n);

/// In place, on one row's scores.
void apply(post_transform how, double* scores, std::size_t count);

/// Two probabilities out of the one score of a binary classifier. Logistic: of the score; else s and 1 - s,
/// or s and -s where scores may be negative.
void split_binary(post_transform how, bool scores_are_shares, double score, double* out);

class forest {
 public:
  /// `n` is one of the two operators, over rows of `width` columns; `float_input`: they hold float32 values.
  /// Every index is checked: children exist, each node has one parent, each tree one root. Throws load_error.
  forest(const onnx::node& n, std::size_t width, bool float_input, const onnx::limits& most);

  [[nodiscard]] std::size_t outputs() const { return outputs_; }
  /// The trees say where a missing value goes.
  [[nodiscard]] bool handles_missing() const { return handles_missing_; }
  [[nodiscard]] std::size_t trees() const { return roots_.size(); }
  [[nodiscard]] std::size_t nodes() const { return narrow_.size() + wide_.size(); }

  /// `rows` x width doubles in, `rows` x outputs doubles out. Leaves are added in double, in the same order
  /// whatever the number of rows: a row's answer does not depend on its batch.
  void score(const double* in, std::size_t rows, double* out) const;

 private:
  struct builder;

  struct narrow_node {
    using value = float;
    using key = std::uint32_t;  ///< a value as what is compared
    key threshold;              ///< of a leaf: the bits of its value, or the index of its payload
    std::uint32_t link;         ///< left << 8 | column

    narrow_node(key t = 0, std::uint32_t left = 0, std::uint32_t column = 0)
        : threshold(t), link(left << 8 | column) {}
    [[nodiscard]] std::uint32_t left() const { return link >> 8; }
    [[nodiscard]] std::uint32_t column() const { return link & 255U; }
  };
  struct wide_node {
    using value = double;
    using key = std::uint64_t;
    key threshold;
    std::uint32_t left_;
    std::uint32_t column_;

    wide_node(key t = 0, std::uint32_t left = 0, std::uint32_t column = 0)
        : threshold(t), left_(left), column_(column) {}
    [[nodiscard]] std::uint32_t left() const { return left_; }
    [[nodiscard]] std::uint32_t column() const { return column_; }
  };
  struct share {  ///< what a leaf adds to one output
    double weight;
    std::uint32_t output;
  };

  template <class Node>
  void walk_all(const std::vector<Node>& nodes, const double* in, std::size_t rows, double* sums) const;
  template <std::size_t Stride, class Node, class Key>
  void walk_block(const std::vector<Node>& nodes, const Key* x, std::size_t rows, double* sums) const;
  template <class Node>
  void add_leaf(const Node& leaf, double* sums) const;
  void finish(double* sums, double* out) const;

  std::size_t width_ = 0;
  std::size_t columns_ =
      0;  ///< width, negated ones where a comparison needs them, and one below all numbers for leaves
  std::size_t stride_ =
      0;  ///< from row to row: columns, rounded up to one of few sizes that the compiler knows
  std::size_t sums_ = 1;  ///< a row's sums: outputs, or one for a binary classifier with a single score
  std::size_t outputs_ = 1;
  bool negated_ = false;
  bool handles_missing_ = false;
  bool shares_ = true;  ///< all leaf weights >= 0
  post_transform transform_ = post_transform::none;
  double scale_ = 1;  ///< 1 / trees for AVERAGE
  std::vector<double> base_;

  std::vector<narrow_node> narrow_;
  std::vector<wide_node> wide_;
  std::vector<std::uint32_t> roots_;  ///< by falling depth
  std::vector<std::uint32_t> depths_;
  std::vector<std::uint32_t> payload_begin_;  ///< sums_ > 1: of payload i, [begin[i], begin[i + 1]) in shares
  std::vector<share> payload_;
};

}  // namespace troupe::model
