#pragma once
// gzip and deflate (RFC 9110, 8.4.1), by zlib.

#include <cstddef>
#include <string>
#include <string_view>

#include "runtime/http/byte_buffer.hpp"

namespace troupe::http {

enum class coding { identity, gzip, deflate, unknown };

/// Of a Content-Encoding; a list of several is unknown.
[[nodiscard]] coding content_coding(std::string_view field);

/// The best for us that an Accept-Encoding allows: gzip, deflate or identity.
[[nodiscard]] coding accepted_coding(std::string_view field);

/// As a Content-Encoding names it.
[[nodiscard]] std::string_view coding_name(coding which);

enum class inflated { ok, too_large, broken };

/// `deflate` may have its zlib header or not, gzip several members; bytes behind the end are an error. Stops
/// as soon as there are more than `most` bytes.
[[nodiscard]] inflated inflate_all(coding which, std::string_view bytes, std::size_t most, byte_buffer& to);

/// Empty if zlib had no memory. The fastest level.
[[nodiscard]] std::string deflate_all(coding which, std::string_view bytes);

}  // namespace troupe::http
