#include "runtime/observe/histogram.hpp"

#include <algorithm>
#include <utility>

namespace troupe::observe {
namespace {

std::vector<double> in_order(std::vector<double> bounds) {
  std::sort(bounds.begin(), bounds.end());
  bounds.erase(std::unique(bounds.begin(), bounds.end()), bounds.end());
  return bounds;
}

}  // namespace

histogram::histogram(std::vector<double> bounds)
    : bounds_(in_order(std::move(bounds))), counts_(bounds_.size() + 1) {}

std::size_t histogram::bucket_of(double value) const {
  // "le": a value on a bound belongs below it.
  return static_cast<std::size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin());
}

void histogram::observe(double value, std::uint64_t n) {
  counts_[bucket_of(value)].fetch_add(n, std::memory_order_relaxed);
  sum_.fetch_add(value * static_cast<double>(n), std::memory_order_relaxed);
}

void histogram::show(exemplar one) {
  const std::size_t at = bucket_of(one.value);
  const std::lock_guard lock(mutex_);
  if (exemplars_.empty()) exemplars_.resize(counts_.size());
  exemplars_[at] = std::move(one);
}

std::vector<exemplar> histogram::exemplars() const {
  const std::lock_guard lock(mutex_);
  return exemplars_;
}

histogram::snapshot histogram::read() const {
  snapshot s;
  s.cumulative.reserve(counts_.size());
  std::uint64_t all = 0;
  for (const auto& c : counts_) s.cumulative.push_back(all += c.load(std::memory_order_relaxed));
  s.sum = sum_.load(std::memory_order_relaxed);
  return s;
}

}  // namespace troupe::observe
