#pragma once
// What can go wrong with one request: the codes that error results, dead letters and metrics share.

#include <array>
#include <cstdint>
#include <string_view>

namespace troupe {

enum class error_code : std::uint8_t {
  none,
  invalid_json,      ///< not a request at all: dead-lettered
  invalid_features,  ///< shape, NaN, Inf, unknown name
  too_large,         ///< over kafka.max_record_bytes or models.max_rows
  model_not_found,
  deadline_exceeded,
  model_failed,
  unavailable,
};

inline constexpr std::array<std::string_view, 8> error_names = {
    "none",         "invalid_json", "invalid_features", "too_large", "model_not_found", "deadline_exceeded",
    "model_failed", "unavailable"};

[[nodiscard]] constexpr std::string_view to_string(error_code code) {
  return error_names[static_cast<std::size_t>(code)];
}

/// Whether the record goes to the dead-letter topic instead of getting an error result. Never both.
[[nodiscard]] constexpr bool dead_letter(error_code code, bool parsed) {
  return code != error_code::none && !parsed;
}

}  // namespace troupe
