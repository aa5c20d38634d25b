#pragma once
// The 16-bit floats of V2's FP16 (IEEE 754 binary16) and BF16 (the upper half of a binary32).

#include <bit>
#include <cmath>
#include <cstdint>

namespace troupe::codec {

[[nodiscard]] inline float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

[[nodiscard]] inline float from_fp16(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fU;
  const std::uint32_t fraction = bits & 0x3ffU;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000U | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float tiny = static_cast<float>(fraction) * 0x1p-24F;
  return sign != 0 ? -tiny : tiny;
}

/// The nearest number of a binary float with `digits` bits of precision and the smallest normal exponent
/// `least`; ties to even. Infinity beyond `largest`.
[[nodiscard]] inline double rounded(double x, int digits, int least, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  const int exponent = std::ilogb(x) < least ? least : std::ilogb(x);
  const double step = std::ldexp(1.0, exponent - digits + 1);
  const double y = std::nearbyint(x / step) * step;
  return std::abs(y) > largest ? std::copysign(HUGE_VAL, x) : y;
}

[[nodiscard]] inline double to_fp16(double x) {
  return rounded(x, 11, -14, 65504.0);
}

[[nodiscard]] inline double to_bf16(double x) {
  return rounded(x, 8, -126, 0x1.fep127);
}

}  // namespace troupe::codec
