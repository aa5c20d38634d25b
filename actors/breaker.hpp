#pragma once
// breaker: one a model version.
// Owns the circuit (policy/circuit.hpp) of its model.
// Promises: the scheduler hears of every change, people see a notice until it is closed; while open, the
// model's rows wait (their credit holds the partitions back); after the open time a few probe rows go
// through, and their outcome closes or opens it again. Dies of: an exception of its own. Its successor starts
// closed and learns anew.

#include <memory>
#include <string>

#include "messages/interfaces.hpp"
#include "runtime/policy/circuit.hpp"

namespace troupe::observe {
class metrics;
class notices;
}  // namespace troupe::observe

namespace troupe {

struct breaker_args {
  std::shared_ptr<const model::loaded_model> model;
  policy::circuit_config circuit;
  std::shared_ptr<observe::metrics> metrics;
  std::string name;                           ///< in the supervision tree
  std::shared_ptr<observe::notices> notices;  ///< may be null
};

[[nodiscard]] breaker_actor spawn_breaker(caf_line::system& system, breaker_args args,
                                          const wiring& neighbours);

}  // namespace troupe
