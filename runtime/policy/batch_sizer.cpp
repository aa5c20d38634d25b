#include "runtime/policy/batch_sizer.hpp"

#include <algorithm>

namespace troupe::policy {
namespace {

constexpr double forget = 0.05;     // weight of the newest batch
constexpr double outlier = 3.0;     // times the estimate
constexpr std::size_t trusted = 4;  // batches before outliers are cut
constexpr double ridge = 0.01;      // of the mean size squared: sizes within 10% of each other tell no slope
constexpr std::size_t first_cap = 16;
constexpr std::size_t growth = 4;

}  // namespace

void batch_sizer::observe(std::size_t rows, nanos took) {
  if (rows == 0 || took < 0) return;
  const auto n = static_cast<double>(rows);
  auto t = static_cast<double>(took);
  if (observed_ >= trusted) t = std::min(t, outlier * std::max(fixed_ + per_row_ * n, 1'000.0));
  ++observed_;
  largest_ = std::max(largest_, rows);
  const double w = std::max(forget, 1.0 / static_cast<double>(observed_));
  mean_n_ += w * (n - mean_n_);
  mean_t_ += w * (t - mean_t_);
  mean_nn_ += w * (n * n - mean_nn_);
  mean_nt_ += w * (n * t - mean_nt_);
  const double variance = std::max(0.0, mean_nn_ - mean_n_ * mean_n_);
  const double covariance = mean_nt_ - mean_n_ * mean_t_;
  const double pull = ridge * mean_n_ * mean_n_;
  const double slope = (covariance + pull * row_share_ * mean_t_ / mean_n_) / (variance + pull);
  // Neither part can be negative; 2% keeps a flat start from claiming that rows are free for ever.
  row_share_ = mean_t_ > 0 ? std::clamp(slope * mean_n_ / mean_t_, 0.02, 1.0) : row_share_;
  per_row_ = row_share_ * mean_t_ / mean_n_;
  fixed_ = mean_t_ - per_row_ * mean_n_;
}

std::size_t batch_sizer::max_rows(nanos budget, std::size_t hard_cap) const {
  const std::size_t step = std::max(first_cap, growth * largest_);
  const std::size_t cap = std::max<std::size_t>(1, std::min(hard_cap, step));
  if (per_row_ <= 0) return cap;
  const double by_time = (static_cast<double>(std::max<nanos>(0, budget)) - fixed_) / per_row_;
  const double by_waste = std::min(fixed_ / per_row_, 2.0 * static_cast<double>(largest_));
  const bool spoilt = fixed_ > static_cast<double>(budget);
  const double rows = spoilt ? std::max(by_time, by_waste) : by_time;
  if (rows >= static_cast<double>(cap)) return cap;
  return std::max<std::size_t>(1, static_cast<std::size_t>(std::max(rows, 1.0)));
}

}  // namespace troupe::policy
