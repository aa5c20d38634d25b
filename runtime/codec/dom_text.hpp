#pragma once
// What the readers of a request's JSON share.

#include <string_view>

namespace simdjson::dom {
class element;
}

namespace troupe::codec {

// Tokens that JSON has no number for stand as these strings in a repaired text.
inline constexpr std::string_view not_a_number{"\0NaN\0", 5};
inline constexpr std::string_view out_of_range{"\0range\0", 7};

/// The element as what its type says it is.
template <class T, class Element>
T as(const Element& e) {
  T value{};
  return e.get(value) ? T{} : value;
}

/// "a list", "a string", ... for messages.
[[nodiscard]] std::string_view found(const simdjson::dom::element& e);

}  // namespace troupe::codec
