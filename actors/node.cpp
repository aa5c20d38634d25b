#include "actors/node.hpp"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include "actors/breaker.hpp"
#include "actors/cache_client.hpp"
#include "actors/gateway.hpp"
#include "actors/http_door.hpp"
#include "actors/model_keeper.hpp"
#include "actors/model_shard.hpp"
#include "actors/node_backend.hpp"
#include "actors/node_door.hpp"
#include "actors/node_guard.hpp"
#include "actors/partition_consumer.hpp"
#include "actors/producer.hpp"
#include "actors/scheduler.hpp"
#include "actors/shadow_scorer.hpp"
#include "actors/supervisor.hpp"
#include "actors/transactor.hpp"
#include "messages/own_thread.hpp"
#include "runtime/batches/service.hpp"
#include "runtime/config/reload.hpp"
#include "runtime/door/caller.hpp"
#include "runtime/door/routes.hpp"
#include "runtime/faults/fault_json.hpp"
#include "runtime/faults/faulty_sink.hpp"
#include "runtime/faults/injector.hpp"
#include "runtime/grpc/server.hpp"
#include "runtime/http/server.hpp"
#include "runtime/kafka/embedded_broker.hpp"
#include "runtime/kafka/librdkafka_sink.hpp"
#include "runtime/kafka/librdkafka_source.hpp"
#include "runtime/kafka/librdkafka_transactions.hpp"
#include "runtime/kafka/transaction_heir.hpp"
#include "runtime/model/live_models.hpp"
#include "runtime/model/repository.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/model/version_loader.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/notices.hpp"
#include "runtime/observe/otlp_exporter.hpp"
#include "runtime/observe/request_log.hpp"
#include "runtime/observe/trace.hpp"
#include "runtime/registry/from_settings.hpp"
#include "runtime/store/redis.hpp"
#include "troupe_version.hpp"

namespace troupe {
namespace {

[[nodiscard]] nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// A batch's buffers are a few hundred KiB: without this glibc maps and unmaps each, and pays for every page
/// again. Few arenas, since rows are made by one thread and freed by another.
void tune_allocator() {
  mallopt(M_ARENA_MAX, 4);
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

/// Trees lie in many small blocks, and reading a file takes several times its size: without this both stay
/// with the allocator after an unload or a load. Some milliseconds; not for a thread that answers.
void give_memory_back() {
  malloc_trim(0);
}

/// What of memory.limit goes where. The rest is the process itself, the cache and what the allocator keeps.
struct memory_shares {
  std::size_t prefetch;        // librdkafka's fetch queue, a partition
  std::size_t credit;          // unfinished records, a partition
  std::size_t producer_queue;  // librdkafka's producer, all
};

[[nodiscard]] memory_shares share_memory(std::size_t limit) {
  constexpr std::size_t partitions = 8;  // planned for; a node with more of them sets memory.limit higher
  return {limit / 6 / partitions, limit / 6 / partitions, limit / 4};
}

[[nodiscard]] kafka::source_options source_options_of(const config::settings& s) {
  kafka::source_options in;
  in.group = s.kafka.group;
  in.topic = s.kafka.requests_topic;
  in.prefetch_bytes = share_memory(s.memory.limit).prefetch;
  in.drain_timeout = s.drain.deadline;
  in.instance_id = s.kafka.instance_id;
  in.transactional = s.kafka.delivery == config::delivery::exactly_once;
  in.own = s.kafka.properties;
  return in;
}

/// With exactly once it still lacks the transactional id.
[[nodiscard]] kafka::sink_options sink_options_of(const config::settings& s) {
  kafka::sink_options out;
  out.results_topic = s.kafka.results_topic;
  out.dead_letter_topic = s.kafka.dead_letter_topic;
  out.parking_topic = s.kafka.parking_topic;
  out.linger_ms = s.kafka.gather_max > 0 ? 1 : 0;  // so that what is given at once goes in one request
  out.queue_bytes = share_memory(s.memory.limit).producer_queue;
  if (s.kafka.delivery == config::delivery::exactly_once) {
    out.transaction_timeout = s.kafka.transaction_timeout;
    out.queue_bytes /= s.kafka.transaction_groups;
  }
  out.own = s.kafka.properties;
  return out;
}

[[nodiscard]] std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

[[nodiscard]] std::chrono::milliseconds ms(nanos n) {
  return std::chrono::milliseconds(n / 1'000'000);
}

[[nodiscard]] observe::level log_level(int syslog) {
  if (syslog <= 3) return observe::level::error;
  if (syslog == 4) return observe::level::warn;
  return syslog <= 6 ? observe::level::info : observe::level::debug;
}

void tell_tls(std::string_view of, const std::string& why) {
  observe::log(observe::level::error, of, "tls_not_reloaded",
               "the certificate can't be used; the one in force stays", {{"error", why}});
}

}  // namespace

struct node::impl final : kafka::assignment_listener, door_state {
  explicit impl(config::settings s) : settings(std::move(s)) {}

  config::settings settings;
  std::shared_ptr<observe::metrics> metrics;
  std::shared_ptr<observe::notices> notices = std::make_shared<observe::notices>();
  std::shared_ptr<observe::otlp_exporter> spans;            // null: nothing is traced
  std::shared_ptr<const observe::tracer> tracer;            // the same
  std::shared_ptr<const observe::request_log> request_log;  // null: off
  std::shared_ptr<model::live_models> models = std::make_shared<model::live_models>();
  std::shared_ptr<model::recent_rows> recent = std::make_shared<model::recent_rows>();
  std::shared_ptr<shadow_gate> gate = std::make_shared<shadow_gate>();
  std::shared_ptr<codec::live_limits> limits = std::make_shared<codec::live_limits>();
  std::shared_ptr<keeper_memory> kept = std::make_shared<keeper_memory>();
  std::unique_ptr<model::version_loader> loader;
  std::unique_ptr<registry::registry_poller> registry;
  std::vector<std::string> registry_models;  // by the order of mlflow.models
  std::unique_ptr<kafka::embedded_broker> broker;
  std::string bootstrap;
  std::unique_ptr<faults::injector> injector;              // null: faults are off
  std::vector<std::shared_ptr<kafka::record_sink>> sinks;  // one, or those of transactions
  std::shared_ptr<transaction_desk> transactions;          // exactly once
  std::shared_ptr<kafka::consumer_group> consumers;        // the same
  std::unique_ptr<kafka::transaction_heir> heir;           // the same
  std::shared_ptr<order_desk> order;                       // null: results go as they are ready
  std::unique_ptr<kafka::record_source> source;
  std::shared_ptr<store::level2_cache> redis;
  std::unique_ptr<node_door> door;
  std::shared_ptr<policy::admission> admission;
  std::shared_ptr<model::stalls> stalls = std::make_shared<model::stalls>();
  std::shared_ptr<node_backend> backend;
  std::unique_ptr<node_guard> guard;
  std::unique_ptr<batches::service> batches;
  std::shared_ptr<gateway_desk> batch_desk;  // null: no batches
  std::unique_ptr<serving::routes> routes;
  std::unique_ptr<http_door> http;
  std::unique_ptr<rpc::server> grpc;
  std::vector<std::shared_ptr<gateway_desk>> grpc_desks;  // by thread

  std::unique_ptr<caf_line::system_config> actor_config;
  caf_line::system* actors = nullptr;  // owned, until stop()
  supervisor_actor supervisor;

  mutable std::mutex mutex;                                     // guards the next six
  std::vector<std::string> passed_over;                         // of the models directory, in words
  std::map<const model::loaded_model*, std::string> actor_ids;  // of each version: "churn/3", "churn/3@2"
  wiring who;
  std::map<const model::loaded_model*, breaker_actor> breakers;
  std::string failed;
  std::function<void()> failed_hook;

  std::atomic<bool> up{false};  // all of it is there; before, the door knows only the models
  std::atomic<bool> draining{false};
  std::atomic<bool> closed{false};
  std::atomic<std::uint64_t> next_shard{1};
  nanos started = steady_now();
  std::atomic<nanos> asked_kafka{0};        // when the group was first joined
  mutable std::atomic<bool> let_in{false};  // by the brokers, once
  memory_shares shares{};
  std::size_t slots = 1;     // batches at a time
  std::string kept_default;  // what an empty models.default meant at the start
  codec::parser_options parser;

  // --- start
  // ---------------------------------------------------------------------------------------------------------

  void start() {
    tune_allocator();
    shares = share_memory(settings.memory.limit);
    make_metrics();
    make_tracer();
    make_request_log();
    make_injector();
    ask_registry();
    load_models();
    kept_default = kept->default_model;
    kept->configured = kept->waiting = settings.rollout;
    open_loader();
    parser = parser_of();
    try {
      door = std::make_unique<node_door>(
          door_options{settings.metrics.bind, settings.metrics.port, settings.admin.token}, *this);
    } catch (const http::bind_error& e) {
      throw startup_error(e.what());
    }
    open_doors();
    watch_files();
    open_kafka();
    open_redis();
    start_actors();
    if (batches) batches->start();
    if (http) http->start();
    if (grpc)
      grpc->start([this](std::size_t thread, std::vector<std::unique_ptr<call>> calls) {
        grpc_desks[thread]->hand_in(std::move(calls));
      });
    asked_kafka = steady_now();
    if (source) source->start(*this);
    follow_registry();
    up = true;
    tell_started();
  }

  void tell_started() const {
    std::vector<std::pair<std::string_view, std::string>> what;
    if (settings.kafka.enabled)
      what = {{"brokers", bootstrap},
              {"group", settings.kafka.group},
              {"requests_topic", settings.kafka.requests_topic}};
    if (http) what.emplace_back("http_port", std::to_string(http->port()));
    if (grpc) what.emplace_back("grpc_port", std::to_string(grpc->port()));
    what.emplace_back("metrics_port", std::to_string(door->port()));
    observe::log(observe::level::info, "node", "started",
                 !settings.kafka.enabled ? std::string("started; Kafka is off")
                 : broker                ? "started; clients reach the broker in this process at " + bootstrap
                                         : "started; waiting for partitions",
                 what);
  }

  void make_metrics() {
    observe::metrics_options o;
    for (const auto& c : settings.classes) {
      o.class_names.push_back(c.name);
      o.class_targets.push_back(static_cast<double>(c.target) * 1e-9);
    }
    metrics = std::make_shared<observe::metrics>(o);
  }

  void make_tracer() {
    const auto& t = settings.tracing;
    if (t.endpoint.empty()) return;
    auto o = otlp_options_of(t);
    o.metrics = metrics;
    spans = std::make_shared<observe::otlp_exporter>(std::move(o));
    observe::tracer_options how;
    how.door_ratio = t.sample_ratio;
    how.kafka_ratio = t.kafka_sample_ratio;
    how.kafka_group = settings.kafka.group;
    how.results_topic = settings.kafka.results_topic;
    how.dead_letter_topic = settings.kafka.dead_letter_topic;
    tracer = observe::tracer::make(std::move(how), spans);
  }

  void make_request_log() {
    const auto& l = settings.log;
    if (l.requests == config::log_requests::off) return;
    request_log = std::make_shared<observe::request_log>(observe::request_log_options{
        l.requests == config::log_requests::all, l.sample_ratio, l.slow_request});
  }

  // --- faults
  // ---------------------------------------------------------------------------------------------------------

  void make_injector() {
    if (!settings.faults.enabled) return;
    faults::injector_options o;
    o.bounds.max_duration = settings.faults.max_duration;
    o.bounds.max_size = settings.faults.max_memory;
    o.seed = std::random_device{}();
    o.kafka = settings.kafka.enabled;
    o.reports = o.kafka && settings.kafka.delivery == config::delivery::at_least_once;
    o.redis = !settings.redis.host.empty();
    o.registry = !settings.mlflow.models.empty();
    o.crash = [this](const std::string& name) { return crash_one(name); };
    o.actors = [this] {
      std::vector<std::string> names;
      for (const auto& c : tree().children) names.push_back(c.name);
      return names;
    };
    o.versions = [this] {
      std::vector<std::pair<std::string, std::string>> all;
      for (const auto& v : models_now().versions) all.emplace_back(v.model, v.version);
      return all;
    };
    o.rejoin = [this] {
      if (!up) return false;
      source->rejoin();
      return true;
    };
    o.tell = [](const faults::report& r) {
      const std::string what = faults::in_words(r.what);
      if (r.ended.empty())
        observe::log(observe::level::warn, "faults", "fault_started", "an injected fault begins: " + what,
                     {{"fault", std::string(faults::info(r.what.what).name)}, {"id", std::to_string(r.id)}});
      else
        observe::log(observe::level::warn, "faults", "fault_ended",
                     "an injected fault ends (" + r.ended + "): " + what,
                     {{"fault", std::string(faults::info(r.what.what).name)},
                      {"id", std::to_string(r.id)},
                      {"strikes", std::to_string(r.strikes)}});
    };
    injector = std::make_unique<faults::injector>(std::move(o));
  }

  /// Null: faults are off.
  [[nodiscard]] faults::fault_points* fault_points() const {
    return injector ? &injector->points() : nullptr;
  }

  // --- the registry
  // -------------------------------------------------------------------------------------------------------

  /// The first answers, or what the cache remembers of the last ones: models are loaded after it.
  void ask_registry() {
    if (settings.mlflow.models.empty()) {
      if (!settings.mlflow.uri.empty())
        observe::log(observe::level::warn, "registry", "registry_problem",
                     "mlflow.uri has no effect: mlflow.models names no model", {});
      return;
    }
    try {
      auto o = registry::poller_options_of(settings.mlflow);
      o.seed = std::random_device{}();
      if (injector) o.client.sockets = injector->registry();
      o.verify = [this, engines = model_options(settings).engines](const model::version_on_disk& v) {
        return try_out(v, engines);
      };
      for (const auto& text : o.references)
        if (const auto r = policy::parse_model_reference(text)) registry_models.push_back(r->name);
      registry = std::make_unique<registry::registry_poller>(std::move(o));
      const auto report = registry->poll_once();
      registry_polled(report);
      if (!registry->current().versions.empty()) return;
      throw startup_error(
          "there is no model of the registry to serve: " +
          (report.problems.empty() ? std::string("mlflow.models has none") : report.problems.front()));
    } catch (const startup_error&) {
      throw;
    } catch (const std::exception& e) {
      throw startup_error(e.what());
    }
  }

  /// Why a version can't be served; empty when it can. What loads and scores here will do so beside the
  /// others.
  [[nodiscard]] std::string try_out(const model::version_on_disk& v,
                                    const model::engine_options& engines) const {
    std::string why;
    try {
      const auto m = model::load_model(v.path, v.name, v.version, engines);
      (void)model::warm_up(*m, *recent);
    } catch (const std::exception& e) {
      why = e.what();
    }
    give_memory_back();
    return why;
  }

  void registry_polled(const registry::poll_report& report) {
    metrics->registry_poll(report.reached);
    for (const auto& name : report.rejected) metrics->registry_rejected(name);
    for (const auto& what : report.problems)
      observe::log(observe::level::warn, "registry", "registry_problem", what + "; what is served stays", {});
    if (report.recovered)
      observe::log(observe::level::info, "registry", "registry_in_step",
                   "the registry answers, and what it names is served", {});
  }

  void follow_registry() {
    if (!registry) return;
    registry->start(
        [this, before = registry->current().production](const model::model_source_update& update,
                                                        const registry::poll_report& report) mutable {
          registry_polled(report);
          if (!report.changed) return;
          for (const auto& [name, version] : update.production) {
            auto& was = before[name];
            if (was == version) continue;
            observe::log(observe::level::info, "registry", "registry_changed",
                         "the registry names another version; it is loaded beside the others",
                         {{"model", name}, {"version", version}, {"before", was}});
            was = version;
          }
          tell_keeper(update);
        });
  }

  void tell_keeper(model::model_source_update u) {
    caf_line::post(neighbours().keeper,
                   source_changed{std::make_shared<const model::model_source_update>(std::move(u))});
  }

  /// What a source had when the models were loaded.
  void note_source(const model::model_source_update& first) {
    for (const auto& v : first.versions) {
      auto& known = kept->versions[{v.name, v.version}];
      known.disk = v;
      known.source = first.source;
    }
    for (const auto& [name, version] : first.production)
      kept->said_by_source[first.source + "/" + name] = version;
  }

  /// A model of the registry is not looked for in the directory.
  [[nodiscard]] model::model_source_update without_registry(model::model_source_update u) const {
    const auto of_registry = [this](const std::string& name) {
      return std::find(registry_models.begin(), registry_models.end(), name) != registry_models.end();
    };
    std::erase_if(u.versions, [&](const auto& v) { return of_registry(v.name); });
    std::erase_if(u.production, [&](const auto& p) { return of_registry(p.first); });
    return u;
  }

  void load_models() {
    try {
      auto how = model_options(settings);
      if (registry) {
        how.source = registry->current();
        how.not_here = registry_models;
        if (how.default_model.empty() && how.source.production.contains(registry_models.front()))
          how.default_model = registry_models.front();
      }
      models->publish(model::repository(std::move(how)).load());
    } catch (const model::load_error& e) {
      throw startup_error(e.what());
    }
    give_memory_back();
    for (const auto& m : models->current()->all()) {
      metrics->model_loaded(*m);
      observe::log(observe::level::info, "node", "model_loaded", "model loaded",
                   {{"model", m->name()},
                    {"version", m->version()},
                    {"engine", std::string(m->engine().kind())},
                    {"why", m->engine_reason()},
                    {"file", m->path().string()}});
    }
    kept->fallback = settings.models.fallback;
    kept->default_model = models->current()->default_name();
    limits->max_record_bytes = settings.kafka.max_record_bytes;
    limits->max_rows = static_cast<std::uint32_t>(settings.models.max_rows);
  }

  // --- versions
  // -----------------------------------------------------------------------------------------------------------

  void open_loader() {
    model::loader_options o;
    o.directory = settings.models.directory;
    o.engines = model_options(settings).engines;
    o.explain = settings.models.explain;
    // With a registry there need not be a directory.
    o.watch = settings.models.watch && (!registry || std::filesystem::is_directory(o.directory));
    o.every = std::chrono::milliseconds(settings.models.poll_interval / 1'000'000);
    o.recent = recent;
    o.found = [this](model::model_source_update u) { tell_keeper(without_registry(std::move(u))); };
    o.loaded = [this](const model::version_on_disk& v, std::shared_ptr<const model::loaded_model> m,
                      const model::warm_up_result& w) {
      give_memory_back();
      caf_line::post(neighbours().keeper,
                     load_ended{std::make_shared<const model::version_on_disk>(v), std::move(m),
                                std::to_string(w.rows) + " " + w.from + " rows, last round " +
                                    std::to_string(w.took_us) + " us"});
    };
    o.failed = [this](const model::version_on_disk& v, const std::string& why) {
      give_memory_back();
      caf_line::post(neighbours().keeper,
                     load_ended{std::make_shared<const model::version_on_disk>(v), nullptr, why});
    };
    o.problem = [](const std::string& what) {
      observe::log(observe::level::warn, "node", "models_directory_problem", what, {});
    };
    o.problems = [this](std::vector<std::string> all) {
      const std::lock_guard lock(mutex);
      passed_over = std::move(all);
    };
    loader = std::make_unique<model::version_loader>(std::move(o));
    note_source(without_registry(loader->first()));
    if (registry) note_source(registry->current());
  }

  [[nodiscard]] model_shard_args shard_of(const std::shared_ptr<const model::loaded_model>& m, bool express) {
    model_shard_args a{next_shard++, m, metrics, recent, gate, express};
    a.modest = !express;
    a.faults = fault_points();
    return a;
  }

  void start_version(const std::shared_ptr<const model::loaded_model>& m) {
    const std::string base = m->name() + "/" + m->version();
    std::string id = base;
    {
      const std::lock_guard lock(mutex);
      const auto taken = [&] {
        for (const auto& [other, name] : actor_ids)
          if (name == id) return true;
        return false;
      };
      for (int n = 2; taken(); ++n) id = base + "@" + std::to_string(n);
      actor_ids[m.get()] = id;
    }
    group("model " + id, "models", settings.supervision.model_strategy);
    child("model " + id, "breaker", "breaker " + id, [this, m, id](bool) {
      auto b = spawn_breaker(*actors, {m, model_circuit(), metrics, "breaker " + id, notices}, neighbours());
      const std::lock_guard lock(mutex);
      breakers[m.get()] = b;
      return caf_line::untyped(b);
    });
    for (std::size_t i = 0; i < slots; ++i)
      child("model " + id, "model_shard", "model_shard " + id + "#" + std::to_string(i), [this, m](bool) {
        return caf_line::untyped(spawn_model_shard(*actors, shard_of(m, false), neighbours()));
      });
    child("model " + id, "model_shard", "model_shard " + id + "#express", [this, m](bool) {
      return caf_line::untyped(spawn_model_shard(*actors, shard_of(m, true), neighbours()));
    });
  }

  void stop_version(const model::loaded_model* m) {
    std::string id;
    {
      const std::lock_guard lock(mutex);
      id = actor_ids[m];
      breakers.erase(m);
    }
    caf_line::post(supervisor, dismiss{"model " + id, nullptr});
  }

  void forget_version(const model::loaded_model* m) {
    {
      const std::lock_guard lock(mutex);
      actor_ids.erase(m);
    }
    loader->then(give_memory_back);
  }

  void configure_models() {
    model_settings s;
    s.default_model = settings.models.default_model.empty() ? kept_default : settings.models.default_model;
    s.fallback = settings.models.fallback;
    s.rollouts = std::make_shared<const std::vector<policy::rollout_spec>>(settings.rollout);
    caf_line::post(neighbours().keeper, std::move(s));
  }

  void reload(config::settings fresh) {
    std::string applied;
    for (const auto& c : config::changes(settings, fresh)) {
      if (c.live) {
        applied += (applied.empty() ? "" : ",") + c.key;
        continue;
      }
      observe::log(observe::level::warn, "node", "config_needs_restart",
                   "the option changed and takes effect with the next start",
                   {{"key", c.key}, {"in_force", c.before}, {"configured", c.now}});
    }
    settings = config::with_live(settings, std::move(fresh));
    observe::set_log_level(static_cast<observe::level>(settings.log.level));
    limits->max_record_bytes = settings.kafka.max_record_bytes;
    limits->max_rows = static_cast<std::uint32_t>(settings.models.max_rows);
    loader->watch(settings.models.watch,
                  std::chrono::milliseconds(settings.models.poll_interval / 1'000'000));
    std::string not_applied;
    const auto add = [](std::string& to, std::string_view key) { (to += to.empty() ? "" : ",") += key; };
    watch_files();
    const auto done = [&](const std::string& why, std::string_view key) {
      add(why.empty() ? applied : not_applied, key);
    };
    const std::string why_guard = reload_guard();
    if (!settings.auth.keys_file.empty()) done(why_guard, "auth.keys_file");
    if (http && !settings.http.tls.certificate.empty()) done(reload_http_tls(), "http.tls_cert");
    if (grpc && !settings.grpc.tls.certificate.empty()) {
      const std::string why = grpc->reload_tls();
      add(why.empty() ? applied : not_applied, "grpc.tls_cert");
      if (!why.empty()) tell_tls("grpc", why);
    }
    configure_models();
    loader->look_now();
    if (registry) (void)registry->poll_soon();
    if (not_applied.empty())
      observe::log(observe::level::info, "node", "config_reloaded", "the configuration was read again",
                   {{"applied", applied}});
    else
      observe::log(observe::level::warn, "node", "config_partly_reloaded",
                   "the configuration was read again, but not all of it can be used",
                   {{"applied", applied}, {"not_applied", not_applied}});
  }

  /// Empty: done.
  std::string reload_guard() {
    std::string why = guard->reload(settings);
    if (!why.empty())
      observe::log(observe::level::error, "guard", "guard_not_reloaded",
                   "keys and limits can't be used; those in force stay", {{"error", why}});
    return why;
  }

  /// The same.
  std::string reload_http_tls() {
    std::string why = http->front().reload_tls();
    if (!why.empty()) tell_tls("http", why);
    return why;
  }

  // --- files that others put in place without a signal: a Secret that Kubernetes mounts, say

  /// Those of an option, whose contents count together.
  struct watched_files {
    std::string option;
    std::vector<std::string> names;
    std::size_t in_force = 0;  ///< a digest of what was read last
    std::size_t seen = 0;      ///< of what the last look found
    [[nodiscard]] std::size_t digest() const {
      std::string all;
      for (const auto& name : names) {
        std::ifstream in(name, std::ios::binary);
        all.append(std::istreambuf_iterator<char>(in), {}) += '\0';
      }
      return std::hash<std::string>()(all);
    }
  };

  std::vector<watched_files> watched;  // of one thread, reload()'s

  /// What is there now is in force.
  void watch_files() {
    watched.clear();
    const auto& tls = settings.http.tls;
    if (http && !tls.certificate.empty())
      watched.push_back({"http.tls_cert", {tls.certificate, tls.key, tls.client_ca}});
    if (!settings.auth.keys_file.empty()) watched.push_back({"auth.keys_file", {settings.auth.keys_file}});
    for (auto& w : watched) w.in_force = w.seen = w.digest();
  }

  /// Those that changed and then stayed the same for one look are read again: who writes several of them, or
  /// a long one, is done by then.
  void look_at_files() {
    for (auto& w : watched) {
      const std::size_t now = w.digest();
      if (std::exchange(w.seen, now) != now || now == w.in_force) continue;
      w.in_force = now;
      const std::string why = w.option == "auth.keys_file" ? reload_guard() : reload_http_tls();
      if (why.empty())
        observe::log(observe::level::info, "node", "config_reloaded", "changed files were read again",
                     {{"applied", w.option}});
    }
  }

  [[nodiscard]] codec::parser_options parser_of() const {
    codec::parser_options o;
    o.max_record_bytes = settings.kafka.max_record_bytes;
    o.max_rows = static_cast<std::uint32_t>(settings.models.max_rows);
    o.max_explained = static_cast<std::uint32_t>(settings.models.max_explained_rows);
    o.queue_timeout = settings.kafka.queue_timeout;
    for (std::size_t i = 0; i < settings.classes.size(); ++i) {
      o.class_targets.push_back(settings.classes[i].target);
      if (settings.classes[i].name == settings.kafka.default_class)
        o.default_class = static_cast<std::uint8_t>(i);
    }
    return o;
  }

  // --- the doors whose callers wait
  // ---------------------------------------------------------------------------------

  [[nodiscard]] std::uint8_t class_index(const std::string& name) const {
    for (std::size_t i = 0; i < settings.classes.size(); ++i)
      if (settings.classes[i].name == name) return static_cast<std::uint8_t>(i);
    return 0;
  }

  [[nodiscard]] codec::infer_options infer_options_of(const std::string& default_class,
                                                      nanos queue_timeout) const {
    codec::infer_options o;
    for (const auto& c : settings.classes) o.class_targets.push_back(c.target);
    o.default_class = class_index(default_class);
    o.expiry = queue_timeout;
    o.max_rows = static_cast<std::uint32_t>(settings.models.max_rows);
    o.max_elements = settings.http.max_elements;
    o.max_explained = static_cast<std::uint32_t>(settings.models.max_explained_rows);
    o.explain = settings.models.explain;
    return o;
  }

  void open_doors() {
    backend = std::make_shared<node_backend>(node_backend_args{
        models, metrics, [this] { return kept->report(); }, [this] { return health().ready; },
        [this](model_command c) { return command(std::move(c)); }, stalls, steady_now});
    try {
      guard = std::make_unique<node_guard>(
          settings, metrics,
          settings.redis.host.empty() ? std::nullopt : std::optional(redis_options_of(settings)));
      open_batches();
      open_http();
      open_grpc();
    } catch (const startup_error&) {
      throw;
    } catch (const std::exception& e) {  // bind_error, files of TLS
      throw startup_error(e.what());
    }
  }

  [[nodiscard]] static std::size_t door_threads(std::size_t configured) {
    return configured ? configured : std::max<std::size_t>(1, std::thread::hardware_concurrency() / 4);
  }

  void open_grpc() {
    if (!settings.grpc.enabled) return;
    const auto& g = settings.grpc;
    rpc::server_options o;
    o.bind = g.bind;
    o.port = g.port;
    o.name = "grpc.port";
    o.threads = door_threads(g.threads);
    o.max_message = g.max_message;
    o.max_streams = g.max_streams;
    o.keepalive = ms(g.keepalive);
    o.keepalive_timeout = ms(g.keepalive_timeout);
    o.idle_timeout = ms(g.idle_timeout);
    o.max_age = ms(g.max_age);
    o.server_version = TROUPE_VERSION;
    o.infer = infer_options_of(g.default_class, g.queue_timeout);
    o.tls.certificate = g.tls.certificate;
    o.tls.key = g.tls.key;
    o.tls.client_ca = g.tls.client_ca;
    o.tls.client_required = g.tls.client_required;
    o.tls_refused = [](const std::string& why) { tell_tls("grpc", why); };
    rpc::set_library_log([](std::string_view text) {
      observe::log_every(observe::level::warn, "grpc", "grpc_library", 30, text, {});
    });
    o.guard = guard->rules(troupe::door::grpc);
    o.tracer = tracer;
    o.log = request_log;
    grpc = std::make_unique<rpc::server>(o, backend);
    for (std::size_t i = 0; i < o.threads; ++i) grpc_desks.push_back(std::make_shared<gateway_desk>());
  }

  void open_batches() {
    const auto& b = settings.batches;
    if (b.directory.empty() || !settings.http.enabled) return;
    batch_desk = std::make_shared<gateway_desk>();
    batches::service_options o;
    o.directory = b.directory;
    o.input_directory = b.input_directory;
    o.max_bytes = b.max_bytes;
    o.max_queued = b.max_queued;
    o.in_flight = b.in_flight;
    o.retention = b.retention;
    o.rules.max_line = b.max_line;
    o.rules.max_line_option = "batches.max_line";
    o.rules.max_rows = static_cast<std::uint32_t>(settings.models.max_rows);
    o.rules.max_explained = static_cast<std::uint32_t>(settings.models.max_explained_rows);
    o.rules.cls = class_index(b.batch_class.empty() ? settings.classes.back().name : b.batch_class);
    o.rules.class_target = settings.classes[o.rules.cls].target;
    o.judge = [rules = guard->rules(troupe::door::batch)](std::string_view client, std::string_view model,
                                                          record& r, record_batch& batch) {
      serving::judge_line(*rules, client, model, r, batch);
    };
    o.hand_in = [this](std::vector<std::unique_ptr<call>> calls) { batch_desk->hand_in(std::move(calls)); };
    o.count = [this](std::size_t running, std::size_t queued) { metrics->batches(running, queued); };
    o.lines = [this](std::size_t ok, std::size_t errors) { metrics->batch_lines(ok, errors); };
    o.tell = [](std::string_view id, batches::batch_event what, std::string_view text) {
      if (what == batches::batch_event::halted)
        observe::log_every(observe::level::warn, "batches", "batch_problem", 30, text,
                           {{"batch", std::string(id)}});
      else
        observe::log(observe::level::info, "batches",
                     what == batches::batch_event::started ? "batch_started" : "batch_ended", text,
                     {{"batch", std::string(id)}});
    };
    batches = std::make_unique<batches::service>(std::move(o));
  }

  void open_http() {
    if (!settings.http.enabled) return;
    const auto& h = settings.http;
    http::front_options o;
    o.bind = h.bind;
    o.port = h.port;
    o.name = "http.port";
    o.threads = door_threads(h.threads);
    o.max_header = h.max_header;
    o.max_body = h.max_body;
    o.max_connections = h.max_connections;
    o.max_buffered = h.max_buffered;
    o.read_timeout = ms(h.read_timeout);
    o.idle_timeout = ms(h.idle_timeout);
    o.compress_replies = h.compress_replies;
    if (!settings.batches.input_directory.empty())
      o.larger_body = {"/v2/batches", "; a larger batch is a file in batches.input_directory"};
    // The gateway ends every call by its expiry; this is for what has none.
    o.reply_timeout = ms(h.queue_timeout) + std::chrono::seconds(90);
    for (std::size_t at = 0; at < h.cors_origins.size();) {
      const std::size_t end = std::min(h.cors_origins.find(',', at), h.cors_origins.size());
      std::string one = h.cors_origins.substr(at, end - at);
      std::erase(one, ' ');
      if (!one.empty()) o.cors_origins.push_back(std::move(one));
      at = end + 1;
    }
    o.tls = {h.tls.certificate, h.tls.key, h.tls.client_ca, h.tls.client_required};
    auto calls = std::make_shared<serving::door_options>();
    calls->infer = infer_options_of(h.default_class, h.queue_timeout);
    calls->deployment = h.deployment;
    serving::route_options r;
    r.calls = calls;
    r.version = TROUPE_VERSION;
    r.version_json = "{\"version\":\"" TROUPE_VERSION "\",\"revision\":\"" TROUPE_GIT_REVISION "\"}";
    r.guard = guard->rules(troupe::door::http);
    r.batches = batches.get();
    r.batch_class =
        settings.batches.batch_class.empty() ? settings.classes.back().name : settings.batches.batch_class;
    r.health = [this] { return health(); };
    r.metrics = [this](std::string_view accept) { return metrics_page(accept); };
    r.tracer = tracer;
    r.log = request_log;
    routes = std::make_unique<serving::routes>(std::move(r), *backend);
    http = std::make_unique<http_door>(
        o, [this](std::size_t, http::exchange_ptr e) { return routes->take(std::move(e)); });
  }

  void start_gateways(const std::vector<std::shared_ptr<gateway_desk>>& desks, troupe::door via,
                      const std::string& base, std::size_t max_calls = 0) {
    for (std::size_t i = 0; i < desks.size(); ++i) {
      const std::string name = base + (desks.size() == 1 ? "" : " " + std::to_string(i));
      child("gateways", "gateway", name, [this, name, via, max_calls, desk = desks[i]](bool) {
        gateway_args a;
        a.desk = desk;
        a.via = via;
        a.name = name;
        a.models = models;
        // A batch can wait: it is bounded by what it hands in.
        if (settings.http.admission && via != door::batch) a.admission = admission;
        a.stalls = stalls;
        a.max_calls = max_calls ? max_calls : settings.http.max_requests;
        for (const auto& c : settings.classes) a.class_names.push_back(c.name);
        a.metrics = metrics;
        return caf_line::untyped(spawn_gateway(*actors, std::move(a), neighbours()));
      });
    }
  }

  void open_kafka() {
    if (!settings.kafka.enabled) return;
    bootstrap = settings.kafka.brokers;
    if (bootstrap == "embedded") {
      std::map<std::string, int> topics = {
          {settings.kafka.requests_topic, settings.kafka.embedded_partitions},
          {settings.kafka.results_topic, settings.kafka.embedded_partitions},
          {settings.kafka.dead_letter_topic, 1}};
      if (!settings.kafka.parking_topic.empty()) topics.emplace(settings.kafka.parking_topic, 1);
      broker = std::make_unique<kafka::embedded_broker>(std::move(topics));
      bootstrap = broker->bootstrap();
    }
    auto log = [](int level, const std::string& facility, const std::string& text) {
      observe::log_every(log_level(level), "librdkafka", facility, 30, text, {});
    };
    try {
      auto in = source_options_of(settings);
      in.brokers = bootstrap;
      if (broker) {
        in.fetch_wait_ms = 5;  // it answers an empty fetch only when its whole wait is over
        // Nobody takes over from a node with the broker in itself: a machine that was asleep has lost
        // nothing.
        in.session_timeout_ms = 45'000;
      }
      in.log = log;
      in.broken = [this](bool fenced, const std::string& why) { kafka_broken(fenced, why); };
      if (injector) in.sockets = injector->kafka();
      auto group = kafka::make_librdkafka_source(in);

      auto out = sink_options_of(settings);
      out.brokers = bootstrap;
      out.log = log;
      out.broken = in.broken;
      if (injector) out.sockets = injector->kafka();
      if (in.transactional) {
        open_transactions(std::move(out), group->group());
      } else {
        sinks.push_back(kafka::make_librdkafka_sink(out));
        if (injector) sinks.back() = faults::make_faulty_sink(sinks.back(), injector->points());
      }
      if (settings.kafka.output_order == config::output_order::partition) order = make_order_desk();
      source = std::move(group);
    } catch (const kafka::property_error&) {
      throw;
    } catch (const std::exception& e) {
      throw startup_error(e.what());
    }
  }

  /// A client of librdkafka that ended for good would leave its records to nobody, with a process that is
  /// well.
  void kafka_broken(bool fenced, const std::string& why) {
    if (closed) return;
    if (fenced)
      observe::log(observe::level::error, "node", "instance_fenced", why,
                   {{"instance_id", settings.kafka.instance_id}, {"group", settings.kafka.group}});
    else
      observe::log(observe::level::error, "node", "kafka_broken", why, {});
    fail("Kafka: " + why);
  }

  void open_transactions(kafka::sink_options out, const std::shared_ptr<kafka::consumer_group>& group) {
    const auto& k = settings.kafka;
    std::string id = transactional_id_of(k);
    if (k.transactional_id.empty() && k.instance_id.empty()) {
      std::random_device random;
      std::ostringstream unique;
      unique << '-' << host_name() << '-' << ::getpid() << '-' << std::hex << random();
      id += unique.str();
    }
    std::vector<std::shared_ptr<kafka::transactional_sink>> made;
    std::set<std::string> ids;
    for (std::size_t i = 0; i < k.transaction_groups; ++i) {
      out.transactional_id = k.transaction_groups == 1 ? id : id + "-" + std::to_string(i);
      ids.insert(out.transactional_id);
      made.push_back(kafka::make_librdkafka_transactions(out, group));
      sinks.push_back(made.back());
    }
    transactions = make_transaction_desk(std::move(made), k.transaction_records);
    consumers = group;
    heir = std::make_unique<kafka::transaction_heir>(group->consumer(), k.group, k.requests_topic, out,
                                                     std::move(ids));
  }

  [[nodiscard]] std::size_t answers_under_way() const {
    std::size_t n = 0;
    for (const auto& s : sinks) n += s->in_flight();
    return n;
  }

  void open_redis() {
    if (settings.redis.host.empty() || settings.cache.mode == config::cache_mode::off) return;
    auto o = redis_options_of(settings);
    // The first loss after a connection is always told, and so is its end; what follows a loss only rarely.
    o.log = [lost = false](int level, const std::string& text) mutable {
      const bool connected = level == 6;
      if (level == 5) {
        observe::log_every(observe::level::warn, "redis", "redis_refuses_items", 30, text, {});
        return;
      }
      const char* event = connected ? "redis_connected" : "redis_lost";
      if (connected || !std::exchange(lost, true))
        observe::log(log_level(level), "redis", event, text, {});
      else
        observe::log_every(log_level(level), "redis", event, 30, text, {});
      if (connected) lost = false;
    };
    if (injector) o.sockets = injector->redis();
    redis = store::make_redis(o);
  }

  // --- actors
  // --------------------------------------------------------------------------------------------------------

  [[nodiscard]] wiring neighbours() const {
    const std::lock_guard lock(mutex);
    return who;
  }

  /// Who is who after this child was started. On the supervisor's thread.
  std::optional<wiring> note(const child_spec& spec, const caf_line::any_actor& h) {
    const std::lock_guard lock(mutex);
    if (spec.kind == "producer")
      who.producer = caf_line::typed<producer_actor>(h);
    else if (spec.kind == "scheduler")
      who.scheduler = caf_line::typed<scheduler_actor>(h);
    else if (spec.kind == "cache_client")
      who.cache = caf_line::typed<cache_client_actor>(h);
    else if (spec.kind == "model_keeper")
      who.keeper = caf_line::typed<model_keeper_actor>(h);
    else if (spec.kind == "shadow_scorer")
      who.shadow = caf_line::typed<shadow_scorer_actor>(h);
    else if (spec.kind == "breaker")
      who.breakers = std::make_shared<const std::map<const model::loaded_model*, breaker_actor>>(breakers);
    else
      return std::nullopt;
    ++who.revision;
    return who;
  }

  void child(const std::string& group, const std::string& kind, const std::string& name,
             std::function<caf_line::any_actor(bool)> make) {
    auto spec = std::make_shared<child_spec>();
    spec->group = group;
    spec->kind = kind;
    spec->name = name;
    spec->start = std::move(make);
    // The others own what two of them would take from each other: a partition, the sink, a desk.
    spec->replaceable = kind == "model_shard" || kind == "shadow_scorer" || kind == "breaker" ||
                        kind == "cache_client" || kind == "scheduler";
    caf_line::post(supervisor, supervise{std::move(spec)});
  }

  [[nodiscard]] policy::group_rules group_rules(config::restart_strategy strategy) const {
    const auto& s = settings.supervision;
    policy::group_rules r;
    r.strategy = strategy;
    r.children.intensity = s.intensity;
    r.children.period = s.period;
    r.groups.intensity = s.group_intensity;
    r.groups.period = s.group_period;
    r.children.first_delay = r.groups.first_delay = s.backoff_min;
    r.children.max_delay = r.groups.max_delay = s.backoff_max;
    return r;
  }

  void group(const std::string& name, const std::string& parent, config::restart_strategy strategy) {
    caf_line::post(
        supervisor,
        supervise_group{name, parent, std::make_shared<const policy::group_rules>(group_rules(strategy))});
  }

  [[nodiscard]] policy::circuit_config model_circuit() const {
    policy::circuit_config c;
    c.threshold = settings.breaker.threshold;
    c.open_for = settings.breaker.open;
    c.probes = settings.breaker.probes;
    c.failure_rate = settings.breaker.failure_rate;
    c.min_calls = settings.breaker.min_calls;
    c.window = settings.breaker.window;
    return c;
  }

  void start_actors() {
    const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
    slots = settings.scheduler.slots ? settings.scheduler.slots : cores;
    actor_config = std::make_unique<caf_line::system_config>(std::max<std::size_t>(2, slots));
    actors = new caf_line::system(*actor_config);
    admission = std::make_shared<policy::admission>(settings.classes.size(), slots);

    supervisor_args sup;
    sup.rules = group_rules(config::restart_strategy::one_for_one);
    sup.stuck_after = settings.supervision.stuck_after;
    sup.max_abandoned = settings.supervision.max_abandoned;
    sup.seed = std::random_device{}();
    sup.metrics = metrics;
    sup.notices = notices;
    sup.started = [this](const child_spec& spec, const caf_line::any_actor& h, bool) {
      return note(spec, h);
    };
    sup.escalate = [this](const std::string& why) { fail(why); };
    supervisor = spawn_supervisor(*actors, std::move(sup));
    const auto& strategies = settings.supervision;
    group("kafka", "", strategies.kafka_strategy);
    group("stores", "", strategies.stores_strategy);
    group("models", "", strategies.models_strategy);
    group("gateways", "", strategies.gateways_strategy);

    if (transactions)
      child("kafka", "producer", "producer", [this](bool) {
        transactor_args a;
        a.desk = transactions;
        a.metrics = metrics;
        a.keep_timestamp = settings.kafka.result_timestamp == config::result_timestamp::request;
        return caf_line::untyped(spawn_transactor(*actors, std::move(a)));
      });
    else if (!sinks.empty())
      child("kafka", "producer", "producer", [this](bool) {
        producer_args a;
        a.sink = sinks.front();
        a.order = order;
        a.metrics = metrics;
        a.gather_min = settings.kafka.gather_min;
        a.gather_max = settings.kafka.gather_max;
        a.keep_timestamp = settings.kafka.result_timestamp == config::result_timestamp::request;
        return caf_line::untyped(spawn_producer(*actors, std::move(a)));
      });
    child("models", "scheduler", "scheduler", [this](bool) {
      scheduler_args a;
      for (const auto& c : settings.classes)
        a.classes.push_back({c.name, c.target, c.limit, c.shed_late, c.floor});
      a.slots = slots;
      a.max_batch = settings.scheduler.max_batch;
      a.max_batch_time = settings.scheduler.max_batch_time;
      a.late_floor = settings.scheduler.late_floor;
      a.admission = admission;
      a.stalls = stalls;
      a.park = source && !settings.kafka.parking_topic.empty();
      a.stall_limit = settings.models.stall_limit;
      a.time_limit = settings.models.time_limit;
      a.max_hung = settings.models.max_hung;
      a.abandon = [this](const caf_line::any_actor& shard, const std::string& why) {
        const std::lock_guard lock(mutex);
        caf_line::post_urgent(supervisor, abandon{shard, why});
      };
      a.metrics = metrics;
      return caf_line::untyped(spawn_scheduler(*actors, std::move(a), neighbours()));
    });
    if (settings.cache.mode != config::cache_mode::off) {
      std::size_t width = 1;
      for (const auto& m : models->current()->all()) width = std::max(width, m->output().width);
      child("stores", "cache_client", "cache_client", [this, width](bool) {
        cache_client_args a;
        a.always = settings.cache.mode == config::cache_mode::on;
        a.bytes = settings.cache.bytes;
        a.ttl = settings.cache.ttl;
        a.width = std::min<std::size_t>(width, 16);
        a.level2 = redis;
        a.circuit.threshold = settings.redis.breaker_threshold;
        a.circuit.open_for = settings.redis.breaker_open;
        a.circuit.failure_rate = 2;  // never by rate
        a.metrics = metrics;
        a.notices = notices;
        return caf_line::untyped(spawn_cache_client(*actors, std::move(a), neighbours()));
      });
    }
    child("models", "shadow_scorer", "shadow_scorer", [this](bool) {
      return caf_line::untyped(spawn_shadow_scorer(*actors, {gate, metrics, true}, neighbours()));
    });
    child("models", "model_keeper", "model_keeper", [this](bool) {
      model_keeper_args a;
      a.memory = kept;
      a.live = models;
      a.directory = settings.models.directory;
      a.metrics = metrics;
      a.stalls = stalls;
      a.load = [this](model::version_on_disk v) { loader->load(std::move(v)); };
      a.look = [this] {
        loader->look_now();
        if (registry) tell_keeper(registry->current());
      };
      a.start = [this](const std::shared_ptr<const model::loaded_model>& m) { start_version(m); };
      a.stop = [this](const model::loaded_model* m) { stop_version(m); };
      a.gone = [this](const model::loaded_model* m) { forget_version(m); };
      return caf_line::untyped(spawn_model_keeper(*actors, std::move(a), neighbours()));
    });
    for (const auto& m : models->current()->all()) start_version(m);
    if (http) start_gateways(http->desks(), door::http, "gateway http");
    start_gateways(grpc_desks, door::grpc, "gateway grpc");
    // A batch that was cancelled may leave calls behind for a moment while the next one runs.
    if (batch_desk)
      start_gateways({batch_desk}, door::batch, "gateway batch", 4 * settings.batches.in_flight);
  }

  // --- assignments (on the source's thread)
  // ---------------------------------------------------------------------------

  static std::string consumer_name(const kafka::partition_queue& q) {
    return "partition_consumer " + *q.topic() + "/" + std::to_string(q.partition()) + "@" +
           std::to_string(q.generation());
  }

  void assigned(std::vector<std::shared_ptr<kafka::partition_queue>> queues) override {
    if (heir) {
      std::vector<std::int32_t> numbers;
      for (const auto& q : queues) numbers.push_back(q->partition());
      heir->assigned(std::move(numbers));
    }
    std::string list;
    for (auto& q : queues) {
      list += (list.empty() ? "" : ",") + std::to_string(q->partition());
      child("kafka", "partition_consumer", consumer_name(*q), [this, q](bool restart) {
        partition_consumer_args a;
        a.queue = q;
        a.models = models;
        a.parser = parser;
        a.limits = limits;
        a.credit_records = settings.kafka.credit_records;
        a.credit_bytes = settings.kafka.credit_bytes ? settings.kafka.credit_bytes : shares.credit;
        a.poll_records = settings.kafka.poll_records;
        a.iso_timestamps = settings.kafka.iso_timestamps();
        a.stalls = stalls;
        if (!settings.kafka.parking_topic.empty())
          a.stalled_share = std::max<std::size_t>(
              1, static_cast<std::size_t>(settings.models.credit_share *
                                          static_cast<double>(settings.kafka.credit_records)));
        a.rewind = restart;
        a.transactional = transactions != nullptr;
        a.metrics = metrics;
        a.tracer = tracer;
        a.faults = fault_points();
        return caf_line::untyped(spawn_partition_consumer(*actors, std::move(a), neighbours()));
      });
    }
    metrics->assigned_partitions(source->assigned_partitions(), source->rebalances());
    observe::log(observe::level::info, "node", "partitions_assigned", "partitions assigned",
                 {{"topic", settings.kafka.requests_topic}, {"partitions", list}});
  }

  void revoked(const std::vector<std::shared_ptr<kafka::partition_queue>>& queues, bool lost,
               nanos deadline) override {
    std::vector<std::pair<std::int32_t, std::future<bool>>> ends;
    for (const auto& q : queues) {
      auto how = std::make_shared<retire>();
      how->deadline = deadline;
      how->lost = lost;
      how->done = std::make_shared<std::promise<bool>>();
      ends.emplace_back(q->partition(), how->done->get_future());
      caf_line::post_urgent(supervisor, dismiss{consumer_name(*q), how, false});
    }
    std::string list;
    for (auto& [partition, end] : ends) {
      list += (list.empty() ? "" : ",") + std::to_string(partition);
      const auto patience =
          std::chrono::nanoseconds(std::max<nanos>(0, deadline - steady_now()) + 1'000'000'000);
      bool clean = false;
      try {
        clean = end.wait_for(patience) == std::future_status::ready && end.get();
      } catch (const std::future_error&) {  // it died on the way out
      }
      metrics->partition_gone(partition);  // not before: its consumer publishes until it ends
      if (!clean && !lost)
        observe::log(observe::level::warn, "node", "drain_incomplete",
                     "a partition was given back with records in flight: its next owner answers them again",
                     {{"topic", settings.kafka.requests_topic}, {"partition", std::to_string(partition)}});
    }
    metrics->assigned_partitions(source->assigned_partitions() - queues.size(), source->rebalances());
    observe::log(lost ? observe::level::warn : observe::level::info, "node",
                 lost ? "partitions_lost" : "partitions_revoked",
                 lost ? "partitions lost" : "partitions revoked",
                 {{"topic", settings.kafka.requests_topic}, {"partitions", list}});
  }

  // --- state, as the door shows it
  // -------------------------------------------------------------------------------------

  /// Why no records come; empty: they can.
  [[nodiscard]] std::string kafka_away() const {
    if (!source) return {};
    const auto in = source->status();
    if (in.up) return {};
    return in.reason.empty() ? "joining the group" : in.reason;
  }

  /// Why records can't be read or answers not be written, each reason once; empty: both can.
  [[nodiscard]] std::vector<std::string> kafka_troubles() const {
    std::vector<std::string> all;
    std::set<std::string> told;
    const auto tell = [&](const char* client, const std::string& why) {
      if (told.insert(why).second) all.push_back(client + why);
    };
    const auto tell_all = [&](const char* client, const kafka::link_status& link) {
      if (!link.reason.empty()) tell(client, link.reason);
      for (const auto& why : link.more) tell(client, why);
    };
    if (const std::string away = kafka_away(); !away.empty()) tell("Kafka: ", away);
    if (source) tell_all("Kafka: ", source->status());
    for (const auto& sink : sinks) tell_all("Kafka producer: ", sink->status());
    return all;
  }

  /// What is there and can't be loaded, in words: it stays so until somebody corrects it, and the next start
  /// ends over what of it is in the models directory.
  [[nodiscard]] std::vector<std::string> models_failed() const {
    std::vector<std::string> all;
    for (const auto& v : kept->report().versions)
      if (!v.error.empty())
        all.push_back("model " + v.model + "/" + v.version + " can't be loaded: " + v.error);
    const std::lock_guard lock(mutex);
    for (const auto& what : passed_over) all.push_back("models: " + what);
    return all;
  }

  /// What the brokers have yet to let us in for. Empty: nothing, or it is not waited for any more. A start
  /// that can come to nothing must not look like one that went well: a rollout would end what still works.
  [[nodiscard]] std::string kafka_awaited() const {
    if (!source || broker || let_in || steady_now() - asked_kafka >= settings.kafka.ready_timeout) return {};
    const auto why = [this](const kafka::link_status& of) -> std::string {
      if (!of.reason.empty()) return of.reason;
      return of.up ? "no producer id yet" : "connecting to " + bootstrap;
    };
    if (const auto in = source->status(); !in.let_in) return why(in);
    for (const auto& sink : sinks)
      if (const auto out = sink->status(); !out.let_in) return why(out);
    let_in = true;
    return {};
  }

  /// Why no broker will ever let us in; empty: one may.
  [[nodiscard]] std::string kafka_refused() const {
    if (!source || source->rebalances() != 0) return {};
    if (const auto link = source->status(); link.refused) return link.reason;
    for (const auto& sink : sinks)
      if (const auto link = sink->status(); link.refused) return link.reason;
    return {};
  }

  [[nodiscard]] http::health_state health() const override {
    http::health_state h;
    const auto table = models->current();
    const bool any_model = !table->all().empty();
    const auto* m = table->default_model();
    if (!m && any_model && table->default_name().empty()) m = table->all().front().get();
    h.model_loaded = m != nullptr;
    if (m) {
      h.model_name = m->name();
      h.model_version = m->version();
    }
    h.uptime_seconds = static_cast<double>(steady_now() - started) * 1e-9;
    const auto totals = metrics->totals();
    h.total_requests = totals.requests;
    h.error_count = totals.errors;
    h.ready = true;
    auto not_ready = [&](std::string why) {
      h.ready = false;
      h.reasons.push_back(std::move(why));
    };
    if (draining) not_ready("draining");
    if (!any_model)
      not_ready("no model is loaded");
    else if (!h.model_loaded)
      h.degraded.push_back("the default model " + table->default_name() + " is not loaded");
    if (!up || !kept->shown()) {  // who is ready can say what it serves
      not_ready("starting");
      return h;
    }
    // A node that answers by another door still can when the broker is lost.
    const bool other_door = settings.http.enabled || settings.grpc.enabled;
    const std::string awaited = kafka_awaited();
    auto troubles = kafka_troubles();
    if (!awaited.empty() && troubles.empty()) troubles.push_back(awaited);
    for (auto& why : troubles) {
      constexpr std::string_view of = "Kafka: ";
      if (!awaited.empty())
        not_ready("starting: Kafka has not let this node in yet: " +
                  (why.starts_with(of) ? why.substr(of.size()) : why));
      else if (other_door)
        h.degraded.push_back(std::move(why));
      else
        not_ready(std::move(why));
    }
    if (redis) {
      const auto r = redis->status();
      if (!r.connected) h.degraded.push_back("redis: " + r.reason);
    }
    constexpr std::size_t told = 8;  // a page, not a list of all that is on the disk
    const auto refused = models_failed();
    for (std::size_t i = 0; i < std::min(told, refused.size()); ++i) h.degraded.push_back(refused[i]);
    if (refused.size() > told)
      h.degraded.push_back(std::to_string(refused.size() - told) +
                           " more models or versions can't be loaded");
    for (const auto& [actor, n] : notices->all())
      h.degraded.push_back(actor + " " + observe::in_words(n, steady_now()));
    if (stalls->any())
      for (const auto& loaded : models->current()->all())
        if (const auto stall = stalls->of(loaded.get()); stall && stall->hung != 0)
          h.degraded.push_back("model " + std::string(loaded->name()) + "/" + std::string(loaded->version()) +
                               ": " + model::why_hung(*stall));
    if (injector)
      for (const auto& r : injector->list())
        if (r.ended.empty()) h.degraded.push_back("fault active: " + faults::in_words(r.what));
    return h;
  }

  [[nodiscard]] http::response metrics_page(std::string_view accept) const override {
    metrics->ready(health().ready);
    metrics->models_failed(models_failed().size());
    if (source) {
      metrics->kafka_up(up && kafka_troubles().empty());
      metrics->assigned_partitions(source->assigned_partitions(), source->rebalances());
    }
    if (redis) metrics->redis_up(redis->status().connected);
    if (injector)
      for (const auto& k : faults::kinds()) {
        const auto t = injector->points().totals_of(k.what);
        metrics->faults(k.name, t.active, t.strikes);
      }
    auto page = metrics->expose(accept);
    return {200, std::move(page.text), std::move(page.type), {{"Vary", "Accept"}}};
  }

  [[nodiscard]] tree_report tree() const override {
    auto promise = std::make_shared<std::promise<tree_report>>();
    auto result = promise->get_future();
    caf_line::post_urgent(supervisor, report_tree{promise});
    if (result.wait_for(std::chrono::seconds(5)) != std::future_status::ready) return {};
    auto all = result.get();
    const auto said = notices->all();
    for (auto& c : all.children)
      if (const auto it = said.find(c.name); it != said.end())
        c.notice = observe::in_words(it->second, steady_now());
    return all;
  }

  faults::injector* injected() override { return injector.get(); }

  /// The child's name, empty if there is none of that name; an empty name: any.
  [[nodiscard]] std::string crash_one(const std::string& name) {
    auto promise = std::make_shared<std::promise<std::string>>();
    auto result = promise->get_future();
    caf_line::post_urgent(supervisor, kill_child{name, 0, promise});
    if (result.wait_for(std::chrono::seconds(5)) != std::future_status::ready) return {};
    return result.get();
  }

  [[nodiscard]] models_report models_now() const override {
    models_report all = kept->report();
    const auto said = notices->all();
    if (said.empty() && !stalls->any()) return all;
    const auto table = models->current();
    const std::lock_guard lock(mutex);
    for (const auto& m : table->all()) {
      const auto id = actor_ids.find(m.get());
      const auto n = id == actor_ids.end() ? said.end() : said.find("breaker " + id->second);
      const auto stall = stalls->of(m.get());
      std::string notice;
      if (stall && stall->hung != 0)
        notice = model::why_hung(*stall);
      else if (n != said.end())
        notice = "its breaker " + observe::in_words(n->second, steady_now());
      else
        continue;
      for (auto& v : all.versions)
        if (v.model == m->name() && v.version == m->version() && v.state != "draining") v.notice = notice;
    }
    return all;
  }

  [[nodiscard]] std::optional<registry::poller_status> registry_now() const override {
    if (!registry) return std::nullopt;
    return registry->status();
  }

  std::uint64_t sync_registry() override { return registry->poll_soon(); }

  [[nodiscard]] command_result command(model_command c) override {
    c.result = std::make_shared<std::promise<command_result>>();
    auto result = c.result->get_future();
    caf_line::post_urgent(neighbours().keeper, std::move(c));
    try {
      if (result.wait_for(std::chrono::seconds(5)) == std::future_status::ready) return result.get();
    } catch (const std::future_error&) {  // the keeper crashed over it
    }
    return {503, "the model keeper does not answer; look at /admin/models and try again"};
  }

  void fail(const std::string& why) {
    std::function<void()> hook;
    {
      const std::lock_guard lock(mutex);
      if (!failed.empty()) return;
      failed = why;
      hook = failed_hook;
    }
    observe::log(observe::level::error, "node", "node_failed", why, {});
    if (hook) hook();
  }

  // --- end
  // -----------------------------------------------------------------------------------------------------------

  bool drain() {
    if (closed.exchange(true)) return true;
    draining = true;
    if (injector) injector->stop();
    const nanos deadline = steady_now() + settings.drain.deadline;
    observe::log(observe::level::info, "node", "drain_started", "not ready; stopping intake", {});
    if (source) source->stop_intake();
    if (http) http->drain();
    if (grpc) grpc->drain();
    if (batches) batches->stop();
    // First, for others wait for the partitions. Revokes: waits for what is in flight, commits, leaves.
    if (source) source->close(deadline);
    bool answered = !http || http->wait_drained(deadline);
    std::size_t calls = answered ? 0 : http->open_calls();
    if (grpc) {
      if (!grpc->wait_drained(deadline)) {
        answered = false;
        calls += grpc->open();
      }
      // While the actors are there: what came in the last moment is answered, too.
      const nanos left = std::clamp<nanos>(deadline - steady_now(), 0, 5 * policy::second);
      grpc->stop(std::chrono::milliseconds(left / policy::millisecond));
    }
    const std::size_t left = answers_under_way();
    observe::log(left || !answered ? observe::level::warn : observe::level::info, "node", "drain_finished",
                 !answered ? "drain.deadline is over, and calls are still unanswered: they get 503 now"
                 : left    ? "drained with answers still on their way"
                           : "drained: everything delivered and committed",
                 {{"in_flight", std::to_string(left)}, {"calls", std::to_string(calls)}});
    stop();
    return left == 0 && answered;
  }

  /// Last started first. False: some threads did not come back.
  bool stop_actors() {
    if (!supervisor) return true;
    auto promise = std::make_shared<std::promise<std::vector<std::string>>>();
    auto result = promise->get_future();
    caf_line::post_urgent(supervisor, stop_all{5'000'000'000, promise});
    {
      const std::lock_guard lock(mutex);
      supervisor = supervisor_actor();
    }
    std::string names;
    for (const auto& name : result.get()) names += (names.empty() ? "" : ", ") + name;
    if (names.empty()) return true;
    observe::log(observe::level::error, "node", "actors_left",
                 "these do not come back from their work; the process ends without them",
                 {{"actors", names}});
    return false;
  }

  void stop() {
    closed = true;
    if (injector) injector->stop();
    if (registry) registry->stop();
    if (batches) batches->stop();
    if (source) source->close(steady_now());
    if (heir) heir->stop();
    const bool all_ended = stop_actors();
    {
      const std::lock_guard lock(mutex);
      who = wiring();
      breakers.clear();
    }
    door.reset();
    if (redis) redis->close();
    // Waits for the actors to end. What the supervisor was still told to start, it starts: so the pointer
    // stays until they have, and so does all that they use.
    if (all_ended && !caf_line::thread_was_missing())
      delete actors;
    else
      (void)actor_config.release();  // with threads that nothing ends, they stay until the process goes
    actors = nullptr;
    if (http) http->stop();
    for (const auto& desk : grpc_desks) desk->close();
    if (batch_desk) batch_desk->close();
    if (grpc) grpc->stop(std::chrono::milliseconds(100));
    if (guard) guard->stop();
    loader.reset();
    for (const auto& sink : sinks) sink->close();
    if (spans) spans->stop();
  }
};

observe::otlp_options otlp_options_of(const config::tracing_settings& t) {
  observe::otlp_options o;
  try {
    o.url = observe::otlp_traces_url(t.endpoint);
  } catch (const std::invalid_argument& e) {
    throw startup_error(std::string("tracing.endpoint: ") + e.what());
  }
  try {
    o.headers = observe::otlp_headers(t.headers);
  } catch (const std::invalid_argument& e) {
    throw startup_error(std::string("tracing.headers: ") + e.what());
  }
  o.tls_ca = t.tls_ca;
  o.queue = t.queue;
  o.interval = ms(t.interval);
  o.timeout = ms(t.timeout);
  const std::string host = host_name();
  const std::string instance =
      t.service_instance.empty() ? host + "/" + std::to_string(::getpid()) : t.service_instance;
  o.sender.version = TROUPE_VERSION;
  o.sender.resource = {{"service.name", t.service_name},          {"service.version", TROUPE_VERSION},
                       {"service.instance.id", instance},         {"host.name", host},
                       {"process.pid", std::int64_t{::getpid()}}, {"telemetry.sdk.name", "troupe"},
                       {"telemetry.sdk.language", "cpp"},         {"telemetry.sdk.version", TROUPE_VERSION}};
  return o;
}

std::vector<config::misfit> kafka_misfits(const config::settings& settings) {
  std::vector<config::misfit> all;
  const auto look = [&](const auto& check) {
    try {
      check();
    } catch (const kafka::property_error& e) {
      // What both clients have, both complain of.
      if (all.empty() || all.back().text != e.what()) all.push_back({e.given, e.what()});
    }
  };
  auto in = source_options_of(settings);
  auto out = sink_options_of(settings);
  if (in.transactional) out.transactional_id = transactional_id_of(settings.kafka);
  look([&] { kafka::check_properties(settings.kafka.properties); });
  if (!all.empty()) return all;  // without what SASL needs there is no client
  look([&] { kafka::check_librdkafka_source(std::move(in)); });
  look([&] { kafka::check_librdkafka_sink(std::move(out)); });
  return all;
}

std::string transactional_id_of(const config::kafka_settings& k) {
  if (!k.transactional_id.empty()) return k.transactional_id;
  return k.instance_id.empty() ? k.group : k.group + "-" + k.instance_id;
}

store::redis_options redis_options_of(const config::settings& settings) {
  const auto& r = settings.redis;
  store::redis_options o;
  o.host = r.host;
  o.port = r.port;
  o.user = r.user;
  o.password = r.password;
  o.db = r.db;
  o.tls = r.tls;
  o.tls_ca = r.tls_ca;
  o.tls_cert = r.tls_cert;
  o.tls_key = r.tls_key;
  o.tls_server_name = r.tls_server_name;
  o.budget = r.budget;
  o.connect_timeout = r.connect_timeout;
  o.ttl = settings.cache.ttl;
  return o;
}

model::repository_options model_options(const config::settings& settings) {
  const auto& o = settings.onnxruntime;
  model::repository_options made{
      settings.models.directory, settings.models.default_model, settings.models.fallback, {}};
  made.explain = settings.models.explain;
  made.engines.mode = static_cast<model::engine_mode>(settings.models.engine);
  made.engines.isolated = o.isolation == config::isolation::process;
  made.engines.timeout = o.timeout;
  made.engines.session.library = o.library;
  made.engines.session.threads = o.intra_op_threads;
  made.engines.session.providers.clear();
  for (std::size_t at = 0; at <= o.providers.size();) {
    const std::size_t end = std::min(o.providers.find(',', at), o.providers.size());
    std::string one = o.providers.substr(at, end - at);
    std::erase(one, ' ');
    if (!one.empty()) made.engines.session.providers.push_back(std::move(one));
    at = end + 1;
  }
  made.engines.tell = [](const std::string& model, const std::string& what) {
    observe::log(observe::level::warn, "engine_process", "engine_process", what, {{"model", model}});
  };
  return made;
}

node::node(config::settings settings) : impl_(std::make_unique<impl>(std::move(settings))) {
  try {
    impl_->start();
  } catch (...) {
    impl_->stop();
    throw;
  }
}

node::~node() {
  impl_->stop();
}

bool node::ready() const {
  return impl_->health().ready;
}
std::string node::kafka_away() const {
  return impl_->kafka_away();
}
std::string node::kafka_awaited() const {
  return impl_->kafka_awaited();
}

std::string node::kafka_refused() const {
  return impl_->kafka_refused();
}
std::string node::brokers() const {
  return impl_->bootstrap;
}
int node::metrics_port() const {
  return impl_->door->port();
}

void node::reload(config::settings settings) {
  impl_->reload(std::move(settings));
}

void node::look_at_files() {
  impl_->look_at_files();
}

std::string node::failure() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->failed;
}

void node::on_failure(std::function<void()> f) {
  bool already = false;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->failed_hook = f;
    already = !impl_->failed.empty();
  }
  if (already && f) f();
}

std::string node::caf_version() {
  return caf_line::version();
}

bool node::drain() {
  return impl_->drain();
}

}  // namespace troupe
