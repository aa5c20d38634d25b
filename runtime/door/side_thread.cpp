#include "runtime/door/side_thread.hpp"

#include <utility>

namespace troupe::serving {

side_thread::side_thread(std::size_t most) : most_(most), thread_([this] { loop(); }) {}

side_thread::~side_thread() {
  std::deque<std::function<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    dropped.swap(work_);
  }
  more_.notify_all();
  thread_.join();
}

bool side_thread::run(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (ends_ || work_.size() >= most_) return false;
    work_.push_back(std::move(work));
  }
  more_.notify_one();
  return true;
}

void side_thread::loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    more_.wait(lock, [this] { return ends_ || !work_.empty(); });
    if (ends_) return;
    auto work = std::move(work_.front());
    work_.pop_front();
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
  }
}

}  // namespace troupe::serving
