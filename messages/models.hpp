#pragma once
// What the node says about its model versions and rollouts (/admin/models), and what it can be told to do.

#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe::policy {
struct rollout_spec;
}

namespace troupe {

struct version_report {
  std::string model;
  std::string version;
  /// loading, failed, unloaded, loaded (beside), production, candidate (of a rollout), draining
  std::string state;
  std::string engine;
  std::string error;           ///< of a load that failed
  std::string notice;          ///< what stands against it now, in words; empty: nothing
  std::int64_t since_ms = 0;   ///< of the state, epoch milliseconds
  double share = 0;            ///< of the requests that name no version
  std::uint64_t rows = 0;      ///< scored since the process began
  std::uint64_t errors = 0;    ///< requests on which its engine failed
  double latency_seconds = 0;  ///< mean execution time of the batch that a row was in
};

struct side_report {
  std::string version;
  std::uint64_t requests = 0;  ///< in the guard's window
  std::uint64_t failed = 0;
  double p95_seconds = 0;
};

struct rollout_report {
  std::string model;
  std::string strategy;
  double share = 0;
  std::int64_t since_ms = 0;
  side_report old_side;
  side_report new_side;
  std::optional<double> psi;
  double psi_noise = 0;  ///< chance alone stays below it
  std::string ended;     ///< promoted, rolled_back, ended; empty while it runs
  std::string reason;    ///< of a rollback: error_rate, latency, drift, asked
  std::string text;      ///< the figures behind it
  std::int64_t ended_ms = 0;
};

struct models_report {
  std::vector<version_report> versions;
  std::vector<rollout_report> rollouts;  ///< those that run
  std::vector<rollout_report> history;   ///< those that ended, newest first, a few
};

/// How a command went, in HTTP's numbers: 200 done, 202 begun, 404 unknown, 409 not now, 400 wrong.
struct command_result {
  int status = 200;
  std::string text;
};

/// Do this with a model (door -> model_keeper).
struct model_command {
  enum class what : std::uint8_t { load, unload, promote, rollback, rollout, end };
  what op = what::load;
  std::string model;
  std::string version;
  std::shared_ptr<const policy::rollout_spec> spec;  ///< of op rollout
  std::shared_ptr<std::promise<command_result>> result;
};

}  // namespace troupe
