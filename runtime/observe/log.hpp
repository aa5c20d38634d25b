#pragma once
// Logs: one JSON object a line when the output is not a terminal, readable text on one. `event` is a stable
// id that run-books and alerts refer to; texts may change. Thread safe. Feature values are never logged.
//
//   {"ts":"2024-11-15T05:53:20.123Z","level":"warn","component":"breaker","event":"breaker_open","msg":"...","model":"m/3"}

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe::observe {

enum class level : std::uint8_t { debug, info, warn, error };
enum class log_format : std::uint8_t { automatic, json, text };

struct log_options {
  level least = level::info;
  log_format format = log_format::automatic;
  bool to_stderr = false;  ///< for commands whose stdout is data
  /// Nanoseconds of a steady clock, for log_every; empty: the system's.
  std::function<std::int64_t()> clock;
};

/// More members of the line, in order. `ts`, `level`, `component`, `event` and `msg` are taken.
using fields = std::vector<std::pair<std::string_view, std::string>>;

/// Replaces what held before (at first the defaults). Safe beside threads that log.
void open_log(const log_options& options);
/// Takes effect at once.
void set_log_level(level least);
[[nodiscard]] level log_level();

void log(level l, std::string_view component, std::string_view event, std::string_view message,
         const fields& more = {});

/// For what may repeat: at most one line in `seconds` for the same component and event; the next one says how
/// many were left out (`suppressed`).
void log_every(level l, std::string_view component, std::string_view event, int seconds,
               std::string_view message, const fields& more = {});

}  // namespace troupe::observe
