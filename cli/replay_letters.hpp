#pragma once
// What `troupe replay` decides without a broker: which dead letters are meant, and what becomes of their
// headers.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/commands.hpp"

namespace troupe::cli {

/// A header with its value; no value is a null one.
using owned_header = std::pair<std::string, std::optional<std::string>>;

struct dead_letter {
  std::string code, reason;  ///< of its headers; empty: it has none
  std::string source_topic;
  std::int64_t source_partition = -1;
  std::int64_t source_offset = -1;
  std::int64_t timestamp_ms = -1;   ///< the request's
  std::int64_t replays = 0;         ///< how often it was sent before
  std::int64_t dropped_value = -1;  ///< length of the value that it had to leave behind
  std::vector<owned_header> rest;   ///< as the request had them
};

/// Sorts a letter's headers. A count that is no number is 0.
[[nodiscard]] dead_letter read_letter(std::vector<owned_header> headers, std::int64_t timestamp_ms);

/// For people: "  of inference-requests 0/12", "  replayed 2 x"; empty where there is nothing to say.
[[nodiscard]] std::string source_text(const dead_letter& letter);
[[nodiscard]] std::string replays_text(const dead_letter& letter);

/// The headers of the request that is sent: the letter's own, and troupe.replays.
[[nodiscard]] std::vector<owned_header> replay_headers(const dead_letter& letter);

/// Whether it is one of those asked for.
struct replay_filter {
  std::vector<std::string> codes;  ///< any of them; none: all
  std::string reason;              ///< a part of the message
  std::int64_t since_ms = INT64_MIN, until_ms = INT64_MAX;
  std::int64_t partition = -1;
  std::int64_t first_offset = 0, last_offset = INT64_MAX;
  [[nodiscard]] bool wants(const dead_letter& letter) const;
};

/// Refuses a code that no letter has (messages/errors.hpp). Throws usage_error with those there are.
void check_codes(const std::vector<std::string>& codes);

/// What a run that had nothing to send has looked at.
struct replay_look {
  std::string topic, group;
  std::string filters;         ///< the options that chose, "--code model_failed"; empty: all was wanted
  std::int64_t records = 0;    ///< of the topic
  std::int64_t looked_at = 0;  ///< of those; the others the group is done with
  std::int64_t sent_before = 0, other = 0, without_value = 0, too_often = 0,
               no_letters = 0;               ///< of what was looked at
  std::int64_t first_ms = -1, last_ms = -1;  ///< the requests' times, of what was looked at; -1: none has one
};
/// Why there was nothing, in one line.
[[nodiscard]] std::string nothing_to_send(const replay_look& look);

/// 2024-11-15, 2024-11-15T05:53:20Z (UTC; seconds may have a fraction), epoch milliseconds, or how long ago:
/// 90s, 30m, 2h, 7d. In epoch milliseconds; nullopt when it is none of them.
[[nodiscard]] std::optional<std::int64_t> time_of(std::string_view text, std::int64_t now_ms);

/// The same of what an option was given. Throws usage_error.
[[nodiscard]] std::int64_t read_time(const std::string& option, const std::string& text, std::int64_t now_ms);

/// "5" or "5-9". Throws usage_error.
[[nodiscard]] std::pair<std::int64_t, std::int64_t> offsets_of(const std::string& text);

}  // namespace troupe::cli
