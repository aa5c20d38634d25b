#pragma once
// What the readers of a request's JSON share.

#include <string_view>

namespace simdjson::dom {
class element;
}

namespace troupe::codec {

// Tokens that JSON has no number for stand as these strings in a repaired text.
inline constexpr std::string_view not_a_number{"\0NaN\0", 5};
inline constexpr std::string_view not_finite{"\0Infinity\0", 10};
inline constexpr std::string_view out_of_range{"\0range\0", 7};

[[nodiscard]] inline bool is_marker(std::string_view text) {
  return !text.empty() && text[0] == '\0' &&
         (text == not_a_number || text == not_finite || text == out_of_range);
}

/// The element as what its type says it is.
template <class T, class Element>
T as(const Element& e) {
  T value{};
  return e.get(value) ? T{} : value;
}

/// "a list", "a string", ... for messages.
[[nodiscard]] std::string_view found(const simdjson::dom::element& e);

}  // namespace troupe::codec
