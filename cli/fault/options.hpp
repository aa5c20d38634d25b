#pragma once
// The options of `troupe fault ...`.

#include <functional>
#include <string>

#include "cli/commands.hpp"

namespace CLI {
class App;
}

namespace troupe::cli {

/// troupe fault ...: faults of a running node, through its admin port.
struct fault_options {
  common_options common;
  std::string url;         ///< http://host:port; empty: this configuration's metrics.port on this machine
  std::string token_file;  ///< else TROUPE_ADMIN_TOKEN, or what the configuration says
  std::string name;        ///< inject: of the fault
  /// inject: its fields as text; empty: not given.
  std::string actor, model, version, probability, delay, every, shift, size, duration;
  bool all = false;  ///< stop
  std::string id;    ///< stop
  std::string file;  ///< run; "-": standard input
};
int fault_list(const fault_options& options);
int fault_inject(const fault_options& options);
int fault_stop(const fault_options& options);
int fault_run(const fault_options& options);

struct fault_command {
  fault_options options;
  std::function<int()> run;  ///< the command that was named; empty before parsing
};

/// Adds them to `app`; `into` must outlive its parsing.
void add_fault_commands(CLI::App& app, fault_command& into);

}  // namespace troupe::cli
