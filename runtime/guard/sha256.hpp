#pragma once
// SHA-256 (FIPS 180-4), without an allocation.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::guard {

using digest = std::array<std::uint8_t, 32>;

[[nodiscard]] digest sha256(std::string_view text);
/// In a time that does not depend on where they differ.
[[nodiscard]] bool same(const digest& a, const digest& b);
/// 64 hexadecimal digits.
[[nodiscard]] std::optional<digest> parse_digest(std::string_view text);
[[nodiscard]] std::string shown(const digest& d);

/// `bytes` random bytes of the operating system's kind for keys, in base64url without padding.
[[nodiscard]] std::string random_text(std::size_t bytes);

}  // namespace troupe::guard
