#pragma once
// base64url without padding (RFC 7515, 2), strict: any other character, a length that can't be and bits that
// are left over are refused, so that one value has one text.

#include <optional>
#include <string>
#include <string_view>

namespace troupe::guard {

[[nodiscard]] std::optional<std::string> from_base64url(std::string_view text);
[[nodiscard]] std::string to_base64url(std::string_view bytes);

}  // namespace troupe::guard
