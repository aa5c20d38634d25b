#include "runtime/policy/admission.hpp"

#include <algorithm>
#include <stdexcept>

namespace troupe::policy {
namespace {

constexpr double weight = 0.05;  // of the newest batch: about the last twenty count

}  // namespace

admission::admission(std::size_t classes, std::size_t slots) : slots_(slots), wait_(classes) {
  if (classes == 0 || slots == 0)
    throw std::invalid_argument("admission needs at least one class and one slot");
}

void admission::observe(std::size_t rows, nanos took) {
  if (rows == 0 || took < 0) return;
  const double cost = static_cast<double>(took) / static_cast<double>(rows);
  // A stall of the machine is no news about the rows.
  row_cost_ = row_cost_ == 0 ? cost : row_cost_ + weight * (std::min(cost, 3 * row_cost_) - row_cost_);
}

void admission::publish(std::span<const std::uint64_t> rows_waiting) {
  double rows = 0;
  for (std::size_t c = 0; c < wait_.size() && c < rows_waiting.size(); ++c) {
    rows += static_cast<double>(rows_waiting[c]);
    wait_[c].store(static_cast<nanos>(rows * row_cost_ / static_cast<double>(slots_)),
                   std::memory_order_relaxed);
  }
}

nanos admission::wait(std::size_t cls) const {
  return wait_[std::min(cls, wait_.size() - 1)].load(std::memory_order_relaxed);
}

std::optional<nanos> admission::refuse(std::size_t cls, nanos now, nanos latest) const {
  const nanos expected = wait(cls);
  if (expected == 0 || expected <= latest - now) return std::nullopt;
  return std::max<nanos>(1, expected - std::max<nanos>(0, latest - now));
}

}  // namespace troupe::policy
