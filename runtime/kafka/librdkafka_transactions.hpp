#pragma once
// The transactional sink over librdkafka: one transactional producer, and a thread ("kafka-commit") that
// makes the calls which wait for the broker: init, send offsets, commit, abort.
//
// The group's metadata goes with the offsets (KIP-447), so a member that the group has given up, or one
// whose partitions were taken away, can't commit. Whoever has the same transactional.id later fences this
// one: it then makes itself a new producer, and what was under way is reported as not committed. When the end
// of a commit can't be known from the answer (the producer was fenced while it waited), the group's committed
// offsets tell.

#include <memory>
#include <string>

#include "runtime/kafka/librdkafka_sink.hpp"
#include "runtime/kafka/librdkafka_source.hpp"
#include "runtime/kafka/transactional_sink.hpp"

namespace troupe::kafka {

/// `options.transactional_id` must be set; `options.linger_ms` is of no account. Throws property_error.
[[nodiscard]] std::unique_ptr<transactional_sink> make_librdkafka_transactions(
    const sink_options& options, std::shared_ptr<consumer_group> group);

}  // namespace troupe::kafka
