#pragma once
// Base64 (RFC 4648, section 4).

#include <cstddef>
#include <optional>
#include <string_view>

namespace troupe::codec {

/// Bytes that `text` may decode to at most.
[[nodiscard]] constexpr std::size_t decoded_size(std::string_view text) {
  return text.size() / 4 * 3 + 3;
}

/// Decodes into `out` (decoded_size(text) bytes) and returns how many there are; none if a character is not
/// of the alphabet, the padding is wrong, or bits are left over. Padding may be left out.
[[nodiscard]] std::optional<std::size_t> decode_base64(std::string_view text, char* out);

}  // namespace troupe::codec
