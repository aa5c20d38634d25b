#pragma once
// What the store's tests talk to: a real redis-server, a scripted one, and a client that can wait.

#include <sys/types.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/store/redis.hpp"

namespace troupe::store {

inline constexpr nanos ms = 1'000'000;
inline constexpr nanos second = 1'000 * ms;

[[nodiscard]] nanos steady_now();

/// Removed with all it holds.
class temporary_directory {
 public:
  temporary_directory();
  ~temporary_directory();
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// Runs a program to its end; throws with its output when that is not status 0.
void run(const std::vector<std::string>& words);
[[nodiscard]] bool installed(const std::string& program);

/// A port of 127.0.0.1 that was free a moment ago.
[[nodiscard]] int free_port();

/// A redis-server of its own, killed at the end. Started when it says that it is ready.
class redis_server {
 public:
  /// `options` go on its command line. With `tls`, the port speaks TLS (options name the files).
  explicit redis_server(std::vector<std::string> options = {}, bool tls = false);
  ~redis_server();
  redis_server(const redis_server&) = delete;
  redis_server& operator=(const redis_server&) = delete;

  [[nodiscard]] int port() const { return port_; }
  void start();  ///< again, on the same port
  void kill();
  void freeze();
  void thaw();
  /// What redis-server answers, as text ("(nil)", "(error) ..."). Without TLS only.
  std::string command(const std::vector<std::string>& words, const std::string& password = {}) const;

 private:
  bool launch();
  std::vector<std::string> options_;
  bool tls_;
  temporary_directory directory_;
  int port_ = 0;
  pid_t pid_ = -1;
  int output_ = -1;
};

/// Listens on 127.0.0.1 and lets `serve` deal with each connection, one at a time, on a thread of its own.
/// `serve` gets the connection and its number, from 0; the connection is closed when it returns.
class scripted_server {
 public:
  explicit scripted_server(std::function<void(int fd, int number)> serve);
  ~scripted_server();
  scripted_server(const scripted_server&) = delete;
  scripted_server& operator=(const scripted_server&) = delete;

  [[nodiscard]] int port() const { return port_; }
  /// False if there have not been `n` connections in time.
  bool wait_connections(int n, nanos within);

  /// One command's worth of bytes, as text; empty at the end of the connection.
  static std::string receive(int fd);
  static void send(int fd, std::string_view text);

 private:
  int listener_ = -1;
  int port_ = 0;
  std::function<void(int, int)> serve_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int connections_ = 0;
  int current_ = -1;
  bool ending_ = false;
  std::thread thread_;
};

/// make_redis(), and its callbacks as something to wait for.
class client {
 public:
  explicit client(redis_options o);

  /// 127.0.0.1, a budget no healthy Redis misses, quick to reconnect.
  [[nodiscard]] static redis_options options(int port);

  get_result get(std::vector<std::string> keys);
  /// Waits for its answer with take().
  void ask(std::vector<std::string> keys);
  /// The next `n` answers in the order they came.
  std::vector<get_result> take(std::size_t n);
  [[nodiscard]] std::size_t answers();

  /// The status that satisfies, or the last one after a minute.
  store_status wait_status(const std::function<bool(const store_status&)>& good);
  store_status connected();
  store_status not_connected();
  store_status fatal();
  bool wait_counters(const std::function<bool(const store_counters&)>& good);
  /// Until a line of the log has this in it.
  bool wait_logged(const std::string& part);
  [[nodiscard]] std::vector<std::string> logged();

  [[nodiscard]] level2_cache& operator*() { return *cache_; }
  level2_cache* operator->() { return cache_.get(); }

 private:
  struct shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<get_result> results;
    std::size_t taken = 0;
    std::vector<std::string> log;
  };
  std::shared_ptr<shared> shared_ = std::make_shared<shared>();
  std::unique_ptr<level2_cache> cache_;
};

}  // namespace troupe::store
