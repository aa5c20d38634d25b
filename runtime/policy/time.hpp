#pragma once
// Time as policy code sees it: an argument, in nanoseconds of whatever steady clock the caller reads.

#include <cstdint>
#include <limits>

namespace troupe::policy {

using nanos = std::int64_t;

inline constexpr nanos microsecond = 1'000;
inline constexpr nanos millisecond = 1'000'000;
inline constexpr nanos second = 1'000'000'000;
inline constexpr nanos minute = 60 * second;
inline constexpr nanos never = std::numeric_limits<nanos>::max();

/// a + b for b >= 0, where `never` stays `never`.
[[nodiscard]] constexpr nanos later(nanos a, nanos b) {
  return a > never - b ? never : a + b;
}

}  // namespace troupe::policy
