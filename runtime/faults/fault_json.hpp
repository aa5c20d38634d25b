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
/// {"delay": "50ms"}: what a fault has beside its name and duration, without what changes nothing.
[[nodiscard]] std::string fields_json(const fault& f);
/// "redis_slow (delay 50ms)"
[[nodiscard]] std::string in_words(const fault& f);

}  // namespace troupe::faults
