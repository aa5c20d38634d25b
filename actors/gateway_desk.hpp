#pragma once
// Where a door hands in its calls, and what a gateway leaves to its successor: the calls that have no reply
// yet. Handing in is for any thread; the rest is the gateway's.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "messages/call.hpp"
#include "messages/interfaces.hpp"

namespace troupe {

class gateway_desk {
 public:
  gateway_desk();
  ~gateway_desk();
  gateway_desk(const gateway_desk&) = delete;
  gateway_desk& operator=(const gateway_desk&) = delete;

  /// Any thread. What is handed in after close() ends at once.
  void hand_in(std::vector<std::unique_ptr<call>> calls);
  /// Calls that have no reply yet. Any thread.
  [[nodiscard]] std::size_t open_calls() const { return open_.load(std::memory_order_relaxed); }
  /// Ends every call that is still open: unavailable. The gateway must have ended.
  void close();

  // --- the gateway's

  /// Calls that were read together: one batch of records, one record a call.
  struct open_batch {
    batch_ptr batch;
    std::vector<std::unique_ptr<call>> calls;  ///< by record::seq; null once ended
    std::size_t left = 0;
  };

  /// From now on this one is told of calls and answers; none: they wait here. Returns the answers that did.
  std::vector<answer_set_ptr> attend(const gateway_actor& who);
  /// Everything that was handed in since.
  [[nodiscard]] std::vector<std::unique_ptr<call>> take();
  /// The owner of its batches.
  [[nodiscard]] std::shared_ptr<completion_port> port() const;
  /// Opens a batch for these calls, at its slot.
  open_batch& open(std::vector<std::unique_ptr<call>> calls);
  /// Null: it is finished.
  [[nodiscard]] open_batch* at(std::uint64_t slot);
  /// A call has its reply.
  void ended(open_batch& of, const record& r);
  /// Ends the calls that became no record: unavailable.
  void end_unread(open_batch& of);
  /// Lets go of the batches that are finished.
  void forget_finished();
  template <class F>
  void for_each_open(F f) {
    for (auto& b : batches_)
      if (b) f(*b);
  }

 private:
  class answer_port;

  std::mutex mutex_;  // guards the next three
  std::vector<std::unique_ptr<call>> inbox_;
  gateway_actor attends_;
  bool closed_ = false;
  std::atomic<std::size_t> open_{0};
  std::deque<std::unique_ptr<open_batch>> batches_;  // finished ones are null until they reach the front
  std::uint64_t first_slot_ = 0;
  std::shared_ptr<answer_port> port_;
};

}  // namespace troupe
