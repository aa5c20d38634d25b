#include "runtime/observe/histogram.hpp"

#include <algorithm>

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

void histogram::observe(double value, std::uint64_t n) {
  // "le": a value on a bound belongs below it.
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<std::size_t>(at)].fetch_add(n, std::memory_order_relaxed);
  sum_.fetch_add(value * static_cast<double>(n), std::memory_order_relaxed);
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
