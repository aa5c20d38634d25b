#pragma once
// rollout: which of two versions of a model answers a request, and when the new one must go.
//
// Three decisions, each without a clock or randomness of its own:
//   route   which version a record goes to. A function of the record: read again, it goes to the same
//   version.
//           A larger share keeps everybody who had the new version already.
//   guard   whether the new version left its bounds against the old one: error rate, latency, prediction
//   drift. steps   when the share of the new version grows.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "messages/rollout_arm.hpp"
#include "runtime/policy/drift.hpp"
#include "runtime/policy/time.hpp"

namespace troupe::policy {

enum class rollout_strategy : std::uint8_t {
  canary,      ///< a share of the records, by their place in the topic
  header,      ///< records that carry a header
  ab,          ///< a share of the keys: equal keys always get the same version
  shadow,      ///< none: the new version scores beside the old one and is compared
  blue_green,  ///< all of them at once
};

/// What a record is judged by.
struct route_subject {
  std::string_view key;  ///< of the record; empty: none
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  std::string_view id;      ///< instead of partition and offset, of a request that came by another door
  bool has_header = false;  ///< the header that the route names is there, with its value
};

/// Says for each record whether the new version answers it.
class route {
 public:
  route() = default;
  /// `share` of canary and ab in [0, 1]. `salt` makes experiments independent: the model's name.
  route(rollout_strategy strategy, double share, std::string_view salt);

  [[nodiscard]] bool takes_new(const route_subject& s) const {
    switch (strategy_) {
      case rollout_strategy::canary:
        return in_share(s.id.empty() ? place(s) : hash(s.id));
      case rollout_strategy::ab:
        return in_share(!s.key.empty() ? hash(s.key) : s.id.empty() ? place(s) : hash(s.id));
      case rollout_strategy::header:
        return s.has_header;
      case rollout_strategy::blue_green:
        return true;
      case rollout_strategy::shadow:
        break;
    }
    return false;
  }
  [[nodiscard]] rollout_strategy strategy() const { return strategy_; }

 private:
  [[nodiscard]] std::uint64_t hash(std::string_view text) const;
  /// Finalizer of MurmurHash3 (A. Appleby, public domain).
  [[nodiscard]] static constexpr std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
  }
  [[nodiscard]] std::uint64_t place(const route_subject& s) const {
    const auto p = static_cast<std::uint64_t>(static_cast<std::uint32_t>(s.partition));
    return mix(mix(salt_ ^ p) ^ static_cast<std::uint64_t>(s.offset));
  }
  [[nodiscard]] bool in_share(std::uint64_t h) const { return (h >> 11) < threshold_; }

  rollout_strategy strategy_ = rollout_strategy::shadow;
  std::uint64_t threshold_ = 0;  // of 2^53
  std::uint64_t salt_ = 0;
};

struct guard_config {
  double max_error_increase = 0.02;  ///< error rate of the new version over that of the old one
  double max_latency_ratio = 2;      ///< p95 of the new version; exceeded together with the next one only
  nanos max_latency_increase = 10 * millisecond;
  double max_psi = 0.25;            ///< above 100: never by this
  std::uint32_t min_samples = 200;  ///< requests a side, in the window
  nanos window = minute;
  bool alone = false;  ///< the old version gets nothing (blue_green): its error rate counts as 0
  drift_config drift;
};

/// unavailable: the new version answers nothing, which is seen without a single sample.
enum class rollback_reason : std::uint8_t { error_rate, latency, drift, unavailable };
inline constexpr std::array rollback_reasons = {rollback_reason::error_rate, rollback_reason::latency,
                                                rollback_reason::drift, rollback_reason::unavailable};

[[nodiscard]] std::string_view to_string(rollback_reason r);
[[nodiscard]] std::string_view to_string(rollout_strategy s);
[[nodiscard]] std::optional<rollout_strategy> strategy_of(std::string_view name);

struct verdict {
  rollback_reason reason;
  std::string text;  ///< one line with the figures
};

using arm = rollout_arm;

struct arm_reading {
  std::uint64_t requests = 0;  ///< in the window
  std::uint64_t failed = 0;
  nanos p95 = 0;  ///< of the execution time of the batch a request was in; up to 1/8 too high
};

/// Judges a new version by what it did in a sliding window. An error rate counts once the lower end of
/// Wilson's score interval (E. B. Wilson, 1927; 95 %, one-sided) is over the bound, so that a few unlucky
/// requests do not. Not thread safe. Some 40 KiB.
class rollout_guard {
 public:
  explicit rollout_guard(const guard_config& config);

  /// Requests that were scored together in `took`; of those that never reached the model `took` is 0.
  void record(nanos now, arm who, std::uint64_t ok, std::uint64_t failed, nanos took);
  /// One prediction: a number, or the index of the class.
  void predicted(arm who, double value);

  /// Why the new version must go, if it must.
  [[nodiscard]] std::optional<verdict> judge(nanos now);

  [[nodiscard]] arm_reading read(nanos now, arm who);
  [[nodiscard]] std::optional<drift_reading> drifted() const { return drift_.read(); }
  /// Requests of the new version since the start.
  [[nodiscard]] std::uint64_t new_requests() const { return new_requests_; }
  [[nodiscard]] const guard_config& config() const { return config_; }

 private:
  static constexpr std::size_t slices = 10;
  static constexpr std::size_t latency_bins = 264;  // 8 an octave, 1 us to 2^33 us
  struct slice {
    std::int64_t index = -1;
    std::uint64_t ok = 0;
    std::uint64_t failed = 0;
    std::uint64_t timed = 0;
    std::array<std::uint32_t, latency_bins> took{};
  };
  using side = std::array<slice, slices>;

  [[nodiscard]] side& of(arm who) { return who == arm::new_version ? new_ : old_; }
  [[nodiscard]] std::int64_t slice_of(nanos now) const;
  [[nodiscard]] static std::size_t latency_bin(nanos took);
  [[nodiscard]] static nanos upper_bound(std::size_t bin);

  guard_config config_;
  side old_{};
  side new_{};
  policy::drift drift_;
  std::uint64_t new_requests_ = 0;
};

/// Lower end of Wilson's score interval of `hits` in `n`.
[[nodiscard]] double wilson_lower(double hits, double n, double z = 1.645);

/// A growing share: each step is held for at least `every` and `min_samples` requests of the new version.
class rollout_steps {
 public:
  /// `shares` ascending in (0, 1]; after 1 comes promotion.
  rollout_steps(std::vector<double> shares, nanos every, std::uint64_t min_samples)
      : shares_(std::move(shares)), every_(every), min_samples_(min_samples) {}

  struct move {
    double share = 0;
    bool promote = false;  ///< the last step was held
  };
  /// The next step if it is due. `new_requests`: since the start.
  [[nodiscard]] std::optional<move> due(nanos now, std::uint64_t new_requests);
  void begin(nanos now, std::uint64_t new_requests) {
    since_ = now;
    requests_ = new_requests;
  }
  [[nodiscard]] bool empty() const { return shares_.empty(); }
  [[nodiscard]] double share() const {
    return shares_.empty() ? 0 : shares_[std::min(at_, shares_.size() - 1)];
  }

 private:
  std::vector<double> shares_;
  nanos every_;
  std::uint64_t min_samples_;
  std::size_t at_ = 0;
  nanos since_ = 0;
  std::uint64_t requests_ = 0;
};

}  // namespace troupe::policy
