#pragma once
// What a record's content-type header says about its value.

#include <algorithm>
#include <string_view>

namespace troupe::codec {

/// The value is the request's bytes (a picture, a file), not JSON. Media types are the same in capitals.
[[nodiscard]] inline bool holds_bytes(std::string_view content_type) {
  const auto begins = [&](std::string_view with) {
    return content_type.size() >= with.size() &&
           std::equal(with.begin(), with.end(), content_type.begin(), [](char wanted, char c) {
             return wanted == (c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c);
           });
  };
  return begins("image/") || begins("application/octet-stream");
}

}  // namespace troupe::codec
