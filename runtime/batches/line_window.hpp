#pragma once
// The lines of a batch that are being scored: calls go out of it in the order of the input, come back in any,
// and their results leave it in the order of the input again. Bounded by who fills it.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "messages/call.hpp"
#include "runtime/batches/line_codec.hpp"

namespace troupe::batches {

/// What was answered in a row from the front.
struct answered_lines {
  std::string text;  ///< results, a line each
  std::uint64_t lines = 0;
  std::uint64_t errors = 0;
  line_position end;  ///< of the last
};

/// Shared by its owner, one thread, and its calls, which outlive neither the text nor the rules.
class line_window : public std::enable_shared_from_this<line_window> {
 public:
  /// A line refused as `unavailable` is tried again after `pause`, up to `tries` times; then that is its end.
  line_window(std::shared_ptr<const line_rules> rules, nanos pause, std::uint32_t tries);

  // --- the owner's
  /// Takes a copy of the line.
  [[nodiscard]] std::unique_ptr<call> add(const input_line& line);
  [[nodiscard]] std::size_t lines() const;
  [[nodiscard]] std::size_t bytes() const;
  /// Everything that is answered at the front leaves.
  [[nodiscard]] answered_lines take();
  /// Lines that came back unavailable and whose pause is over, as new calls.
  [[nodiscard]] std::vector<std::unique_ptr<call>> again(nanos now);
  /// Until a good part is answered, the front with it, wake() was called, or so long.
  void wait(nanos most);
  void wake();
  /// Nobody wants the answers any more.
  void abandon() { abandoned_.store(true, std::memory_order_relaxed); }
  /// Why lines are tried again now; empty: none is.
  [[nodiscard]] std::string trouble() const;

 private:
  class line_call;
  enum class state : std::uint8_t { out, back, answered };
  struct slot {
    std::string text;  // of the line while it is `back`, of its result once it is answered
    std::uint64_t number = 0;
    std::uint64_t size = 0;
    std::size_t kept = 0;  // of it in memory
    line_position end;
    std::uint32_t tries = 0;
    line_window::state state = state::out;
    bool error = false;
  };
  [[nodiscard]] std::unique_ptr<call> make(std::uint64_t at, std::string text);
  void answered(std::uint64_t at, std::string text, bool error);
  /// False: it has been tried often enough.
  bool came_back(std::uint64_t at, std::string& text, std::string_view why, bool counts, nanos now);

  const std::shared_ptr<const line_rules> rules_;
  const nanos pause_;
  const std::uint32_t tries_;
  std::atomic<bool> abandoned_{false};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<slot> slots_;
  std::uint64_t first_ = 0;  // number of slots_.front() since the beginning
  std::size_t bytes_ = 0;
  std::size_t back_ = 0;
  std::size_t answered_ = 0;
  nanos again_at_ = 0;
  std::string trouble_;
  bool woken_ = false;
};

}  // namespace troupe::batches
