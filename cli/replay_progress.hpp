#pragma once
// What a group has replayed of one partition: all below an offset, and ranges above it. It travels in Kafka's
// committed offset and the text that a commit may carry (4,096 bytes unless a broker says otherwise), so a
// filter may leave letters out without their being sent, or sent ones sent twice, later.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace troupe::cli {

class replay_progress {
 public:
  static constexpr std::size_t most_text = 4000;  ///< bytes of a text that brokers take

  replay_progress() = default;
  /// What text() gave. Another program's text counts as none.
  replay_progress(std::int64_t next, std::string_view text);

  [[nodiscard]] bool has(std::int64_t offset) const;
  /// Offsets from `first` up to, and without, `end`.
  void add(std::int64_t first, std::int64_t end);
  /// All below it is done.
  [[nodiscard]] std::int64_t next() const { return next_; }
  /// The ranges above next(): "r1:" and pairs of gap and length.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::size_t ranges() const { return done_.size(); }

 private:
  void settle();

  std::int64_t next_ = 0;
  std::map<std::int64_t, std::int64_t> done_;  // first -> end; above next_, apart from each other
};

}  // namespace troupe::cli
