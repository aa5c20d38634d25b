#pragma once
// W3C Trace Context (https://www.w3.org/TR/trace-context/): `traceparent` and `tracestate`, and which
// requests are traced.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace troupe::policy {

/// Big-endian, as it is written. Never all zero in a context that was read or made.
using trace_id = std::array<std::uint8_t, 16>;

/// A traceparent.
struct trace_context {
  trace_id trace{};
  std::uint64_t span = 0;  ///< parent-id: the caller's span
  std::uint8_t flags = 0;

  static constexpr std::uint8_t sampled_flag = 1;
  static constexpr std::uint8_t random_flag = 2;  ///< the id's last 7 bytes are random
  [[nodiscard]] bool sampled() const { return (flags & sampled_flag) != 0; }
  [[nodiscard]] bool operator==(const trace_context&) const = default;
};

/// 32 lower-case hexadecimal digits; 16.
[[nodiscard]] std::string hex(const trace_id& id);
[[nodiscard]] std::string hex(std::uint64_t span);

inline constexpr std::size_t traceparent_size = 55;

/// Whether `text` can be a traceparent: of version 00 exactly 55 characters; a later version may say more
/// behind them and is read as 00; version ff, all-zero ids and capitals are refused. It copies nothing.
[[nodiscard]] bool is_traceparent(std::string_view text);

/// nullopt: it is none.
[[nodiscard]] std::optional<trace_context> read_traceparent(std::string_view text);

/// Of version 00. Flags that this version does not know are sent as 0.
[[nodiscard]] std::string write_traceparent(const trace_context& context);

/// Whether a tracestate may be passed on: at most 512 bytes and 32 members KEY=VALUE with keys that are
/// allowed and different. An empty one may.
[[nodiscard]] bool is_tracestate(std::string_view text);

/// The tracestate that several header fields make together; empty: there is none that may be passed on.
[[nodiscard]] std::string join_tracestate(std::span<const std::string_view> fields);

/// Parent-based, with a ratio for requests that begin a trace: a parent's sampled flag is obeyed either way;
/// without a parent a trace is taken when the last 56 bits of its id lie in the upper `ratio` of their range,
/// so that every service that asks the same of one id takes the same traces, and a higher ratio takes those
/// of a lower one too (OpenTelemetry's consistent probability sampling).
class trace_sampler {
 public:
  /// `ratio`: 0 to 1; beyond it the nearer of them.
  explicit trace_sampler(double ratio = 0);

  /// Of a request without a parent.
  [[nodiscard]] bool takes(const trace_id& id) const;
  /// The same by the last 8 bytes of the id alone.
  [[nodiscard]] bool takes(std::uint64_t low) const { return (low & mask) >= threshold_; }
  [[nodiscard]] bool takes(const trace_context& parent) const { return parent.sampled(); }
  [[nodiscard]] bool never() const { return threshold_ > mask; }

 private:
  static constexpr std::uint64_t mask = (std::uint64_t{1} << 56) - 1;
  std::uint64_t threshold_;  ///< below it nothing is taken; beyond the mask: nothing at all
};

}  // namespace troupe::policy
