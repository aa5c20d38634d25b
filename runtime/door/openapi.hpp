#pragma once
// The door's own description: an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0), and the page
// that shows it and tries it out.

#include <string>
#include <string_view>

#include "runtime/guard/guard.hpp"
#include "runtime/http/message.hpp"

namespace troupe::model {
class loaded_model;
class model_table;
}  // namespace troupe::model

namespace troupe::serving {

/// The document for these models: requests that they answer stand as examples, /score and /invocations say
/// what the default model's rows are, and x-models has each model's inputs:
///   {"name", "version", "versions", "default", "explains", "file": it takes a picture or a file,
///    "classes": of a classifier, up to 200,
///    "features": [{"name", "missing": whether it may be, "minimum", "maximum", "categories"}]
///    or "inputs": [{"name", "holds": number, text or bytes, "shape": of a row}]}
/// Features beyond the first 200 are left out, and "more" says how many. Where credentials are asked for, the
/// security schemes, and which paths need none; 401, 403 and 429 where they may come.
[[nodiscard]] std::string openapi_document(const model::model_table& models, std::string_view version,
                                           const guard::guard_terms& terms = {});

/// The page, with a Content-Security-Policy that lets only its own script and style run.
[[nodiscard]] http::response docs_reply();

/// Whether a browser asks: its Accept names text/html.
[[nodiscard]] bool wants_page(std::string_view accept);

}  // namespace troupe::serving
