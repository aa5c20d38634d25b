#pragma once
// The typed interfaces of all actors, in pipeline order: read as the system's protocol. Every actor also
// takes `wiring` (who its neighbours are, anew after each restart) and `crash` (an injected fault).

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "messages/caf.hpp"
#include "messages/messages.hpp"

namespace troupe::policy {
struct group_rules;
}

namespace troupe {
struct wiring;
struct settle_for;
struct shard_idle;
struct supervise;
struct dismiss;
struct kill_child;
struct report_tree;
struct supervise_group;
struct abandon;
struct stop_all;
}  // namespace troupe

TROUPE_LOCAL_MESSAGE(troupe::records_ready)
TROUPE_LOCAL_MESSAGE(troupe::calls_ready)
TROUPE_LOCAL_MESSAGE(troupe::submit)
TROUPE_LOCAL_MESSAGE(troupe::shard_idle)
TROUPE_LOCAL_MESSAGE(troupe::grant)
TROUPE_LOCAL_MESSAGE(troupe::grant_done)
TROUPE_LOCAL_MESSAGE(troupe::outcome)
TROUPE_LOCAL_MESSAGE(troupe::breaker_changed)
TROUPE_LOCAL_MESSAGE(troupe::learned)
TROUPE_LOCAL_MESSAGE(troupe::answers)
TROUPE_LOCAL_MESSAGE(troupe::reports_ready)
TROUPE_LOCAL_MESSAGE(troupe::hold_over)
TROUPE_LOCAL_MESSAGE(troupe::delivered)
TROUPE_LOCAL_MESSAGE(troupe::settle_for)
TROUPE_LOCAL_MESSAGE(troupe::settled)
TROUPE_LOCAL_MESSAGE(troupe::scored)
TROUPE_LOCAL_MESSAGE(troupe::shadow_work)
TROUPE_LOCAL_MESSAGE(troupe::source_changed)
TROUPE_LOCAL_MESSAGE(troupe::load_ended)
TROUPE_LOCAL_MESSAGE(troupe::model_settings)
TROUPE_LOCAL_MESSAGE(troupe::model_gone)
TROUPE_LOCAL_MESSAGE(troupe::model_command)
TROUPE_LOCAL_MESSAGE(troupe::tick)
TROUPE_LOCAL_MESSAGE(troupe::retire)
TROUPE_LOCAL_MESSAGE(troupe::crash)
TROUPE_LOCAL_MESSAGE(troupe::wiring)
TROUPE_LOCAL_MESSAGE(troupe::supervise)
TROUPE_LOCAL_MESSAGE(troupe::dismiss)
TROUPE_LOCAL_MESSAGE(troupe::kill_child)
TROUPE_LOCAL_MESSAGE(troupe::report_tree)
TROUPE_LOCAL_MESSAGE(troupe::supervise_group)
TROUPE_LOCAL_MESSAGE(troupe::abandon)
TROUPE_LOCAL_MESSAGE(troupe::stop_all)

namespace troupe {

/// One a partition and assignment: polls within its credit, parses, submits; commits when answers are
/// delivered.
using partition_consumer_actor = caf_line::actor_of<void(records_ready), void(delivered), void(settled),
                                                    void(retire), void(tick), void(wiring), void(crash)>;

/// One a thread of a door: reads calls, submits them, ends each with its reply.
using gateway_actor =
    caf_line::actor_of<void(calls_ready), void(answers), void(tick), void(wiring), void(crash)>;

/// One a node: answers what it knows, joins equal rows in flight, passes the rest to the scheduler, learns.
using cache_client_actor =
    caf_line::actor_of<void(submit), void(learned), void(model_gone), void(tick), void(wiring), void(crash)>;

/// One a node: queues rows by model and class and grants batches to idle shards, slots across all models.
using scheduler_actor =
    caf_line::actor_of<void(submit), void(shard_idle), void(grant_done), void(breaker_changed),
                       void(model_gone), void(tick), void(wiring), void(crash)>;

/// One a model version: counts outcomes, tells the scheduler when the model may run.
using breaker_actor = caf_line::actor_of<void(outcome), void(tick), void(wiring), void(crash)>;

/// One an engine: scores a granted batch and formats its answers.
using model_shard_actor = caf_line::actor_of<void(grant), void(wiring), void(crash)>;

/// One a node: gathers answers, gives them to the sink, tells the partition_consumers what was delivered. Two
/// kinds: `producer`, at least once, and `transactor`, exactly once.
using producer_actor = caf_line::actor_of<void(answers), void(reports_ready), void(hold_over),
                                          void(settle_for), void(tick), void(wiring), void(crash)>;

/// One a node: says which versions are loaded and which of them answers; watches rollouts and rolls back.
using model_keeper_actor =
    caf_line::actor_of<void(source_changed), void(load_ended), void(model_command), void(model_settings),
                       void(scored), void(tick), void(wiring), void(crash)>;

/// One a node: scores rows once more with a version that answers nobody.
using shadow_scorer_actor = caf_line::actor_of<void(shadow_work), void(wiring), void(crash)>;

/// One a node: starts children, restarts what crashes within the budgets of its groups, ends the process when
/// the last of them is spent.
using supervisor_actor =
    caf_line::actor_of<void(supervise), void(supervise_group), void(dismiss), void(kill_child), void(abandon),
                       void(report_tree), void(stop_all), void(tick)>;

/// This assignment is over with answers unfinished, or is read again by a successor: forget them, and say
/// `settled` when no transaction can commit one of them any more (partition_consumer -> producer).
struct settle_for {
  std::int32_t partition = 0;
  std::uint32_t generation = 0;
  partition_consumer_actor from;
};

/// A shard offers itself for the next batch of its model (model_shard -> scheduler).
struct shard_idle {
  std::uint64_t shard = 0;  ///< unique in the process
  const model::loaded_model* model = nullptr;
  model_shard_actor from;
  bool express = false;  ///< for urgent rows only, beside the slots
};

/// Who is who now. Sent by the supervisor to every child whenever one was started anew.
struct wiring {
  std::uint64_t revision = 0;
  cache_client_actor cache;  ///< none while the cache is off
  scheduler_actor scheduler;
  producer_actor producer;
  std::shared_ptr<const std::map<const model::loaded_model*, breaker_actor>> breakers;
  model_keeper_actor keeper;
  shadow_scorer_actor shadow;  ///< none where there are no shadows
};

/// A child to be started and kept alive.
struct child_spec {
  std::string name;  ///< unique, and the `actor` label of its metrics
  std::string kind;
  /// Makes the actor; `restart` is false for the first start. Called on the supervisor's thread, may throw.
  std::function<caf_line::any_actor(bool restart)> start;
  std::string group;  ///< of the supervision tree; one that is not there: the root
  /// One that is stuck may go on beside its successor: it owns nothing that both would have.
  bool replaceable = false;

  /// Submits again what it holds when it hears of a new neighbour.
  [[nodiscard]] bool submits() const { return kind == "partition_consumer" || kind == "gateway"; }
};

struct supervise {
  std::shared_ptr<const child_spec> child;
};

/// A group of the supervision tree, behind the others of `parent`.
struct supervise_group {
  std::string name;    ///< unique
  std::string parent;  ///< one that is not there: the root
  std::shared_ptr<const policy::group_rules> rules;
};

/// Ends a child for good: it is told `retire` (partition_consumers) or simply ended. A group: all beneath it,
/// last started first.
struct dismiss {
  std::string name;
  std::shared_ptr<retire> how;  ///< null: at once
  bool again = false;           ///< the supervisor's own: handled behind what was in its mailbox
};

/// This child does not come back from its work and can't be ended from outside: another is started in its
/// place; it ends if it ever returns (scheduler -> supervisor).
struct abandon {
  caf_line::any_actor who;
  std::string why;
};

/// An injected fault: crashes the named child, or with an empty name one chosen by `seed`.
struct kill_child {
  std::string name;
  std::uint64_t seed = 0;
  std::shared_ptr<std::promise<std::string>> killed;  ///< its name, empty if there is none
};

struct child_report {
  std::string name;
  std::string kind;
  bool running = false;
  std::uint64_t restarts = 0;
  std::string last_reason;
  std::string group;
  double since_seconds = 0;  ///< it runs, or is down, for so long
  double stuck_seconds = 0;  ///< it handles one message for so long; 0: it is not stuck
  std::string notice;        ///< what stands against it (observe/notices.hpp); empty: nothing
};

struct group_report {
  std::string name;
  std::string parent;  ///< empty: it is the root
  std::string strategy;
  std::uint32_t intensity = 0;
  double period_seconds = 0;
  std::uint32_t left = 0;         ///< crashes of its children that it would tolerate now
  std::uint32_t groups_left = 0;  ///< the same of groups in it that give up
  std::uint64_t restarts = 0;     ///< of all of it
  double since_seconds = 0;       ///< since its last restart, or its start
};

struct tree_report {
  std::vector<group_report> groups;    ///< parents first
  std::vector<child_report> children;  ///< in the order in which they are started
  std::vector<std::string> abandoned;  ///< still at work, never to be asked again
};

struct report_tree {
  std::shared_ptr<std::promise<tree_report>> result;
};

/// Ends all children, last started first, then the supervisor itself.
struct stop_all {
  nanos patience = 5'000'000'000;  ///< for all; then each that is left gets 0.2 s more
  /// Names of those that did not end: their threads go on.
  std::shared_ptr<std::promise<std::vector<std::string>>> left;
};

}  // namespace troupe
