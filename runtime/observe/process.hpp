#pragma once
// What this process uses, from /proc (Linux); the values behind Prometheus's standard process_* metrics.

namespace troupe::observe {

struct process_usage {
  double cpu_seconds = 0;  ///< user and system
  double resident_bytes = 0;
  double open_files = 0;
  double start_seconds = 0;  ///< since the Unix epoch
};

/// Zeros for what can't be read.
[[nodiscard]] process_usage read_process_usage();

}  // namespace troupe::observe
