#pragma once
// The text format of OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), which has a
// place for exemplars.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/observe/histogram.hpp"

namespace prometheus {
struct MetricFamily;
}

namespace troupe::observe {

/// Of a histogram: by series, by bucket; a series without one may be empty.
using exemplars_of_family = std::vector<std::vector<exemplar>>;
/// By the family's name.
using exemplars = std::map<std::string, exemplars_of_family>;

inline constexpr const char* openmetrics_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a client with this Accept header prefers it to the older text format, or takes both alike.
[[nodiscard]] bool wants_openmetrics(std::string_view accept);

[[nodiscard]] std::string openmetrics_text(const std::vector<prometheus::MetricFamily>& families,
                                           const exemplars& shown);

}  // namespace troupe::observe
