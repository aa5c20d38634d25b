#pragma once
// The exchanges of the front: pooled, and good beyond the connection, the loop and the front they came from.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/http/byte_buffer.hpp"
#include "runtime/http/content_coding.hpp"
#include "runtime/http/exchange.hpp"
#include "runtime/http/request_head.hpp"

namespace troupe::http {

class pooled_exchange;
struct front_connection;

/// A loop's mailbox: what other threads have for it. Outlives the loop as long as an exchange does.
class loop_port : public std::enable_shared_from_this<loop_port> {
 public:
  struct incoming {
    int socket = -1;
    std::string client;
    bool refused = false;
  };

  loop_port();
  ~loop_port();
  loop_port(const loop_port&) = delete;
  loop_port& operator=(const loop_port&) = delete;

  /// An eventfd, to be watched edge-triggered.
  [[nodiscard]] int wake_socket() const { return wake_; }
  void wake() const;

  /// The replied exchange goes back to its loop; one wake-up for as many as come before the loop looks.
  void deliver(pooled_exchange* replied);
  /// False when the loop has ended: the socket is still the caller's.
  [[nodiscard]] bool adopt(incoming&& one);

  // On the loop's thread.
  void own_thread();
  [[nodiscard]] pooled_exchange* take();
  /// Replies made on the loop's own thread.
  std::vector<pooled_exchange*>& local() { return local_; }
  /// Replaces the contents of both.
  void collect(std::vector<pooled_exchange*>& replied, std::vector<incoming>& sockets);
  /// From here on replies are dropped. What is still here comes back as by collect().
  void close(std::vector<pooled_exchange*>& replied, std::vector<incoming>& sockets);

 private:
  friend class pooled_exchange;
  void give_back(pooled_exchange* one);

  int wake_ = -1;
  std::vector<pooled_exchange*> local_;
  std::vector<pooled_exchange*> free_;  // of the loop's thread
  std::mutex mutex_;
  std::vector<pooled_exchange*> replied_;
  std::vector<pooled_exchange*> returned_;
  std::vector<incoming> sockets_;
  bool closed_ = false;
};

/// Two hold it: the handler (a shared_ptr from publish()) and the loop, which waits for the reply. Every
/// published exchange is delivered exactly once, if only with the 503 of one that was dropped; who lets go
/// last returns it to the pool.
class pooled_exchange final : public exchange {
 public:
  explicit pooled_exchange(std::shared_ptr<loop_port> port) : port_(std::move(port)) {}
  ~pooled_exchange() override { settle(0); }

  [[nodiscard]] const request_view& request() const override { return view; }
  void reply(response&& what) override;
  [[nodiscard]] bool gone() const override { return gone_.load(std::memory_order_relaxed); }

  // The rest is the loop's.
  [[nodiscard]] exchange_ptr publish();
  void set_gone() { gone_.store(true, std::memory_order_relaxed); }
  /// The loop's hold ends.
  void let_go() { drop(); }
  /// So many bytes of `total`, which bounds the bodies of all connections, are this one's.
  void settle(std::size_t bytes);

  request_view view;
  request_head head;
  std::vector<field_view> fields;
  head_parser parser;
  byte_buffer head_bytes;
  byte_buffer body;
  byte_buffer plain;  // the body without its Content-Encoding
  std::string client;
  std::string certificate;
  std::array<char, 32> made_id{};
  coding accepts = coding::identity;

  response out;
  std::string out_head;

  front_connection* connection = nullptr;           // while it waits for this
  std::shared_ptr<std::atomic<std::size_t>> total;  // set once

 private:
  friend class loop_port;
  template <class T>
  friend struct in_place;

  void dropped();
  void drop();
  void clear();

  std::shared_ptr<loop_port> port_;
  std::size_t settled_ = 0;
  std::atomic<bool> gone_{false};
  std::atomic<bool> replied_{false};
  std::atomic<int> holders_{1};
  alignas(std::max_align_t) std::array<std::byte, 64> control_;  // of the shared_ptr
};

}  // namespace troupe::http
