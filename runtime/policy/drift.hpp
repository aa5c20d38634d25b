#pragma once
// drift: how far the predictions of a new version lie from those of the old one.
//
// Population stability index over bins made from the old version's predictions:
//   PSI = sum over bins of (p - q) ln(p / q)        p, q: the bins' shares of the new and the old predictions
// (S. Kullback's symmetric divergence J, "Information Theory and Statistics", 1959; as PSI in N. Siddiqi,
// "Credit Risk Scorecards", 2006, where 0.1 is called a small and 0.25 a large shift). Half a count is added
// to each bin, so that an empty one stays finite.
//
// Between samples of one distribution PSI is not 0 but about (1/n + 1/m) chi-square(bins - 1) (B. Yurdakul
// and J. Naranjo, "Statistical properties of the population stability index", Journal of Risk Model
// Validation, 2020). `noise` is the value that chance alone exceeds about three times in 100,000; the
// chi-square quantile is E. B. Wilson and M. M. Hilferty's approximation (1931).
//
// Memory: `reference` values a side until the bins are made, then one counter a bin and side. A side that has
// `horizon` values is halved, so that old ones fade out.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace troupe::policy {

struct drift_config {
  std::size_t bins = 10;         ///< of numbers; equal shares of the reference
  std::size_t reference = 500;   ///< predictions of the old version that the bins are made from
  std::size_t horizon = 20'000;  ///< predictions a side; at this many the side is halved
  std::size_t classes = 0;       ///< > 0: values are class indexes, and the bins are the classes
};

struct drift_reading {
  double psi = 0;
  double noise = 0;  ///< chance alone stays below it
  double old_count = 0;
  double new_count = 0;
};

/// PSI of two histograms of equal length; 0 when one of them is empty or they have fewer than two bins.
[[nodiscard]] double population_stability_index(std::span<const double> reference,
                                                std::span<const double> seen);

class drift {
 public:
  explicit drift(const drift_config& config = {});

  void add_old(double value);
  void add_new(double value);

  /// None until the bins are made and both sides have values.
  [[nodiscard]] std::optional<drift_reading> read() const;
  /// Upper bounds of the bins but the last, which is open; empty for classes and until they are made.
  [[nodiscard]] const std::vector<double>& edges() const { return edges_; }

 private:
  void make_bins();
  [[nodiscard]] std::size_t bin_of(double value) const;
  void count(std::vector<double>& side, double& total, double value);

  drift_config config_;
  bool ready_ = false;
  std::vector<double> waiting_old_;
  std::vector<double> waiting_new_;
  std::vector<double> edges_;
  std::vector<double> old_;
  std::vector<double> new_;
  double old_total_ = 0;
  double new_total_ = 0;
};

}  // namespace troupe::policy
