#pragma once
// Tree ensembles, laid out for walking many at once.
//
// A walk is a chain of dependent loads, so a core that follows one path waits most of the time. Here 16 paths
// are in flight: 16 rows in one tree, or 16 trees for a single row. Every node is 8 bytes and there is no
// branch: all comparisons have the one form `value <= threshold goes left`, right stands next to left, and a
// leaf leads to itself. Values and thresholds are compared as unsigned integers in the order of the numbers
// they stand for, with missing values above all: that compares faster than floats do, and puts missing values
// on the right for nothing. What does not fit (more than 255 columns, 2^24 nodes, or numbers that are no
// float32) uses nodes of 16 bytes. Where the processor has vector gathers, forest_lanes.hpp walks instead.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/model/ensemble.hpp"
#include "runtime/model/forest_lanes.hpp"

namespace troupe::model {

class forest {
 public:
  /// Everything is checked first, see check(). Throws load_error. Walked `how` wants it if the processor can
  /// and the trees fit, see forest_lanes.
  explicit forest(const ensemble& e, tree_walk how = best_tree_walk());

  [[nodiscard]] std::size_t outputs() const { return outputs_; }
  /// The trees say where a missing value goes.
  [[nodiscard]] bool handles_missing() const { return handles_missing_; }
  [[nodiscard]] std::size_t trees() const { return roots_.size(); }
  [[nodiscard]] std::size_t nodes() const { return nodes_; }
  [[nodiscard]] tree_walk walked() const { return lanes_ ? how_ : tree_walk::portable; }

  /// `rows` x width doubles in, `rows` x outputs doubles out. Leaves are added in double, in the same order
  /// whatever the number of rows or the walk: a row's answer depends on neither. With one sum a tree, that is
  /// 16 partial sums, each of every 16th tree, then their sum by halves.
  void score(const double* in, std::size_t rows, double* out) const;

 private:
  struct builder;

  struct narrow_node {
    using value = float;
    using key = std::uint32_t;  ///< a value as what is compared
    key threshold;              ///< of a leaf: the bits of its value, or the index of what it adds
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
  template <class Node>
  void walk_all(const std::vector<Node>& nodes, const double* in, std::size_t rows, double* sums) const;
  template <std::size_t Stride, class Node, class Key>
  void walk_block(const std::vector<Node>& nodes, const Key* x, std::size_t rows, double* sums) const;
  template <class Node>
  void add_leaf(const Node& leaf, double* sums) const;
  void walk_lanes(const double* in, std::size_t rows, double* sums) const;
  void to_lanes();
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
  bool inline_leaves_ = false;  ///< a leaf's threshold is its value
  bool shares_ = true;          ///< all leaf weights >= 0
  post_transform transform_ = post_transform::none;
  double scale_ = 1;  ///< 1 / trees for AVERAGE
  std::vector<double> base_;

  tree_walk how_ = tree_walk::portable;
  std::size_t nodes_ = 0;
  std::optional<forest_lanes> lanes_;  ///< then narrow_ and wide_ are empty
  std::vector<narrow_node> narrow_;
  std::vector<wide_node> wide_;
  std::vector<std::uint32_t> roots_;  ///< by falling depth
  std::vector<std::uint32_t> depths_;
  std::vector<std::uint32_t> payload_begin_;  ///< sums_ > 1: of payload i, [begin[i], begin[i + 1]) in shares
  std::vector<leaf_share> payload_;
  std::vector<double> values_;  ///< sums_ == 1, and the leaves' values are no float32: by index
};

}  // namespace troupe::model
