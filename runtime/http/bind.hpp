#pragma once
// Listening sockets, and what is said when a port can't be had.

#include <stdexcept>
#include <string>

namespace troupe::http {

/// The port can't be had. One line with the reason and the remedy.
struct bind_error : std::runtime_error {
  using std::runtime_error::runtime_error;
  bool in_use = false;  ///< somebody listens there
};

/// The address a server listens on, as the user has set it.
struct bind_address {
  std::string bind;  ///< an IPv4 or IPv6 address
  int port = 0;
  std::string name;  ///< the option that set the port, for errors: http.port
};

/// `bind` is no IP address.
[[nodiscard]] bind_error not_an_address(const bind_address& what);
/// `error` (an errno of socket, bind or listen) in words, with the remedy.
[[nodiscard]] bind_error bind_failed(const bind_address& what, int error);

struct listener {
  int socket = -1;  ///< non-blocking, close-on-exec; the caller closes it
  int port = 0;     ///< the one it has when 0 was asked for
};

/// Binds and listens. Throws bind_error.
[[nodiscard]] listener listen_on(const bind_address& what);

}  // namespace troupe::http
