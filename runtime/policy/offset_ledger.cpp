#include "runtime/policy/offset_ledger.hpp"

#include <algorithm>

namespace troupe::policy {

void offset_ledger::reset(std::uint32_t generation) {
  head_ = tail_;
  in_flight_ = 0;
  next_ = -1;
  taken_ = -1;
  generation_ = generation;
  fenced_ = false;
}

std::optional<std::int64_t> offset_ledger::committable() {
  if (fenced_ || next_ == taken_) return std::nullopt;
  taken_ = next_;
  return next_;
}

std::optional<std::int64_t> offset_ledger::position() const {
  if (fenced_ || next_ < 0) return std::nullopt;
  return next_;
}

void offset_ledger::grow() {
  std::vector<std::int64_t> larger(std::max<std::size_t>(64, 2 * ring_.size()));
  for (std::uint64_t seq = head_; seq != tail_; ++seq)
    larger[seq & (larger.size() - 1)] = ring_[seq & (ring_.size() - 1)];
  ring_.swap(larger);
}

}  // namespace troupe::policy
