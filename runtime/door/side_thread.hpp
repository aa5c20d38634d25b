#pragma once
// Work that may block, one after another, away from the threads that serve.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace troupe::serving {

class side_thread {
 public:
  explicit side_thread(std::size_t most = 64);
  /// What has not begun is dropped.
  ~side_thread();
  side_thread(const side_thread&) = delete;
  side_thread& operator=(const side_thread&) = delete;

  /// Any thread. False: so many wait already.
  [[nodiscard]] bool run(std::function<void()> work);

 private:
  void loop();

  std::size_t most_;
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<std::function<void()>> work_;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace troupe::serving
