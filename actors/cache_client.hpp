#pragma once
// cache_client: one a node.
// Owns the flat cache in process (level 1), the link to Redis (level 2, optional) with its breaker, and the
// rows that wait for an equal row in flight. Promises: a look-up only where it is expected to cost less than
// the model (policy/cache_value.hpp) unless configured otherwise; one MGET a batch, within the store's time
// budget; a dead or slow store costs that budget, then nothing until its breaker lets a probe through; equal
// rows in flight are scored once; nothing is held longer than `patience`. Dies of: an exception of its own.
// What it held is submitted again by the partition_consumers; level 1 starts empty.

#include <memory>

#include "messages/interfaces.hpp"
#include "runtime/policy/circuit.hpp"
#include "runtime/store/redis.hpp"

namespace troupe::observe {
class metrics;
class notices;
}  // namespace troupe::observe

namespace troupe {

struct cache_client_args {
  bool always = false;                        ///< cache.mode = on: also where the model is cheaper
  std::size_t bytes = std::size_t{16} << 20;  ///< level 1
  nanos ttl = 3'600'000'000'000;
  std::size_t width = 1;                        ///< the widest output that is cached, doubles
  std::shared_ptr<store::level2_cache> level2;  ///< may be null
  policy::circuit_config circuit;               ///< of level 2
  nanos patience = 1'000'000'000;               ///< longest wait for an equal row in flight
  std::shared_ptr<observe::metrics> metrics;
  std::string name = "cache_client";          ///< in the supervision tree
  std::shared_ptr<observe::notices> notices;  ///< may be null
};

[[nodiscard]] cache_client_actor spawn_cache_client(caf_line::system& system, cache_client_args args,
                                                    const wiring& neighbours);

}  // namespace troupe
