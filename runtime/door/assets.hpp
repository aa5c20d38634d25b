#pragma once
// Files that the program carries within itself.

#include <string_view>

namespace troupe::serving {

/// runtime/door/openapi.json: the document without what depends on the models.
[[nodiscard]] std::string_view openapi_source();
/// runtime/door/docs.html
[[nodiscard]] std::string_view docs_source();

}  // namespace troupe::serving
