#pragma once
// batch_sizer: what a batch of n rows of one model costs, learned while it runs, and how many rows fit a
// time.
//
// The model of cost is a line, fixed + per_row x n, fitted by exponentially weighted least squares over
// (rows, time) of finished batches (half of the weight lies on the last ~14). Where all batches have one size
// the slope can't be seen, so it is pulled (ridge) towards the share of the time that rows had last. A stall
// of the machine is no news about the model: a batch counts for at most three times its estimate, so one
// outlier hardly moves the line and a lasting change is still followed within some tens of batches.
//
// There is no wait for more rows: a free shard takes what is queued, and this class only says where to stop.

#include <cstddef>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

/// Share of a class's target that one batch may take: what arrives meanwhile waits for it to end.
inline constexpr double batch_share_of_target = 0.08;

class batch_sizer {
 public:
  /// A batch of `rows` rows (>= 1) was executed in `took` ns. Zero rows or a negative time are ignored.
  void observe(std::size_t rows, nanos took);

  /// Expected ns of a batch of `rows` rows; 0 until something was observed.
  [[nodiscard]] nanos estimate(std::size_t rows) const {
    return static_cast<nanos>(fixed_ + per_row_ * static_cast<double>(rows));
  }

  /// The most rows whose estimated time is within `budget` ns, at most `hard_cap`, at least 1. Two
  /// exceptions:
  /// - where the fixed cost alone spoils the budget, as many rows as make the fixed cost half of the batch
  /// (at most
  ///   twice the largest batch seen): fewer would waste the machine without helping anyone;
  /// - never more than four times the largest batch seen (16 at first), so that a guess is tried in steps.
  [[nodiscard]] std::size_t max_rows(nanos budget, std::size_t hard_cap) const;

  [[nodiscard]] double fixed() const { return fixed_; }      ///< ns a batch
  [[nodiscard]] double per_row() const { return per_row_; }  ///< ns a row
  [[nodiscard]] std::size_t observed() const { return observed_; }

 private:
  double fixed_ = 0;
  double per_row_ = 0;
  double mean_n_ = 0;
  double mean_t_ = 0;
  double mean_nn_ = 0;
  double mean_nt_ = 0;
  double row_share_ = 0.25;  // of a batch's time; the guess before sizes have varied
  std::size_t observed_ = 0;
  std::size_t largest_ = 0;
};

}  // namespace troupe::policy
