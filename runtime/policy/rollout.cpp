#include "runtime/policy/rollout.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace troupe::policy {
namespace {

constexpr std::array<std::string_view, 5> strategy_names = {"canary", "header", "ab", "shadow", "blue_green"};
constexpr std::array<std::string_view, 4> reason_names = {"error_rate", "latency", "drift", "unavailable"};

template <class... Values>
std::string line(const char* format, Values... values) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

}  // namespace

std::string_view to_string(rollback_reason r) {
  return reason_names[static_cast<std::size_t>(r)];
}

std::string_view to_string(rollout_strategy s) {
  return strategy_names[static_cast<std::size_t>(s)];
}

std::optional<rollout_strategy> strategy_of(std::string_view name) {
  const auto at = std::find(strategy_names.begin(), strategy_names.end(), name);
  if (at == strategy_names.end()) return std::nullopt;
  return static_cast<rollout_strategy>(at - strategy_names.begin());
}

route::route(rollout_strategy strategy, double share, std::string_view salt) : strategy_(strategy) {
  constexpr double all = 9007199254740992.0;  // 2^53
  threshold_ = static_cast<std::uint64_t>(std::clamp(share, 0.0, 1.0) * all);
  salt_ = hash(salt);
}

std::uint64_t route::hash(std::string_view text) const {
  std::uint64_t h = salt_ ^ (text.size() * 0x9e3779b97f4a7c15ULL);
  const char* at = text.data();
  std::size_t left = text.size();
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, 8);
    h = mix(h ^ word);
  }
  if (left != 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, left);
    h = mix(h ^ word);
  }
  return mix(h);
}

double wilson_lower(double hits, double n, double z) {
  if (n <= 0) return 0;
  const double p = hits / n;
  const double zz = z * z;
  return (p + zz / (2 * n) - z * std::sqrt(p * (1 - p) / n + zz / (4 * n * n))) / (1 + zz / n);
}

rollout_guard::rollout_guard(const guard_config& config) : config_(config), drift_(config.drift) {
  config_.window = std::max<nanos>(config_.window, static_cast<nanos>(slices));
}

std::int64_t rollout_guard::slice_of(nanos now) const {
  return now / (config_.window / static_cast<nanos>(slices));
}

/// Eight bins an octave: the exponent and the three bits below the leading one.
std::size_t rollout_guard::latency_bin(nanos took) {
  const auto us = static_cast<std::uint64_t>(std::max<nanos>(0, took) / 125);  // eighths of a microsecond
  if (us < 8) return 0;
  const int top = static_cast<int>(std::bit_width(us)) - 1;
  const std::size_t bin = static_cast<std::size_t>(top - 3) * 8 + ((us >> (top - 3)) & 7);
  return std::min(bin, latency_bins - 1);
}

nanos rollout_guard::upper_bound(std::size_t bin) {
  const std::size_t octave = bin / 8;
  return static_cast<nanos>((9 + bin % 8) << octave) * 125;
}

void rollout_guard::record(nanos now, arm who, std::uint64_t ok, std::uint64_t failed, nanos took) {
  if (who == arm::none) return;
  const std::int64_t index = slice_of(now);
  slice& s = of(who)[static_cast<std::size_t>(index) % slices];
  if (s.index != index) {
    s = slice();
    s.index = index;
  }
  s.ok += ok;
  s.failed += failed;
  if (took > 0) {
    s.timed += ok + failed;
    s.took[latency_bin(took)] += static_cast<std::uint32_t>(ok + failed);
  }
  if (who == arm::new_version) new_requests_ += ok + failed;
}

void rollout_guard::predicted(arm who, double value) {
  if (who == arm::old_version) drift_.add_old(value);
  if (who == arm::new_version) drift_.add_new(value);
}

arm_reading rollout_guard::read(nanos now, arm who) {
  arm_reading r;
  std::array<std::uint64_t, latency_bins> took{};
  std::uint64_t timed = 0;
  const std::int64_t newest = slice_of(now);
  for (const slice& s : of(who)) {
    if (s.index < 0 || s.index > newest || s.index <= newest - static_cast<std::int64_t>(slices)) continue;
    r.requests += s.ok + s.failed;
    r.failed += s.failed;
    timed += s.timed;
    for (std::size_t i = 0; i < latency_bins; ++i) took[i] += s.took[i];
  }
  if (timed == 0) return r;
  const std::uint64_t rank = timed - timed / 20;
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < latency_bins; ++i) {
    seen += took[i];
    if (seen < rank) continue;
    r.p95 = upper_bound(i);
    break;
  }
  return r;
}

std::optional<verdict> rollout_guard::judge(nanos now) {
  const arm_reading fresh = read(now, arm::new_version);
  const arm_reading base = read(now, arm::old_version);
  if (fresh.requests < config_.min_samples) return std::nullopt;
  const bool compared = base.requests >= config_.min_samples;
  if (!compared && !config_.alone) return std::nullopt;

  const auto n = static_cast<double>(fresh.requests);
  const double rate = static_cast<double>(fresh.failed) / n;
  const double before = compared ? static_cast<double>(base.failed) / static_cast<double>(base.requests) : 0;
  if (wilson_lower(static_cast<double>(fresh.failed), n) > before + config_.max_error_increase)
    return verdict{
        rollback_reason::error_rate,
        line("%.2f %% of %.0f requests failed, against %.2f %% of %.0f; at most %.2f %% more is allowed",
             100 * rate, n, 100 * before, static_cast<double>(base.requests),
             100 * config_.max_error_increase)};
  if (compared && base.p95 > 0 && fresh.p95 > 0) {
    const double ratio = static_cast<double>(fresh.p95) / static_cast<double>(base.p95);
    const nanos more = fresh.p95 - base.p95;
    if (ratio > config_.max_latency_ratio && more > config_.max_latency_increase)
      return verdict{
          rollback_reason::latency,
          line("p95 of the execution time is %.3g ms, against %.3g ms; allowed are %.3g times as much or "
               "%.3g ms more",
               static_cast<double>(fresh.p95) * 1e-6, static_cast<double>(base.p95) * 1e-6,
               config_.max_latency_ratio, static_cast<double>(config_.max_latency_increase) * 1e-6)};
  }
  const auto d = drift_.read();
  const double enough = std::min<double>(config_.min_samples, static_cast<double>(config_.drift.reference));
  if (d && d->new_count >= enough && d->psi > config_.max_psi && d->psi > d->noise)
    return verdict{
        rollback_reason::drift,
        line("population stability index of the predictions is %.3f over %.0f of the new and %.0f of the "
             "old version; at most %.3f is allowed",
             d->psi, d->new_count, d->old_count, config_.max_psi)};
  return std::nullopt;
}

std::optional<rollout_steps::move> rollout_steps::due(nanos now, std::uint64_t new_requests) {
  if (shares_.empty() || at_ >= shares_.size()) return std::nullopt;
  if (now - since_ < every_ || new_requests - requests_ < min_samples_) return std::nullopt;
  begin(now, new_requests);
  if (++at_ >= shares_.size()) return move{1, true};
  return move{shares_[at_], false};
}

}  // namespace troupe::policy
