#pragma once
// shadow_scorer: one a node.
// Owns its scratch.
// Promises: rows that the production version scored are scored once more by the new one, one batch at a time;
// what came of it goes to the model_keeper and to nobody else, so that a shadow never answers; when it is
// behind, batches are left out (shadow_gate), never queued without bound. Its batches run beside the
// scheduler's slots. Columns are matched by name where both versions have names. Dies of: an exception of its
// own or of the new version's engine.

#include <memory>

#include "messages/interfaces.hpp"

namespace troupe::observe {
class metrics;
}

namespace troupe {

struct shadow_scorer_args {
  std::shared_ptr<shadow_gate> gate;
  std::shared_ptr<observe::metrics> metrics;
  bool modest = false;  ///< its thread yields to those of callers
};

[[nodiscard]] shadow_scorer_actor spawn_shadow_scorer(caf_line::system& system, shadow_scorer_args args,
                                                      const wiring& neighbours);

}  // namespace troupe
