#pragma once
// The bodies of /health, /ready and /liveness.

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/http/message.hpp"

namespace troupe::http {

struct health_state {
  bool model_loaded = false;  ///< the default model; where there is no default: any
  std::string model_name;
  std::string model_version;
  double uptime_seconds = 0;
  std::uint64_t total_requests = 0;
  std::uint64_t error_count = 0;

  bool ready = false;
  std::vector<std::string> reasons;   ///< why not ready
  std::vector<std::string> degraded;  ///< what is worse than it should be while ready
};

/// {"status","model_loaded","model_name","model_version","uptime_seconds","total_requests","error_count",
/// "error_rate_percent"}; status is healthy, or unhealthy with 503 without model_loaded.
[[nodiscard]] response health(const health_state& state);

/// 200 {"status":"ready"}, with "degraded":[...] when there is any; else 503 {"status":"not
/// ready","reasons":[...]}.
[[nodiscard]] response ready(const health_state& state);

/// 200 {"status":"alive"}: the process answers.
[[nodiscard]] response liveness();

}  // namespace troupe::http
