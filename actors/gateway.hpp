#pragma once
// gateway: one a thread of a door with callers who wait (HTTP, gRPC).
// Owns the calls that it took from its desk until each has its reply. Promises: every call ends, with a
// prediction or an error, by its expiry; rows that a crashed neighbour held are submitted again; a caller who
// went away is not scored for. Dies of: an exception of its own. The calls live at the desk, so its successor
// goes on with them and no caller notices.

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "actors/gateway_desk.hpp"
#include "runtime/policy/admission.hpp"

namespace troupe::model {
class live_models;
class stalls;
}  // namespace troupe::model

namespace troupe::observe {
class metrics;
}

namespace troupe {

struct gateway_args {
  std::shared_ptr<gateway_desk> desk;
  door via = door::http;
  std::string name;  ///< of its mailbox in the metrics
  std::shared_ptr<const model::live_models> models;
  std::shared_ptr<policy::admission> admission;  ///< may be null: everything is let in
  std::shared_ptr<const model::stalls> stalls;   ///< when to come again; may be null
  std::size_t max_calls = 10'000;                ///< open at a time; more are refused at once
  std::vector<std::string> class_names;          ///< of the log
  std::shared_ptr<observe::metrics> metrics;
};

[[nodiscard]] gateway_actor spawn_gateway(caf_line::system& system, gateway_args args,
                                          const wiring& neighbours);

}  // namespace troupe
