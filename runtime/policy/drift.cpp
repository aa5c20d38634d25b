#include "runtime/policy/drift.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace troupe::policy {

double population_stability_index(std::span<const double> reference, std::span<const double> seen) {
  if (reference.size() != seen.size() || seen.size() < 2) return 0;
  double q_total = 0;
  double p_total = 0;
  for (const double n : reference) q_total += n;
  for (const double n : seen) p_total += n;
  if (q_total <= 0 || p_total <= 0) return 0;
  const double added = 0.5 * static_cast<double>(seen.size());
  double sum = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double q = (reference[i] + 0.5) / (q_total + added);
    const double p = (seen[i] + 0.5) / (p_total + added);
    sum += (p - q) * std::log(p / q);
  }
  return sum;
}

drift::drift(const drift_config& config) : config_(config) {
  config_.bins = std::max<std::size_t>(2, config_.bins);
  config_.reference = std::max(config_.bins, config_.reference);
  config_.horizon = std::max<std::size_t>(2 * config_.reference, config_.horizon);
  if (config_.classes == 0) return;
  ready_ = true;
  old_.assign(config_.classes, 0);
  new_.assign(config_.classes, 0);
}

void drift::add_old(double value) {
  if (std::isnan(value)) return;
  if (ready_) return count(old_, old_total_, value);
  waiting_old_.push_back(value);
  if (waiting_old_.size() >= config_.reference) make_bins();
}

void drift::add_new(double value) {
  if (std::isnan(value)) return;
  if (ready_) return count(new_, new_total_, value);
  if (waiting_new_.size() < config_.reference) waiting_new_.push_back(value);
}

/// Edges at the quantiles of the reference; equal ones are one. A value that many rows share at the low end
/// gets a bin of its own, or what falls below it would not be seen.
void drift::make_bins() {
  std::vector<double> sorted = waiting_old_;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 1; i < config_.bins; ++i) {
    const double edge = sorted[i * sorted.size() / config_.bins];
    if (edges_.empty() || edge > edges_.back()) edges_.push_back(edge);
  }
  if (edges_.front() == sorted.front())
    edges_.insert(edges_.begin(), std::nextafter(sorted.front(), -std::numeric_limits<double>::infinity()));
  old_.assign(edges_.size() + 1, 0);
  new_.assign(edges_.size() + 1, 0);
  ready_ = true;
  for (const double v : waiting_old_) count(old_, old_total_, v);
  for (const double v : waiting_new_) count(new_, new_total_, v);
  std::vector<double>().swap(waiting_old_);
  std::vector<double>().swap(waiting_new_);
}

std::size_t drift::bin_of(double value) const {
  if (config_.classes != 0) {
    if (!(value > 0)) return 0;
    return static_cast<std::size_t>(std::min(value, static_cast<double>(config_.classes - 1)));
  }
  return static_cast<std::size_t>(std::lower_bound(edges_.begin(), edges_.end(), value) - edges_.begin());
}

void drift::count(std::vector<double>& side, double& total, double value) {
  if (total >= static_cast<double>(config_.horizon)) {
    for (double& n : side) n /= 2;
    total /= 2;
  }
  side[bin_of(value)] += 1;
  total += 1;
}

std::optional<drift_reading> drift::read() const {
  if (!ready_ || old_total_ <= 0 || new_total_ <= 0) return std::nullopt;
  drift_reading r;
  r.psi = population_stability_index(old_, new_);
  const double k = static_cast<double>(std::max<std::size_t>(1, old_.size() - 1));
  constexpr double z = 4;
  const double root = 1 - 2 / (9 * k) + z * std::sqrt(2 / (9 * k));
  r.noise = (1 / old_total_ + 1 / new_total_) * k * root * root * root;
  r.old_count = old_total_;
  r.new_count = new_total_;
  return r;
}

}  // namespace troupe::policy
