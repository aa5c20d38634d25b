#pragma once
// Replies that one thread gives in a row. A door whose replies another thread sends wakes that one for the
// first of them, and for the next again once it sleeps; during a turn it waits until the last was given.

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace troupe {

/// Lives on a thread while it ends several calls. Turns may nest: the outermost counts.
class reply_turn {
 public:
  class waker {
   public:
    /// On the thread of the turn, at its end.
    virtual void turn_ended() = 0;

   protected:
    ~waker() = default;
  };

  reply_turn() { ++here().depth; }
  ~reply_turn() {
    state& s = here();
    if (--s.depth > 0) return;
    for (const auto& one : s.wakers) one->turn_ended();
    s.wakers.clear();
  }
  reply_turn(const reply_turn&) = delete;
  reply_turn& operator=(const reply_turn&) = delete;

  /// Whether `one` is told at the end of this thread's turn; false: there is no turn.
  template <class Waker>
  [[nodiscard]] static bool tell(const std::shared_ptr<Waker>& one) {
    state& s = here();
    if (s.depth == 0) return false;
    const auto same = [&](const auto& other) { return other.get() == one.get(); };
    if (std::none_of(s.wakers.begin(), s.wakers.end(), same)) s.wakers.push_back(one);
    return true;
  }

 private:
  struct state {
    int depth = 0;
    std::vector<std::shared_ptr<waker>> wakers;
  };
  static state& here() {
    thread_local state one;
    return one;
  }
};

}  // namespace troupe
