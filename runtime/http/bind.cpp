#include "runtime/http/bind.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace troupe::http {
namespace {

std::string where(const bind_address& what) {
  return what.name + " " + std::to_string(what.port) + " on " + what.bind;
}

}  // namespace

bind_error not_an_address(const bind_address& what) {
  return bind_error(where(what) + ": '" + what.bind +
                    "' is no IP address; use for example 0.0.0.0 or 127.0.0.1");
}

bind_error bind_failed(const bind_address& what, int error) {
  if (error == EADDRINUSE) {
    bind_error taken(where(what) + " is in use: end the program that listens there, or set " + what.name +
                     " to a free port (0 takes any)");
    taken.in_use = true;
    return taken;
  }
  if (error == EACCES)
    return bind_error(where(what) + " is not allowed: ports below 1024 need a privilege; set " + what.name +
                      " to a higher one");
  return bind_error(where(what) + " can't be opened: " + std::generic_category().message(error));
}

listener listen_on(const bind_address& what) {
  sockaddr_storage address{};
  socklen_t length = 0;
  auto* four = reinterpret_cast<sockaddr_in*>(&address);
  auto* six = reinterpret_cast<sockaddr_in6*>(&address);
  const auto port = htons(static_cast<std::uint16_t>(what.port));
  if (::inet_pton(AF_INET, what.bind.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = port;
    length = sizeof *four;
  } else if (::inet_pton(AF_INET6, what.bind.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = port;
    length = sizeof *six;
  } else {
    throw not_an_address(what);
  }
  listener made;
  made.socket = ::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (made.socket < 0) throw bind_failed(what, errno);
  const int on = 1;
  ::setsockopt(made.socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(made.socket, reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      ::listen(made.socket, SOMAXCONN) != 0 ||
      ::getsockname(made.socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    const int error = errno;
    ::close(made.socket);
    throw bind_failed(what, error);
  }
  made.port = ntohs(address.ss_family == AF_INET ? four->sin_port : six->sin6_port);
  return made;
}

}  // namespace troupe::http
