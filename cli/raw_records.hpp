#pragma once
// Records as they are, from JSON lines: {"value": "text", "key": "k", "headers": {"name": "value"},
// "partition": 0, "timestamp_ms": 1731650000123}. `value_base64` and `key_base64` carry bytes that are no
// text; a null value is a tombstone.

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "cli/load_generator.hpp"

namespace troupe::cli {

/// Sends them in order and waits for their delivery; "-" reads standard input. Returns how many. Throws
/// usage_error for a line that is no record (those before it are sent), std::runtime_error when not all were
/// delivered.
std::int64_t send_raw(const load_options& options, const std::string& file, const std::atomic<bool>& stop);

/// What is wrong with a line, empty when it is a record: an unknown key (and the one that was probably
/// meant), no value, or no JSON object. `"value": null` is a tombstone; a line without a value is a mistake.
[[nodiscard]] std::string complaint_about_raw(std::string_view line);

/// RFC 4648, with or without padding; throws std::runtime_error.
[[nodiscard]] std::string from_base64(std::string_view text);

}  // namespace troupe::cli
