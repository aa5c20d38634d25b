#pragma once
// A text in a row of doubles: the cell's bits are the address of a std::string_view, which has to live as
// long as the row is used. Such a cell is never a NaN (addresses are below 2^48), so a missing text stays
// one.

#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace troupe::model {

[[nodiscard]] inline double text_cell(const std::string_view* text) {
  static_assert(sizeof(std::uintptr_t) == sizeof(double));
  return std::bit_cast<double>(reinterpret_cast<std::uintptr_t>(text));
}

/// Empty for a missing text and for the cell 0.
[[nodiscard]] inline std::string_view text_in(double cell) {
  const auto bits = std::bit_cast<std::uintptr_t>(cell);
  if (bits == 0 || std::isnan(cell)) return {};
  return *reinterpret_cast<const std::string_view*>(bits);
}

}  // namespace troupe::model
