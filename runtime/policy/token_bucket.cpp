#include "runtime/policy/token_bucket.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace troupe::policy {
namespace {

constexpr double rounding = 1e-9;  // sums of fractions of a token must not fall short by an ulp

}  // namespace

token_bucket::token_bucket(double rate, double burst) : rate_(rate), burst_(burst), tokens_(burst) {
  if (!(rate >= 0) || !std::isfinite(rate))
    throw std::invalid_argument("token_bucket: rate must not be negative");
  if (!(burst > 0) || !std::isfinite(burst))
    throw std::invalid_argument("token_bucket: burst must be greater than zero");
}

double token_bucket::available(nanos now) const {
  if (!started_ || now <= last_) return tokens_;
  return std::min(burst_, tokens_ + rate_ * static_cast<double>(now - last_) / static_cast<double>(second));
}

bool token_bucket::take(nanos now, double tokens) {
  tokens_ = available(now);
  last_ = started_ ? std::max(last_, now) : now;
  started_ = true;
  if (tokens > tokens_ + rounding) return false;
  tokens_ = std::max(0.0, tokens_ - tokens);
  return true;
}

nanos token_bucket::wait(nanos now, double tokens) const {
  const double missing = tokens - available(now);
  if (missing <= rounding) return 0;
  if (tokens > burst_ + rounding || rate_ <= 0) return never;
  const double ns = std::ceil(missing / rate_ * static_cast<double>(second));
  return ns >= static_cast<double>(never) ? never : static_cast<nanos>(ns);
}

}  // namespace troupe::policy
