#pragma once
// The steps an engine is made of. Each takes one block of rows from its inputs to its output, row-major
// doubles.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/model/dense.hpp"
#include "runtime/model/forest.hpp"

namespace troupe::model {

/// What a step reads: `width` doubles a row.
struct columns {
  const double* data = nullptr;
  std::size_t width = 0;
};

class step {
 public:
  step() = default;
  step(const step&) = delete;
  step& operator=(const step&) = delete;
  virtual ~step();
  /// `out` may be the first input's memory where in_place() says so.
  virtual void run(const columns* in, std::size_t rows, double* out) const = 0;
  [[nodiscard]] virtual bool in_place() const { return false; }
  /// A missing value either has a meaning here or comes out as one. False: it would be taken for a number.
  [[nodiscard]] virtual bool keeps_missing() const { return true; }
  /// For each output column, the origin of the one input column it comes from; `in` has those of the inputs'
  /// columns. None: columns are mixed.
  using origin_list = std::vector<std::uint32_t>;
  [[nodiscard]] virtual origin_list origins(const std::vector<const origin_list*>& in) const;
};

using step_ptr = std::unique_ptr<const step>;

enum class arithmetic : std::uint8_t { add, sub, mul, div };

/// x op constant, or constant op x. `constant` has one number or one a column; an x of one column widens to
/// it.
[[nodiscard]] step_ptr with_constant(arithmetic op, std::vector<double> constant, bool constant_first,
                                     bool round);
/// x op y; either may have one column.
[[nodiscard]] step_ptr with_column(arithmetic op, bool round);
/// Rounds to float32.
[[nodiscard]] step_ptr round_to_float();
/// (x - offset) * scale in float32; each one number or one a column.
[[nodiscard]] step_ptr scaler(std::vector<double> offset, std::vector<double> scale);
/// Puts `value` (one, or one a column) wherever x equals `replaced`, which may be NaN.
[[nodiscard]] step_ptr imputer(std::vector<double> value, double replaced);
enum class norm : std::uint8_t { max, l1, l2, max_abs };
/// x / norm of the row, a norm of 0 counting as 1; `round`: to float32.
[[nodiscard]] step_ptr normalizer(norm kind, bool round = true);
/// Values beyond the two ends become the ends; NaN stays.
[[nodiscard]] step_ptr clip(double low, double high);
/// The values a column may have, and what each becomes. NaN equals NaN here.
struct category_list {
  std::vector<double> values;
};
/// A column for each category of each column, 1 where the value is that category; `dropped`: by column, the
/// category that has no column of its own, -1 for none. A value that is no category has 0 in all of them.
[[nodiscard]] step_ptr one_hot(std::vector<category_list> of, std::vector<int> dropped);
/// The position of each value among its column's categories; `missing` for a category NaN, `unknown` for
/// none.
[[nodiscard]] step_ptr ordinal(std::vector<category_list> of, double missing, double unknown);
/// 0 for a row whose values all are categories, else NaN. One column.
[[nodiscard]] step_ptr known(std::vector<category_list> of);
[[nodiscard]] step_ptr binarizer(double threshold);
[[nodiscard]] step_ptr activate(activation how, bool round);
[[nodiscard]] step_ptr softmax_step();
/// The columns of that many inputs, one after the other.
[[nodiscard]] step_ptr concat(std::size_t inputs);
[[nodiscard]] step_ptr pick(std::vector<std::uint32_t> which);
/// x * weights + bias, summed in double. `weights`: outputs x inputs, row-major; `bias`: outputs, or none.
struct affine {
  std::vector<double> weights;
  std::vector<double> bias;
  std::size_t inputs = 0;
  std::size_t outputs = 0;
};
[[nodiscard]] step_ptr linear(affine a, post_transform how, bool round);
/// A linear step that takes what follows it upon itself: without another pass over its outputs, and with the
/// same answers.
class layer : public step {
 public:
  /// One number for each output. Once.
  virtual void then_add(const std::vector<double>& more) = 0;
  /// The last there is.
  virtual void then_relu() = 0;
};
[[nodiscard]] std::unique_ptr<layer> dense(const affine& a, bool round);
/// A linear classifier with one score for two classes.
[[nodiscard]] step_ptr linear_binary(affine a, post_transform how);
[[nodiscard]] step_ptr trees(forest f);

}  // namespace troupe::model
