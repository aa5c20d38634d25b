#pragma once
// A classifier's row of probabilities, as every answer reads it.

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

namespace troupe::codec {

/// Leaves that are float32 add up to a little more than one.
[[nodiscard]] inline double probability(double p) {
  constexpr double rounding = 1e-6;
  if (p > 1 && p <= 1 + rounding) return 1.0;
  return p < 0 && p >= -rounding ? 0.0 : p;
}

/// The largest of `width` numbers; the first of equal ones.
[[nodiscard]] inline std::size_t likeliest(const double* p, std::size_t width) {
  return static_cast<std::size_t>(std::max_element(p, p + width) - p);
}

/// Puts the indices of the `top` largest first, in order. `order` is overwritten.
inline void rank(const double* p, std::size_t width, std::size_t top, std::vector<std::size_t>& order) {
  order.resize(width);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(std::min(top, width)),
                    order.end(),
                    [&](std::size_t a, std::size_t b) { return p[a] != p[b] ? p[a] > p[b] : a < b; });
}

}  // namespace troupe::codec
