#pragma once
// stuck_watch: whether one actor still moves. It is asked from time to time (its mailbox lets the question
// overtake all else, so it is answered as soon as the message being handled is done); one that owes an answer
// for `after` or longer handles one message all that time.
//
// Who asks may itself have been away: that moves what is owed forward by as much (see absence.hpp).

#include <cstdint>

#include "runtime/policy/absence.hpp"
#include "runtime/policy/time.hpp"

namespace troupe::policy {

class stuck_watch {
 public:
  struct verdict {
    std::uint64_t ask = 0;   ///< ask with this number; 0: it has not answered the last one
    nanos stuck_for = 0;     ///< 0: it is not stuck
    bool recovered = false;  ///< it was, until now
  };

  /// `after` > 0; looks are to come about every `every`.
  stuck_watch(nanos after, nanos every) : after_(after), away_(every) {}

  /// `answered`: the number of the last question that was answered; `now` does not go back.
  verdict look(nanos now, std::uint64_t answered) {
    asked_at_ += away_.look(now);
    if (answered >= asked_) {
      const bool was = stuck_;
      stuck_ = false;
      asked_at_ = now;
      return {++asked_, 0, was};
    }
    if (now - asked_at_ < after_) return {};
    stuck_ = true;
    return {0, now - asked_at_, false};
  }

 private:
  nanos after_;
  absence away_;
  nanos asked_at_ = 0;
  std::uint64_t asked_ = 0;
  bool stuck_ = false;
};

}  // namespace troupe::policy
