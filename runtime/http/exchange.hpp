#pragma once
// One HTTP request as a door's handlers see it, and the place for its reply.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "messages/batch.hpp"
#include "runtime/http/message.hpp"

namespace troupe::http {

using field_view = std::pair<std::string_view, std::string_view>;

/// Views are good until the exchange is destroyed.
struct request_view {
  std::string_view method;
  std::string_view path;   ///< the target up to '?', percent-encoding as sent
  std::string_view query;  ///< after '?'
  std::span<const field_view> headers;
  std::string_view body;            ///< without its Content-Encoding; 64 more bytes behind it may be read
  std::string_view client;          ///< address of the peer, without port
  std::string_view certificate;     ///< subject of a verified client certificate; empty: none
  std::string_view correlation_id;  ///< X-Correlation-ID or X-Request-ID, or one made for it
  nanos arrived = 0;                ///< steady clock, when the header was complete

  /// The first header of that name (case does not matter); empty if there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

class exchange {
 public:
  exchange() = default;
  exchange(const exchange&) = delete;
  exchange& operator=(const exchange&) = delete;
  /// Destroyed without a reply: 503.
  virtual ~exchange() = default;

  [[nodiscard]] virtual const request_view& request() const = 0;
  /// Once, from any thread. The correlation id and what CORS asks for are added.
  virtual void reply(response&& what) = 0;
  /// Nobody waits for the reply any more: the client has closed its connection, or was told 504. A client
  /// that has only ended its own side after the request looks the same; a reply is still sent to it. Any
  /// thread.
  [[nodiscard]] virtual bool gone() const = 0;
  /// Null: it is not traced.
  [[nodiscard]] virtual std::shared_ptr<const observe::request_trace> trace() const { return nullptr; }
};

using exchange_ptr = std::shared_ptr<exchange>;

}  // namespace troupe::http
