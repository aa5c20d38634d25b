#pragma once
// transactor: one a node, in the place of `producer` where delivery is exactly once.
// Owns the transactional sinks and every answer until the transaction that holds it is committed.
// Promises: a transaction has, of each partition, the answers to all records up to a cut, none beyond it, and
// the cut as the group's offset; so whoever reads only what is committed sees each record answered once. What
// was aborted is sent again from here, nothing is scored anew. A partition's answers leave in the order of
// its records. An assignment that is over, or whose partition_consumer crashed, has no part in any
// transaction once it was told `settled`. Dies of: an exception of its own. Its successor takes the desk
// over, and aborts what was open.
//
// Partitions are shared out over the sinks by number: each sink has one transaction at a time, and while it
// commits nothing can be added to it.

#include <cstddef>
#include <memory>
#include <vector>

#include "messages/interfaces.hpp"
#include "runtime/kafka/transactional_sink.hpp"

namespace troupe::observe {
class metrics;
}

namespace troupe {

/// What outlives a transactor: the answers, and how far each transaction is.
class transaction_desk;
/// `records`: of a transaction, at most.
[[nodiscard]] std::shared_ptr<transaction_desk> make_transaction_desk(
    std::vector<std::shared_ptr<kafka::transactional_sink>> sinks, std::size_t records);

struct transactor_args {
  std::shared_ptr<transaction_desk> desk;
  std::shared_ptr<observe::metrics> metrics;
  bool keep_timestamp = false;  ///< as producer_args
};

[[nodiscard]] producer_actor spawn_transactor(caf_line::system& system, transactor_args args);

}  // namespace troupe
