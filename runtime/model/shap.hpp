#pragma once
// Explanations: how much each feature of a row adds to the model's raw score, beyond what the model says on
// average (SHAP values, Lundberg and Lee 2017).
//
// Trees: exact, by the path-dependent TreeSHAP (Lundberg et al. 2018, "Consistent individualized feature
// attribution for tree ensembles", algorithm 2), O(trees * leaves * depth^2) a row. What is not known of a
// row is averaged over the training rows that came by each node, so the ensemble needs its covers. Linear
// models: weight * value, in closed form, against a row that the scalers turn into zeros. Behind a
// StandardScaler that is the mean of the training rows.
//
// The raw score is what the model computes before its last transform: log-odds for boosted classifiers and
// logistic regression, the logarithm for losses with a log link, else the prediction itself.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/model/ensemble.hpp"
#include "runtime/model/pipeline.hpp"

namespace troupe::model {

/// Explains the rows of one model. Immutable, so that any number of threads may call at once.
class explainer {
 public:
  explainer() = default;
  explainer(const explainer&) = delete;
  explainer& operator=(const explainer&) = delete;
  virtual ~explainer();

  [[nodiscard]] virtual std::size_t features() const = 0;
  /// Scores a row: one a target or class; a single one for most binary classifiers, that of the second class.
  [[nodiscard]] virtual std::size_t outputs() const = 0;
  /// The score that the contributions start from, `outputs` numbers.
  [[nodiscard]] virtual std::span<const double> base() const = 0;
  /// `contributions`: rows x outputs x features, row-major; each row's and output's add up, with the base, to
  /// its score. `scores`: rows x outputs. Both are overwritten.
  virtual void explain(std::span<const double* const> rows, double* contributions, double* scores) const = 0;
};

/// Of an ensemble alone, over its own columns. Throws load_error where it has no covers, or a tree is deeper
/// than 256 levels.
class tree_shap {
 public:
  explicit tree_shap(ensemble e);

  [[nodiscard]] const ensemble& trees() const { return e_; }
  [[nodiscard]] std::span<const double> base() const { return base_; }
  /// `in`: rows x width. Adds to `contributions`, rows x sums x `to`, where column c's share goes to entry
  /// where[c]. Rows do not depend on each other.
  void add(const double* in, std::size_t rows, std::span<const std::uint32_t> where, std::size_t to,
           double* contributions) const;
  /// The sums before the transform, rows x sums.
  void score(const double* in, std::size_t rows, double* scores) const;

 private:
  ensemble e_;
  std::vector<double> base_;
  std::vector<double> share_of_;  ///< by node: its cover over its parent's
  std::size_t depth_ = 0;
  std::size_t longest_ = 0;  ///< elements that a path can have, and one
  /// By `used * longest_ + i`: (used + 1) / (i + 1), (used - i) / (used + 1), and the inverse of the latter.
  std::vector<double> up_, stay_, off_;
};

/// Explains what operation `at` of the pipeline computes, by the features of the row. The pipeline has to
/// outlive the explainer. Throws load_error where a step before it mixes columns.
[[nodiscard]] std::unique_ptr<const explainer> explain_trees(const pipeline& p, std::size_t at,
                                                             std::size_t features, ensemble e);
[[nodiscard]] std::unique_ptr<const explainer> explain_linear(const pipeline& p, std::size_t at,
                                                              std::size_t features, affine a);

}  // namespace troupe::model
