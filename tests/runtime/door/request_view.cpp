// The look-up of a header, for programs that do not link the HTTP front.
#include <strings.h>

#include "runtime/http/exchange.hpp"

namespace troupe::http {

__attribute__((weak)) std::string_view request_view::header(std::string_view name) const {
  for (const auto& [own, value] : headers)
    if (own.size() == name.size() && strncasecmp(own.data(), name.data(), name.size()) == 0) return value;
  return {};
}

}  // namespace troupe::http
