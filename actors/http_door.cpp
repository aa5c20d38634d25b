#include "actors/http_door.hpp"

#include <thread>
#include <utility>

namespace troupe {

http_door::http_door(const http::front_options& options, router route)
    : front_(options), route_(std::move(route)), read_(options.threads) {
  for (std::size_t i = 0; i < options.threads; ++i) desks_.push_back(std::make_shared<gateway_desk>());
}

http_door::~http_door() {
  stop();
}

void http_door::start() {
  front_.start(
      [this](std::size_t thread, http::exchange_ptr e) {
        if (auto made = route_(thread, std::move(e))) read_[thread].push_back(std::move(made));
      },
      [this](std::size_t thread) {
        auto& calls = read_[thread];
        if (!calls.empty()) desks_[thread]->hand_in(std::exchange(calls, {}));
      });
}

std::size_t http_door::open_calls() const {
  std::size_t all = 0;
  for (const auto& desk : desks_) all += desk->open_calls();
  return all;
}

bool http_door::wait_drained(nanos deadline) {
  const auto now = [] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  while ((open_calls() != 0 || front_.connections() != 0) && now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return open_calls() == 0;
}

void http_door::stop() {
  for (const auto& desk : desks_) desk->close();
  front_.stop();
}

}  // namespace troupe
