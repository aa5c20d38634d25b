#pragma once
// The options of `troupe models ...`.

#include <functional>

#include "cli/commands.hpp"

namespace CLI {
class App;
}

namespace troupe::cli {

struct models_command {
  models_options options;
  explain_options explain;
  std::function<int()> run;  ///< the command that was named; empty before parsing
};

/// Adds them to `app`; `into` must outlive its parsing.
void add_models_commands(CLI::App& app, models_command& into);

}  // namespace troupe::cli
