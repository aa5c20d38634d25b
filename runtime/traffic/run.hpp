#pragma once
// A load run against a door, HTTP or gRPC: what is sent when, and what came of it.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/traffic/account.hpp"

namespace troupe::traffic {

struct plan {
  double rate = 0;            ///< requests/s, open loop; 0: closed loop, a request a connection
  int connections = 16;       ///< at least 1
  std::int64_t requests = 0;  ///< how many; 0: no limit
  double seconds = 0;         ///< for how long requests are sent, the warm-up included; 0: no limit
  double warmup = 0;          ///< seconds; what is sent or due within them is answered but not counted
  double wait_for = 30;       ///< seconds without any answer until what is out counts as lost
  double target_ms = 0;       ///< predictions within it are in time; 0: not counted
  double interval = 0;        ///< seconds; > 0: latency by intervals, too
};

/// Predictions of the requests that were sent (open loop: due) within one interval.
struct interval_report {
  double from_s = 0;
  std::int64_t predicted = 0;
  double p50_ms = 0, p99_ms = 0, max_ms = 0;
};

struct report {
  std::int64_t sent = 0;
  std::int64_t predicted = 0;
  std::int64_t errors = 0;  ///< answers that are none, connections that broke
  std::int64_t lost = 0;    ///< no answer
  std::int64_t in_time = 0;
  std::map<std::string, std::int64_t> error_codes;    ///< "503", "UNAVAILABLE", "connection_refused", ...
  std::map<std::string, std::string> error_examples;  ///< a message of each code
  double duration_s = 0;                              ///< from the first counted send to the last answer
  double requests_per_second = 0;                     ///< predictions
  /// Of predictions: from sending, open loop: from when it was due, to the whole answer.
  double p50_ms = 0, p90_ms = 0, p95_ms = 0, p99_ms = 0, p999_ms = 0, max_ms = 0;
  double longest_gap_ms = 0;  ///< the longest pause between answers while some were out
  std::vector<interval_report> intervals;
  bool stopped = false;  ///< interrupted
};

struct progress {
  std::int64_t sent = 0;
  std::int64_t answered = 0;
  double seconds = 0;
};

struct observer {
  /// Ends sending; what is out is waited for.
  const std::atomic<bool>* stop = nullptr;
  /// About five times a second; may be empty.
  std::function<void(const progress&)> on_progress;
  /// Once, when the warm-up is over; may be empty.
  std::function<void()> on_measuring;
};

/// When requests go out. Times are microseconds since the run's begin; open loop: request n is due at n /
/// rate.
class pacer {
 public:
  explicit pacer(const plan& p);

  [[nodiscard]] bool open_loop() const { return schedule_.has_value(); }
  /// How many requests may have been sent by now, `next` of them having been. Once the time is over or
  /// `stopping`, the answer stays as it is.
  [[nodiscard]] std::int64_t allowed(std::int64_t now, std::int64_t next, bool stopping);
  /// As allowed() found it: it will not become more.
  [[nodiscard]] bool ended() const { return ended_; }
  /// What the latency of request n, which is sent now, counts from.
  [[nodiscard]] std::int64_t due(std::int64_t n, std::int64_t now) const;
  /// At most `most`, and less where the next request is due or the time is over before.
  [[nodiscard]] std::int64_t pause(std::int64_t next, std::int64_t now, std::int64_t most) const;

 private:
  std::optional<schedule> schedule_;
  std::int64_t length_, requests_;
  std::optional<std::int64_t> final_;
  bool ended_ = false;
};

/// Counts a run. Times are microseconds since its begin.
class tally {
 public:
  explicit tally(const plan& p);

  void sent(std::int64_t due);
  void predicted(std::int64_t due, std::int64_t now);
  void failed(std::int64_t due, std::int64_t now, std::string_view code, std::string_view message);
  void lost(std::int64_t due);

  /// All of it, the warm-up included.
  [[nodiscard]] std::int64_t all_sent() const { return all_sent_; }
  [[nodiscard]] std::int64_t all_answered() const { return all_answered_; }
  [[nodiscard]] std::int64_t out() const { return all_sent_ - all_answered_ - all_lost_; }
  [[nodiscard]] std::int64_t last_answer() const { return last_answer_; }

  [[nodiscard]] report finish(bool stopped) const;

 private:
  [[nodiscard]] bool counts(std::int64_t due) const { return due >= warmup_; }
  void answered(std::int64_t now);

  std::int64_t warmup_, target_, interval_;
  report report_;
  latency_histogram latency_;
  std::vector<latency_histogram> intervals_;
  std::int64_t all_sent_ = 0, all_answered_ = 0, all_lost_ = 0;
  std::int64_t last_answer_ = 0, gap_from_ = 0, longest_gap_ = 0;
};

/// Printable, at most 300 characters: a message from elsewhere, for a terminal.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace troupe::traffic
