#pragma once
// One thread of the front: its connections, and the epoll loop that serves them.
//
// An own loop on epoll, because it asks the kernel for less than a general one: a socket is registered once,
// edge-triggered, for everything, and a read that got less than it asked for is the last one until the next
// event. A request that fits costs one recv and one sendmsg. The end of a turn, where calls are handed on
// together, is the end of one epoll_wait's events.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "runtime/http/cors.hpp"
#include "runtime/http/front.hpp"
#include "runtime/http/front_exchange.hpp"
#include "runtime/http/tls.hpp"

namespace troupe::http {

/// What all loops of a front share.
struct front_shared {
  explicit front_shared(const front_options& o);

  const front_options options;
  const cors_policy cors;
  std::string too_large, too_large_plain, too_large_with_hint;  ///< reasons of 413
  front::taker take;
  front::ender turn_over;
  std::atomic<std::size_t> connections{0};
  std::shared_ptr<std::atomic<std::size_t>> buffered = std::make_shared<std::atomic<std::size_t>>(0);
  std::atomic<bool> draining{false};
  std::atomic<bool> stopping{false};

  [[nodiscard]] std::shared_ptr<const tls_context> tls() const {
    const std::lock_guard lock(tls_mutex);
    return tls_now;
  }
  mutable std::mutex tls_mutex;
  std::shared_ptr<const tls_context> tls_now;
};

class front_loop {
 public:
  front_loop(front_shared& shared, std::size_t index);
  ~front_loop();
  front_loop(const front_loop&) = delete;
  front_loop& operator=(const front_loop&) = delete;

  /// Before run(): accepts from `socket`, which it closes, and hands each connection to the loop that `pick`
  /// names.
  void accept_from(int socket, std::function<front_loop&()> pick);

  /// Until shared.stopping is set and wake() called.
  void run();

  // Any thread.
  void wake() const { port_->wake(); }
  [[nodiscard]] std::size_t connections() const { return own_.load(std::memory_order_relaxed); }

 private:
  struct impl;

  std::shared_ptr<loop_port> port_;
  std::atomic<std::size_t> own_{0};
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::http
