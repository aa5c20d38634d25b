#pragma once
// What a record's content-type header says about its value.

#include <string_view>

namespace troupe::codec {

/// The value is the request's bytes (a picture, a file), not JSON.
[[nodiscard]] inline bool holds_bytes(std::string_view content_type) {
  return content_type.starts_with("image/") || content_type.starts_with("application/octet-stream");
}

}  // namespace troupe::codec
