#include "runtime/policy/month_count.hpp"

#include <algorithm>

namespace troupe::policy {
namespace {

constexpr std::int64_t day = 86'400;

/// Days since 1970 of the first of a month (months since January 1970, from 0), by counting 400-year cycles
/// from March, as in the days_from_civil algorithm of H. Hinnant.
std::int64_t days_before(int month) {
  const std::int64_t y = 1970 + month / 12 - (month % 12 < 2 ? 1 : 0);
  const std::int64_t m = (month % 12 + 10) % 12;  // from March
  const std::int64_t era = y / 400, of_era = y % 400;
  return era * 146'097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 - 719'468;
}

}  // namespace

int month_of(std::int64_t epoch_seconds) {
  const std::int64_t days = std::max<std::int64_t>(0, epoch_seconds) / day;
  int month = static_cast<int>(static_cast<double>(days) / 30.436875);
  while (days_before(month) > days) --month;
  while (days_before(month + 1) <= days) ++month;
  return month;
}

std::int64_t month_end(int month) {
  return days_before(month + 1) * day;
}

std::string month_text(int month) {
  const int m = month % 12 + 1;
  return std::to_string(1970 + month / 12) + (m < 10 ? "0" : "") + std::to_string(m);
}

bool month_count::take(int month, std::uint64_t most, std::uint64_t count) {
  if (month > month_) {  // a clock that is set back does not give a month away again
    month_ = month;
    known_ = pending_ = 0;
  }
  const std::uint64_t before = known_ + pending_;
  if (most != 0 && (before >= most || most - before < count)) return false;
  pending_ += count;
  return true;
}

void month_count::merged(int month, std::uint64_t added, std::uint64_t total) {
  if (month != month_) return;
  pending_ -= std::min(added, pending_);
  known_ = total;
}

}  // namespace troupe::policy
