#include "runtime/policy/bisection.hpp"

#include <algorithm>
#include <utility>

namespace troupe::policy {

void bisection::died(std::span<const row> rows, bool alone, bool hung, std::vector<row>& convicted) {
  if (in_a_row_ < config_.in_a_row) ++in_a_row_;
  if (rows.empty()) return;
  if (alone) {
    const row r = rows.front();
    if (++killed_[r] < config_.kills) {
      groups_.push_back({r});
      return;
    }
    killed_.erase(r);
    convicted.push_back(r);
    return;
  }
  const std::size_t parts = std::min(rows.size(), hung ? std::max<std::size_t>(2, config_.hang_parts) : 2);
  std::size_t at = 0;
  for (std::size_t i = 0; i < parts; ++i) {
    const std::size_t end = rows.size() * (i + 1) / parts;
    groups_.emplace_back(rows.begin() + static_cast<std::ptrdiff_t>(at),
                         rows.begin() + static_cast<std::ptrdiff_t>(end));
    at = end;
  }
}

void bisection::scored(std::span<const row> rows) {
  in_a_row_ = 0;
  if (killed_.empty()) return;
  for (const row r : rows) killed_.erase(r);
}

std::vector<bisection::row> bisection::next(std::size_t most) {
  if (groups_.empty()) return {};
  auto& first = groups_.front();
  if (first.size() > most) {
    std::vector<row> some(first.begin(), first.begin() + static_cast<std::ptrdiff_t>(most));
    first.erase(first.begin(), first.begin() + static_cast<std::ptrdiff_t>(most));
    return some;
  }
  std::vector<row> out = std::move(first);
  groups_.pop_front();
  return out;
}

std::size_t bisection::known() const {
  std::size_t n = killed_.size();
  for (const auto& g : groups_)
    n += static_cast<std::size_t>(
        std::count_if(g.begin(), g.end(), [&](row r) { return !killed_.contains(r); }));
  return n;
}

void bisection::take_all(std::vector<row>& out) {
  for (const auto& g : groups_) out.insert(out.end(), g.begin(), g.end());
  groups_.clear();
  killed_.clear();
}

}  // namespace troupe::policy
