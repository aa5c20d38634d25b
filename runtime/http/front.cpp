#include "runtime/http/front.hpp"

#include <unistd.h>

#include <stdexcept>
#include <thread>
#include <utility>

#include "runtime/http/front_loop.hpp"
#include "runtime/http/text.hpp"

namespace troupe::http {

std::string_view request_view::header(std::string_view name) const {
  for (const auto& [own, value] : headers)
    if (same_name(own, name)) return value;
  return {};
}

struct front::impl {
  explicit impl(const front_options& o) : shared(o) {}

  [[nodiscard]] std::shared_ptr<const tls_context> read_tls() const {
    const std::string& name = shared.options.name;
    return std::make_shared<const tls_context>(shared.options.tls, name.substr(0, name.find('.')));
  }

  /// The loop with the fewest connections; among equals, in turn. One acceptor spreads a few long-lived
  /// connections evenly, which SO_REUSEPORT's hash does not.
  front_loop& next() {
    std::size_t best = turn % loops.size();
    for (std::size_t i = 1; i < loops.size(); ++i) {
      const std::size_t other = (turn + i) % loops.size();
      if (loops[other]->connections() < loops[best]->connections()) best = other;
    }
    turn = best + 1;
    return *loops[best];
  }

  front_shared shared;
  listener listening;
  std::vector<std::unique_ptr<front_loop>> loops;
  std::vector<std::thread> threads;
  std::size_t turn = 0;  // of the accepting thread
};

front::front(const front_options& options) : impl_(std::make_unique<impl>(options)) {
  if (options.threads == 0) throw std::invalid_argument("front: no threads");
  if (!options.tls.certificate.empty()) impl_->shared.tls_now = impl_->read_tls();
  impl_->listening = listen_on({options.bind, options.port, options.name});
}

front::~front() {
  stop();
}

void front::start(taker take, ender turn_over) {
  front_shared& shared = impl_->shared;
  shared.take = std::move(take);
  shared.turn_over = std::move(turn_over);
  for (std::size_t i = 0; i < shared.options.threads; ++i)
    impl_->loops.push_back(std::make_unique<front_loop>(shared, i));
  impl_->loops.front()->accept_from(std::exchange(impl_->listening.socket, -1),
                                    [this]() -> front_loop& { return impl_->next(); });
  for (auto& loop : impl_->loops) impl_->threads.emplace_back([one = loop.get()] { one->run(); });
}

int front::port() const {
  return impl_->listening.port;
}

std::size_t front::connections() const {
  return impl_->shared.connections.load(std::memory_order_relaxed);
}

std::string front::reload_tls() {
  if (impl_->shared.options.tls.certificate.empty()) return {};
  try {
    auto fresh = impl_->read_tls();
    const std::lock_guard lock(impl_->shared.tls_mutex);
    impl_->shared.tls_now = std::move(fresh);
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return {};
}

void front::drain() {
  impl_->shared.draining.store(true, std::memory_order_release);
  for (auto& loop : impl_->loops) loop->wake();
}

void front::stop() {
  impl_->shared.stopping.store(true, std::memory_order_release);
  for (auto& loop : impl_->loops) loop->wake();
  for (auto& thread : impl_->threads) thread.join();
  impl_->threads.clear();
  impl_->loops.clear();
  if (impl_->listening.socket >= 0) ::close(std::exchange(impl_->listening.socket, -1));
}

}  // namespace troupe::http
