#pragma once
// Splits of trees by sets of categories, as LightGBM and XGBoost learn them. A forest compares numbers only,
// so a step in front of it adds a column for each set: 0 for a row that goes to the left, 1 for one that goes
// to the right. The walk stays as fast as it is.

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "runtime/model/ensemble.hpp"
#include "runtime/model/steps.hpp"

namespace troupe::model {

/// Where a value goes. A category is a number without its fraction, -0.5 the category 0. What is no category
/// (negative, or beyond the bits) is in no set.
struct category_set {
  std::vector<std::uint32_t> bits;  ///< category k: bit k % 32 of bits[k / 32]
  bool members_left = true;
  bool missing_left = false;
  bool float_input = false;  ///< XGBoost's: values are rounded to float32 first, and -0.5 is no category

  auto operator<=>(const category_set&) const = default;
  [[nodiscard]] bool left(double x) const;
};

/// Words of bits that the sets of a model may have in all: 64 MiB.
inline constexpr std::size_t most_category_words = std::size_t{1} << 24;

/// Collects the sets of an ensemble over `width` columns. Equal ones share a column.
class category_splits {
 public:
  explicit category_splits(std::size_t width, std::size_t most) : width_(width), most_(most) {}

  /// Makes `n`, whose children are set, a split of `column` by that set. Throws load_error beyond `most`
  /// sets, or most_category_words.
  void add(tree_node& n, std::uint32_t column, category_set set);

  [[nodiscard]] bool empty() const { return sets_.empty(); }
  [[nodiscard]] std::size_t width() const { return width_ + sets_.size(); }  ///< with the added columns
  /// What each column of the ensemble says something about; for ensemble::stands_for.
  [[nodiscard]] std::vector<std::uint32_t> columns() const;
  /// From rows of the first width to rows of width().
  [[nodiscard]] step_ptr step() &&;

 private:
  std::size_t width_;
  std::size_t most_;
  std::size_t words_ = 0;
  std::map<std::pair<std::uint32_t, category_set>, std::uint32_t> sets_;  ///< to its place
};

}  // namespace troupe::model
