#include "runtime/policy/gather.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::policy {
namespace {

constexpr double time_constant = 0.2;  // seconds

}  // namespace

gather::gather(nanos min, nanos max) : min_(std::max<nanos>(0, min)), max_(std::max(min_, max)) {}

double gather::rate(nanos now) const {
  if (now <= last_) return rate_;
  return rate_ * std::exp(-static_cast<double>(now - last_) / (time_constant * static_cast<double>(second)));
}

void gather::observe(nanos now, std::size_t records) {
  rate_ = rate(now) + static_cast<double>(records) / time_constant;
  last_ = std::max(last_, now);
}

nanos gather::hold_for(double rate) const {
  const double share = std::clamp((rate - slow) / (busy - slow), 0.0, 1.0);
  return min_ + static_cast<nanos>(share * static_cast<double>(max_ - min_));
}

}  // namespace troupe::policy
