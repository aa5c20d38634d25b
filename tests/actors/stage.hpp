#pragma once
// The road of a request under the deterministic scheduler: real actors and policies, simulated partition and
// sink, and engines that do what the test says.

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "actors/breaker.hpp"
#include "actors/cache_client.hpp"
#include "actors/gateway.hpp"
#include "actors/model_shard.hpp"
#include "actors/partition_consumer.hpp"
#include "actors/producer.hpp"
#include "actors/scheduler.hpp"
#include "actors/supervisor.hpp"
#include "runtime/model/live_models.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/notices.hpp"
#include "runtime/observe/trace.hpp"
#include "tests/actors/deterministic_system.hpp"
#include "tests/actors/simulated_ports.hpp"

namespace troupe::test {

/// Predicts the sum of its two features, unless told otherwise.
class scripted_engine final : public model::engine {
 public:
  using hook = std::function<void(std::span<const double* const>)>;
  explicit scripted_engine(std::shared_ptr<hook> before) : before_(std::move(before)) {}
  void score(std::span<const double* const> rows, double* out) const override {
    if (*before_) (*before_)(rows);
    for (const double* row : rows) *out++ = row[0] + row[1];
  }
  std::string_view kind() const override { return "scripted"; }

 private:
  std::shared_ptr<hook> before_;
};

struct stage_options {
  bool cache = false;
  bool in_order = false;  ///< answers in the order of the partition
  bool express = false;   ///< a second shard, for urgent rows: the child express_shard
  std::size_t credit_records = 100;
  std::size_t class_limit = 100'000;
  std::size_t max_calls = 10'000;
  std::uint32_t intensity = 1'000;
  bool park = false;  ///< records of a model that can't answer
  nanos stall_limit = 0;
  policy::circuit_config circuit;
  std::shared_ptr<store::level2_cache> level2;
  double kafka_sample_ratio = 0;  ///< of records without a traceparent
};

class collected_spans final : public observe::span_sink {
 public:
  void put(observe::span&& one) override {
    const std::lock_guard lock(mutex_);
    all_.push_back(std::move(one));
  }
  [[nodiscard]] std::vector<observe::span> all() const {
    const std::lock_guard lock(mutex_);
    return all_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<observe::span> all_;
};

class stage {
 public:
  explicit stage(stage_options o = {}) : options(std::move(o)) {
    std::vector<model::feature> features(2);
    features[0].name = "a";
    features[1].name = "b";
    model::loaded_model::parts parts;
    parts.name = "sum";
    parts.version = "1";
    parts.schema = model::schema(features, true);
    parts.engine = std::make_unique<scripted_engine>(before_scoring);
    parts.digest = 7;
    model_ = std::make_shared<const model::loaded_model>(std::move(parts));
    table_ = std::make_shared<const model::model_table>(
        std::vector<std::shared_ptr<const model::loaded_model>>{model_}, model::model_table::options{});

    live->publish(table_);
    if (options.in_order) order = make_order_desk();

    observe::tracer_options tracing;
    tracing.kafka_ratio = options.kafka_sample_ratio;
    tracing.results_topic = "results";
    tracing.dead_letter_topic = "dead";
    tracing.seed = 1;
    tracing.clock = [this] { return system.now(); };
    tracer = observe::tracer::make(std::move(tracing), spans);

    supervisor_args sup;
    sup.rules.children.intensity = options.intensity;
    sup.rules.children.period = 60'000'000'000;
    sup.metrics = metrics;
    sup.escalate = [this](const std::string& why) { escalated = why; };
    sup.started = [this](const child_spec& spec, const caf_line::any_actor& h,
                         bool) -> std::optional<wiring> {
      if (spec.kind == "partition_consumer") consumer = h;
      if (spec.kind == "model_shard") shard = h;
      if (spec.kind == "producer") who.producer = caf::actor_cast<producer_actor>(h);
      if (spec.kind == "scheduler") who.scheduler = caf::actor_cast<scheduler_actor>(h);
      if (spec.kind == "cache_client") who.cache = caf::actor_cast<cache_client_actor>(h);
      if (spec.kind == "breaker") {
        auto map = std::make_shared<std::map<const model::loaded_model*, breaker_actor>>();
        (*map)[model_.get()] = caf::actor_cast<breaker_actor>(h);
        who.breakers = map;
      }
      if (spec.kind == "model_keeper") who.keeper = caf::actor_cast<model_keeper_actor>(h);
      if (spec.kind == "shadow_scorer") who.shadow = caf::actor_cast<shadow_scorer_actor>(h);
      ++who.revision;
      return who;
    };
    supervisor = system.own(spawn_supervisor(system.actors, std::move(sup)));

    child("producer", [this](bool) {
      producer_args a;
      a.sink = sink;
      a.order = order;
      a.metrics = metrics;
      return caf_line::untyped(spawn_producer(system.actors, std::move(a)));
    });
    child("scheduler", [this](bool) {
      scheduler_args a;
      a.classes = {{"interactive", 100'000'000, options.class_limit},
                   {"bulk", 60'000'000'000, options.class_limit}};
      a.slots = 1;
      a.max_batch = 16;
      a.admission = admission;
      a.stalls = stalls;
      a.park = options.park;
      a.stall_limit = options.stall_limit;
      a.metrics = metrics;
      return caf_line::untyped(spawn_scheduler(system.actors, std::move(a), who));
    });
    if (options.cache)
      child("cache_client", [this](bool) {
        cache_client_args a;
        a.always = true;
        a.bytes = 1 << 20;
        a.level2 = options.level2;
        a.metrics = metrics;
        return caf_line::untyped(spawn_cache_client(system.actors, std::move(a), who));
      });
    child("breaker", [this](bool) {
      breaker_args a;
      a.model = model_;
      a.circuit = options.circuit;
      a.metrics = metrics;
      a.name = "breaker";
      a.notices = notices;
      return caf_line::untyped(spawn_breaker(system.actors, std::move(a), who));
    });
    const auto start_shard = [this](bool express) {
      model_shard_args a;
      a.id = ++shards;
      a.model = model_;
      a.metrics = metrics;
      a.gate = gate;
      a.express = express;
      return caf_line::untyped(spawn_model_shard(system.actors, std::move(a), who));
    };
    child("model_shard", [=](bool) { return start_shard(false); });
    if (options.express) child("express_shard", [=](bool) { return start_shard(true); });
    child("gateway", [this](bool) {
      gateway_args a;
      a.desk = desk;
      a.name = "gateway";
      a.models = live;
      a.admission = admission;
      a.stalls = stalls;
      a.max_calls = options.max_calls;
      a.class_names = {"interactive", "bulk"};
      a.metrics = metrics;
      return caf_line::untyped(spawn_gateway(system.actors, std::move(a), who));
    });
    child("partition_consumer", [this](bool restart) {
      partition_consumer_args a;
      a.queue = queue;
      a.models = live;
      a.parser.class_targets = {100'000'000, 60'000'000'000};
      a.parser.default_class = 1;
      a.credit_records = options.credit_records;
      a.poll_records = 32;
      a.rewind = restart;
      a.metrics = metrics;
      a.tracer = tracer;
      return caf_line::untyped(spawn_partition_consumer(system.actors, std::move(a), who));
    });
    system.run();
  }

  ~stage() { *before_scoring = {}; }

  void request(int n, const std::string& more = {}) {
    queue->add("{\"request_id\":\"r-" + std::to_string(n) + "\",\"features\":[" + std::to_string(n) +
               ",0.5]" + more + "}");
  }

  /// Runs until nothing moves, delivering whatever was sent, for `by` of virtual time.
  void settle(nanos by = 2'000'000'000) {
    for (nanos t = 0; t < by; t += 10'000'000) {
      system.advance(10'000'000);
      sink->deliver();
      system.run();
    }
  }

  void crash_child(const std::string& name) {
    auto done = std::make_shared<std::promise<std::string>>();
    auto result = done->get_future();
    caf_line::post(supervisor, kill_child{name, 1, done});
    system.run();
  }

  /// Values delivered to the results topic whose request_id is r-<n>.
  std::vector<std::string> results_of(int n) const {
    std::vector<std::string> out;
    const std::string head = "{\"request_id\":\"r-" + std::to_string(n) + "\",";
    for (const auto& s : sink->delivered)
      if (s.to == kafka::destination::results && s.value.rfind(head, 0) == 0) out.push_back(s.value);
    return out;
  }

  stage_options options;
  std::shared_ptr<collected_spans> spans = std::make_shared<collected_spans>();
  std::shared_ptr<const observe::tracer> tracer;
  deterministic_system system;
  std::shared_ptr<shadow_gate> gate = std::make_shared<shadow_gate>();
  std::shared_ptr<model::live_models> live = std::make_shared<model::live_models>();
  std::shared_ptr<simulated_queue> queue = std::make_shared<simulated_queue>();
  std::shared_ptr<order_desk> order;
  std::shared_ptr<simulated_sink> sink = std::make_shared<simulated_sink>();
  std::shared_ptr<observe::notices> notices = std::make_shared<observe::notices>();
  std::shared_ptr<observe::metrics> metrics = std::make_shared<observe::metrics>(observe::metrics_options{});
  std::shared_ptr<policy::admission> admission = std::make_shared<policy::admission>(2, 1);
  std::shared_ptr<model::stalls> stalls = std::make_shared<model::stalls>();
  std::shared_ptr<gateway_desk> desk = std::make_shared<gateway_desk>();
  std::shared_ptr<scripted_engine::hook> before_scoring = std::make_shared<scripted_engine::hook>();
  supervisor_actor supervisor;
  wiring who;
  caf_line::any_actor consumer, shard;
  std::string escalated;
  std::uint64_t shards = 0;

 private:
  void child(const std::string& kind, std::function<caf_line::any_actor(bool)> start) {
    auto spec = std::make_shared<child_spec>();
    spec->name = kind;
    spec->kind = kind;
    spec->start = std::move(start);
    caf_line::post(supervisor, supervise{spec});
    system.run();
  }

  std::shared_ptr<const model::loaded_model> model_;
  std::shared_ptr<const model::model_table> table_;
};

}  // namespace troupe::test
