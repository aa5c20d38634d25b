#pragma once
// A form that uploads one file (multipart/form-data, RFC 7578 over RFC 2046), strictly: what two readers
// could take differently is refused. No text before the first boundary or behind the last, no nested
// multipart, no transfer encoding, lines end with CRLF.

#include <string_view>

#include "runtime/codec/request_head.hpp"

namespace troupe::codec {

/// Views of the body.
struct uploaded_file {
  std::string_view field;         ///< image or file
  std::string_view filename;      ///< as sent, not to be trusted; empty: none
  std::string_view content_type;  ///< empty: none
  std::string_view bytes;
};

/// Whether the media type is multipart/form-data.
[[nodiscard]] bool holds_form(std::string_view content_type);

/// `body` has exactly one part, named `image` or `file`. Each part has at most 8 KiB of header. A fault is
/// invalid_json (400) and says what is wrong; `into` is then not to be used. Linear in the body's size.
[[nodiscard]] request_fault read_upload(std::string_view body, std::string_view content_type,
                                        uploaded_file& into);

}  // namespace troupe::codec
