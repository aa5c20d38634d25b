#include "runtime/traffic/account.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace troupe::traffic {

void latency_histogram::add(std::int64_t us) {
  us = std::max<std::int64_t>(us, 0);
  ++counts_[bucket(us)];
  ++total_;
  max_ = std::max(max_, us);
}

double latency_histogram::quantile_ms(double q) const {
  if (total_ == 0) return 0;
  const auto rank =
      std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(total_))));
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i)
    if ((sum += counts_[i]) >= rank) return static_cast<double>(std::min(upper(i), max_)) / 1000.0;
  return max_ms();
}

std::size_t latency_histogram::bucket(std::int64_t us) {
  const auto value = static_cast<std::uint64_t>(us);
  if (value < 256) return static_cast<std::size_t>(value);
  const auto octave = static_cast<std::size_t>(std::bit_width(value)) - 8;  // at least 1
  return 256 + (octave - 1) * 128 + static_cast<std::size_t>((value >> octave) - 128);
}

std::int64_t latency_histogram::upper(std::size_t bucket) {
  if (bucket < 256) return static_cast<std::int64_t>(bucket);
  const auto octave = (bucket - 256) / 128 + 1;
  const auto step = static_cast<std::uint64_t>((bucket - 256) % 128 + 129);
  return static_cast<std::int64_t>((step << octave) - 1);
}

}  // namespace troupe::traffic
