#pragma once
// The HTTP port of the inference door: its threads, and for each of them a desk where its calls are handed in
// to the gateway of that thread. What can be answered at once (health, metadata, pages) is answered by the
// routes, on the thread.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/gateway_desk.hpp"
#include "runtime/http/front.hpp"

namespace troupe {

class http_door {
 public:
  /// A call to be handed in, or null: the exchange was, or will be, answered.
  using router = std::function<std::unique_ptr<call>(std::size_t thread, http::exchange_ptr)>;

  /// Listens. Throws http::bind_error, std::runtime_error (TLS files).
  http_door(const http::front_options& options, router route);
  ~http_door();
  http_door(const http_door&) = delete;
  http_door& operator=(const http_door&) = delete;

  /// From now on requests are taken.
  void start();
  [[nodiscard]] int port() const { return front_.port(); }
  [[nodiscard]] http::front& front() { return front_; }
  [[nodiscard]] const std::vector<std::shared_ptr<gateway_desk>>& desks() const { return desks_; }
  [[nodiscard]] std::size_t open_calls() const;
  /// No new connections; does not wait.
  void drain() { front_.drain(); }
  /// After drain(): waits for the calls and connections that are open, to the deadline (steady clock). True:
  /// no call is left.
  bool wait_drained(nanos deadline);
  /// Ends everything; the gateways must have ended.
  void stop();

 private:
  http::front front_;
  router route_;
  std::vector<std::shared_ptr<gateway_desk>> desks_;
  std::vector<std::vector<std::unique_ptr<call>>> read_;  // by thread, of this turn
};

}  // namespace troupe
