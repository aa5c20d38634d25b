#include "runtime/codec/dom_text.hpp"

#include <simdjson.h>

namespace troupe::codec {

std::string_view found(const simdjson::dom::element& e) {
  switch (e.type()) {
    case simdjson::dom::element_type::ARRAY:
      return "a list";
    case simdjson::dom::element_type::OBJECT:
      return "an object";
    case simdjson::dom::element_type::BOOL:
      return "a boolean";
    case simdjson::dom::element_type::NULL_VALUE:
      return "null";
    case simdjson::dom::element_type::STRING: {
      const std::string_view text = as<std::string_view>(e);
      if (text == not_a_number || text == not_finite) return "NaN or Infinity";
      if (text == out_of_range) return "a number beyond the range of a double";
      return "a string";
    }
    default:
      return "a number";
  }
}

}  // namespace troupe::codec
