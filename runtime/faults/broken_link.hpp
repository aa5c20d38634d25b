#pragma once
// Faults of a connection, met by the real client: it sees its sockets die, its connects refused, its answers
// late or garbled.
//
// Nothing is on the way of the bytes while no fault is active. When one begins, connections that stand are
// shut down; what is opened then is refused (cut), or led through a relay on 127.0.0.1 (slow, corrupt). When
// it ends the relay closes its connections, and the client connects directly again.
//
// What is garbled is what the client can notice: of plain Kafka the length of an answer, of plain Redis the
// first byte of an answer, of plain HTTP the status line, of TLS any byte. The contents of a plain protocol
// without checksums are left alone: nobody could tell them from true ones.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "messages/batch.hpp"
#include "runtime/policy/socket_watch.hpp"

namespace troupe::faults {

class broken_link final : public policy::socket_watch {
 public:
  enum class protocol : std::uint8_t { kafka, redis, http };
  enum class mode : std::uint8_t { whole, cut, slow, corrupt };

  /// `struck` is called, from any thread, for what was done to the client: a connection shut or refused, a
  /// piece of answer held back or garbled.
  broken_link(protocol speaks, std::function<void()> struck, std::uint64_t seed);
  ~broken_link() override;
  broken_link(const broken_link&) = delete;
  broken_link& operator=(const broken_link&) = delete;

  /// `delay` of slow, `probability` of corrupt (an answer, or what comes of it at once). Throws
  /// std::runtime_error when there is no socket to be had.
  void begin(mode how, nanos delay, double probability);
  /// The link is whole again. Idempotent.
  void end();

  std::uint16_t opening(const std::string& address, std::uint16_t port) override;
  void opened(int fd, bool redirected) override;
  void closing(int fd) override;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::faults
