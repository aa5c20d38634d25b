#include "runtime/policy/circuit.hpp"

#include <algorithm>

namespace troupe::policy {

circuit::circuit(const circuit_config& config) : config_(config) {
  config_.probes = std::max<std::uint32_t>(1, config_.probes);
}

std::int64_t circuit::slice_of(nanos now) const {
  return now / std::max<nanos>(1, config_.window / static_cast<nanos>(slices));
}

void circuit::change(circuit_state to, nanos now) {
  state_ = to;
  ++transitions_;
  in_a_row_ = 0;
  probes_left_ = to == circuit_state::half_open ? config_.probes : 0;
  until_ = later(now, config_.open_for);
  if (to == circuit_state::closed) window_ = {};
}

circuit_state circuit::state(nanos now) {
  if (state_ == circuit_state::open && now >= until_) {
    change(circuit_state::half_open, now);
  } else if (state_ == circuit_state::half_open && now >= until_) {
    probes_left_ = config_.probes;
    until_ = later(now, config_.open_for);
  }
  return state_;
}

bool circuit::allow(nanos now) {
  switch (state(now)) {
    case circuit_state::closed:
      return true;
    case circuit_state::open:
      return false;
    case circuit_state::half_open:
      break;
  }
  if (probes_left_ == 0) return false;
  --probes_left_;
  return true;
}

void circuit::record(nanos now, std::uint64_t ok, std::uint64_t failed) {
  if (ok + failed == 0) return;
  switch (state(now)) {
    case circuit_state::open:
      return;
    case circuit_state::half_open:
      change(failed >= ok ? circuit_state::open : circuit_state::closed, now);
      return;
    case circuit_state::closed:
      break;
  }
  const std::int64_t index = slice_of(now);
  slice& s = window_[static_cast<std::size_t>(index % static_cast<std::int64_t>(slices))];
  if (s.index != index) s = {index, 0, 0};
  s.ok += ok;
  s.failed += failed;
  in_a_row_ = ok == 0 ? in_a_row_ + failed : 0;
  const bool row = config_.threshold != 0 && in_a_row_ >= config_.threshold;
  if (row || (failed != 0 && rate_exceeded(now))) change(circuit_state::open, now);
}

bool circuit::rate_exceeded(nanos now) const {
  const std::int64_t index = slice_of(now);
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;
  for (const auto& s : window_) {
    if (s.index < 0 || index - s.index >= static_cast<std::int64_t>(slices)) continue;
    ok += s.ok;
    failed += s.failed;
  }
  const std::uint64_t calls = ok + failed;
  return calls != 0 && calls >= config_.min_calls &&
         static_cast<double>(failed) >= config_.failure_rate * static_cast<double>(calls);
}

nanos circuit::next_probe() const {
  if (state_ == circuit_state::closed || probes_left_ > 0) return 0;
  return until_;
}

}  // namespace troupe::policy
