#pragma once
// Faults as the admin port shows them.

#include <string>
#include <vector>

#include "runtime/faults/fault_points.hpp"

namespace troupe::faults {

/// {"id": 3, "fault": "redis_slow", "state": "active", "delay": "50ms", "duration": "30s", "remaining":
/// "12s", "strikes": 4}; ended ones have "ended" (over, stopped, done, or what went wrong) and "lasted"
/// instead of "remaining".
[[nodiscard]] std::string report_json(const report& r, nanos now);
/// {"faults": [...]}
[[nodiscard]] std::string reports_json(const std::vector<report>& all, nanos now);
/// "redis_slow (delay 50ms)"
[[nodiscard]] std::string in_words(const fault& f);

}  // namespace troupe::faults
