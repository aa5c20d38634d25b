#include "runtime/policy/restart_policy.hpp"

#include <algorithm>

namespace troupe::policy {

restart_policy::restart_policy(const restart_config& config, std::uint64_t seed)
    : config_(config), random_(seed) {}

restart_policy::decision restart_policy::on_crash(nanos now) {
  const bool anew = crashes_ == 0 || now - last_ >= config_.quiet;
  ++crashes_;
  last_ = now;
  if (config_.intensity != UINT32_MAX) {  // a budget that is never spent keeps no times
    while (!recent_.empty() && now - recent_.front() > config_.period) recent_.pop_front();
    recent_.push_back(now);
    if (recent_.size() > config_.intensity) return {true, 0};
  }

  const auto longest = static_cast<double>(config_.max_delay);
  delay_ = anew ? static_cast<double>(config_.first_delay) : delay_ * config_.factor;
  delay_ = std::min(delay_, longest);
  // Not std::uniform_real_distribution: its numbers differ between standard libraries, and a seed must
  // replay.
  const double random = static_cast<double>(random_() >> 11) * 0x1p-53;
  return {false, static_cast<nanos>(std::min(delay_ * (1 + config_.jitter * random), longest))};
}

std::uint32_t restart_policy::left(nanos now) const {
  const auto within =
      std::count_if(recent_.begin(), recent_.end(), [&](nanos at) { return now - at <= config_.period; });
  return config_.intensity - std::min(config_.intensity, static_cast<std::uint32_t>(within));
}

}  // namespace troupe::policy
