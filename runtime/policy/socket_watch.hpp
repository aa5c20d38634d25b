#pragma once
// Who sees the sockets of a client (of Kafka, Redis, the registry) come and go, and may send a connection to
// another place. Implemented where connections are broken on purpose; a client without one pays nothing.

#include <cstdint>
#include <string>

namespace troupe::policy {

/// Safe to call from any thread; never blocks.
class socket_watch {
 public:
  virtual ~socket_watch() = default;
  /// Where a connection to this numeric address goes: to this port of 127.0.0.1, or, with 0, there.
  [[nodiscard]] virtual std::uint16_t opening(const std::string& address, std::uint16_t port) = 0;
  /// A connection is being made; `redirected`: as opening() said. The descriptor stays open until closing().
  virtual void opened(int fd, bool redirected) = 0;
  virtual void closing(int fd) = 0;
};

}  // namespace troupe::policy
