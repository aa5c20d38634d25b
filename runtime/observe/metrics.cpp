#include "runtime/observe/metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <tuple>
#include <utility>

#include "runtime/observe/histogram.hpp"
#include "runtime/observe/openmetrics.hpp"
#include "runtime/observe/process.hpp"
#include "troupe_version.hpp"

namespace troupe::observe {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using labels = std::map<std::string, std::string>;

/// Histograms of one name. Series are never removed.
class histogram_family {
 public:
  histogram_family(std::string name, std::string help, std::vector<double> bounds)
      : name_(std::move(name)), help_(std::move(help)), bounds_(std::move(bounds)) {}

  [[nodiscard]] const std::string& name() const { return name_; }

  histogram& add(const labels& with) {
    const std::lock_guard lock(mutex_);
    return series_.try_emplace(with, bounds_).first->second;
  }

  /// `shown`: gets the exemplars of each series; may be null.
  [[nodiscard]] prometheus::MetricFamily collect(exemplars_of_family* shown) const {
    prometheus::MetricFamily family;
    family.name = name_;
    family.help = help_;
    family.type = prometheus::MetricType::Histogram;
    const std::lock_guard lock(mutex_);
    for (const auto& [with, h] : series_) {
      prometheus::ClientMetric m;
      for (const auto& [name, value] : with) m.label.push_back({name, value});
      const auto seen = h.read();
      for (std::size_t i = 0; i < h.bounds().size(); ++i)
        m.histogram.bucket.push_back({seen.cumulative[i], h.bounds()[i]});
      m.histogram.sample_count = seen.cumulative.back();
      m.histogram.sample_sum = seen.sum;
      family.metric.push_back(std::move(m));
      if (shown) shown->push_back(h.exemplars());
    }
    return family;
  }

 private:
  std::string name_;
  std::string help_;
  std::vector<double> bounds_;
  mutable std::mutex mutex_;
  std::map<labels, histogram> series_;
};

/// Sums and counts of one name, for means: a summary without quantiles. Series are never removed.
class mean_family {
 public:
  struct series {
    std::atomic<double> sum{0};
    std::atomic<std::uint64_t> count{0};
  };

  mean_family(std::string name, std::string help) : name_(std::move(name)), help_(std::move(help)) {}

  series& add(const labels& with) {
    const std::lock_guard lock(mutex_);
    return series_[with];
  }

  /// Of those that have a value.
  [[nodiscard]] prometheus::MetricFamily collect() const {
    prometheus::MetricFamily family;
    family.name = name_;
    family.help = help_;
    family.type = prometheus::MetricType::Summary;
    const std::lock_guard lock(mutex_);
    for (const auto& [with, s] : series_) {
      prometheus::ClientMetric m;
      m.summary.sample_count = s.count.load(std::memory_order_relaxed);
      m.summary.sample_sum = s.sum.load(std::memory_order_relaxed);
      if (m.summary.sample_count == 0) continue;
      for (const auto& [name, value] : with) m.label.push_back({name, value});
      family.metric.push_back(std::move(m));
    }
    return family;
  }

 private:
  std::string name_;
  std::string help_;
  mutable std::mutex mutex_;
  std::map<labels, series> series_;
};

void show(histogram& of, double value, const std::string& trace) {
  if (trace.empty()) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  of.show({trace, value, std::chrono::duration<double>(now).count()});
}

std::vector<double> latency_bounds(const std::vector<double>& targets) {
  std::vector<double> bounds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                0.2,    0.25,    0.5,    1,     2.5,    5,     10,   30,    60};
  for (const double t : targets)
    if (t > 0) bounds.push_back(t);
  return bounds;
}

constexpr std::array<std::string_view, 4> door_names = {"kafka", "http", "grpc", "batch"};

double as_number(std::size_t n) {
  return static_cast<double>(n);
}

}  // namespace

struct metrics::impl {
  explicit impl(const metrics_options& options)
      : class_names(options.class_names),
        latency("inference_latency_seconds",
                "Model execution time of the batch that a row was scored in, a row each",
                latency_bounds(options.class_targets)),
        duration("inference_request_duration_seconds",
                 "From the reading of a request's record to the delivery of its answer",
                 latency_bounds(options.class_targets)),
        confidences("inference_confidence",
                    "How sure classifiers are of the classes they predict, a row that was scored each"),
        batch_rows("troupe_batch_rows", "Rows of a batch that a model scored at once",
                   {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}),
        commits("troupe_transaction_commit_seconds", "How long commits of Kafka transactions took",
                {0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30}),
        order_waits("troupe_output_order_wait_seconds",
                    "How long answers waited for those before them in their partition, a spell each",
                    {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30}) {
    gauge("troupe_build_info", "1; the build is in the labels")
        .Add({{"version", TROUPE_VERSION}, {"revision", TROUPE_GIT_REVISION}, {"compiler", TROUPE_COMPILER}})
        .Set(1);
    for (std::size_t c = 0; c < class_names.size(); ++c) class_of(c);
  }

  prometheus::Registry registry;
  [[nodiscard]] std::vector<prometheus::MetricFamily> collect(exemplars* shown) const;

  prometheus::Family<Counter>& counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }
  prometheus::Family<Gauge>& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
  }

  // --- the catalogue
  // --------------------------------------------------------------------------------------------------

  prometheus::Family<Counter>& requests =
      counter("inference_requests_total", "Requests that ended, by status: success or error");
  prometheus::Family<Counter>& errors =
      counter("inference_errors_total", "Requests that ended with an error, by code");
  prometheus::Family<Counter>& exceptions =
      counter("inference_exceptions_total", "Requests on which a model's engine failed");
  prometheus::Family<Counter>& rows = counter("troupe_rows_total", "Rows of requests that got a prediction");
  prometheus::Family<Counter>& dead_letters =
      counter("troupe_dead_letters_total", "Records that went to the dead-letter topic, by code");
  prometheus::Family<Counter>& late =
      counter("troupe_late_requests_total", "Requests that ended after their class's target");
  prometheus::Family<Counter>& gone =
      counter("troupe_callers_gone_total", "Requests whose caller went away before the answer");
  prometheus::Family<Counter>& guarded =
      counter("troupe_guard_refusals_total", "Requests that a door's guard refused, by reason");
  prometheus::Family<Counter>& shed = counter(
      "troupe_shed_requests_total", "Requests ended in the queue because they could not make their target");
  prometheus::Family<Counter>& expired =
      counter("troupe_expired_requests_total",
              "Requests whose time was over when they were read or while they waited (deadline_exceeded)");
  prometheus::Family<Gauge>& queue_depth = gauge("troupe_queue_depth", "Requests that wait to be scored");
  prometheus::Family<Gauge>& queue_age =
      gauge("troupe_queue_oldest_age_seconds", "How long the oldest waiting request has been waiting");
  prometheus::Family<Gauge>& slots = gauge("troupe_scheduler_slots", "Batches that may run at a time");
  Counter& express =
      counter("troupe_express_batches_total", "Batches of urgent rows that were scored beside the slots")
          .Add({});
  prometheus::Family<Gauge>& slots_busy = gauge("troupe_scheduler_slots_busy", "Batches that run now");
  prometheus::Family<Gauge>& hung_calls =
      gauge("troupe_model_hung_calls",
            "Calls of the model's engine beyond models.time_limit that have not returned");
  prometheus::Family<Gauge>& suspects =
      gauge("troupe_suspect_rows",
            "Rows of batches that ended their model's shard: tried in parts until the guilty is found");

  prometheus::Family<Gauge>& credit_records =
      gauge("troupe_credit_in_use_records", "Unfinished records of a partition");
  prometheus::Family<Gauge>& credit_bytes =
      gauge("troupe_credit_in_use_bytes", "Bytes of the unfinished records of a partition");
  prometheus::Family<Gauge>& credit_age =
      gauge("troupe_credit_oldest_age_seconds",
            "How long ago the oldest unfinished record of a partition was read");
  prometheus::Family<Gauge>& lag_records =
      gauge("troupe_consumer_lag_records", "Records of a partition that were not read yet");
  prometheus::Family<Gauge>& lag_seconds = gauge(
      "troupe_consumer_lag_seconds",
      "Age by its timestamp of a partition's oldest record without an answer, read or not; 0: there is none");
  prometheus::Family<Gauge>& assigned =
      gauge("troupe_assigned_partitions", "Partitions that this node reads");
  prometheus::Family<Counter>& rebalances =
      counter("troupe_rebalances_total", "Rebalances of the consumer group");
  prometheus::Family<Counter>& delivery_failures = counter(
      "troupe_delivery_errors_total", "Results that the broker did not take at once; they are sent again");
  prometheus::Family<Counter>& transactions =
      counter("troupe_transactions_total", "Kafka transactions, by result: committed or aborted");
  prometheus::Family<Counter>& transaction_records = counter(
      "troupe_transaction_records_total", "Answers in Kafka transactions, by result: committed or aborted");

  prometheus::Family<Counter>& cache_hits =
      counter("troupe_cache_hits_total", "Look-ups answered by a cache level");
  prometheus::Family<Counter>& cache_misses =
      counter("troupe_cache_misses_total", "Look-ups that a cache level could not answer");
  prometheus::Family<Counter>& cache_failures = counter(
      "troupe_cache_errors_total", "Calls of a cache level that failed or exceeded their time budget");
  prometheus::Family<Counter>& coalesced =
      counter("troupe_cache_coalesced_total", "Requests answered by an equal one that was being scored");

  prometheus::Family<Gauge>& breakers =
      gauge("troupe_breaker_state", "State of a circuit breaker: 0 closed, 1 half-open, 2 open");
  prometheus::Family<Counter>& breaker_openings =
      counter("troupe_breaker_openings_total", "Times a breaker opened");
  prometheus::Family<Counter>& restarts =
      counter("troupe_actor_restarts_total", "Actors started again after a crash");
  prometheus::Family<Gauge>& mailboxes =
      gauge("troupe_mailbox_depth", "Messages that wait in an actor's mailbox");
  prometheus::Family<Gauge>& stuck =
      gauge("troupe_actor_stuck", "1 for each actor that handles one message for longer than it may");
  prometheus::Family<Gauge>& abandoned = gauge(
      "troupe_actors_abandoned", "Actors that were replaced while stuck and whose threads are still at it");
  prometheus::Family<Counter>& parked =
      counter("troupe_parked_records_total",
              "Records that went to the parking topic since their model could not answer");
  prometheus::Family<Gauge>& models_loaded =
      gauge("troupe_model_loaded", "1 for each model version that is loaded");
  prometheus::Family<Gauge>& model_info =
      gauge("troupe_model_info", "1 for each known model version; its state and engine are in the labels");
  prometheus::Family<Counter>& model_loads =
      counter("troupe_model_loads_total", "Loads of model versions since the start, by result: ok or failed");
  prometheus::Family<Gauge>& rollout_share = gauge(
      "troupe_rollout_share", "Share of a model's requests that its new version gets, while a rollout runs");
  prometheus::Family<Gauge>& rollout_psi =
      gauge("troupe_rollout_psi",
            "Population stability index of the new version's predictions against the old one's");
  prometheus::Family<Counter>& rollout_requests =
      counter("troupe_rollout_requests_total",
              "Requests of a rollout, by side (old, new) and status (success, error)");
  prometheus::Family<Counter>& rollout_rollbacks =
      counter("troupe_rollout_rollbacks_total", "Rollouts that were rolled back, by reason");
  prometheus::Family<Counter>& rollout_promotions =
      counter("troupe_rollout_promotions_total", "New versions that became the production version");
  prometheus::Family<Counter>& shadow_requests =
      counter("troupe_rollout_shadow_requests_total",
              "Requests for a shadow, by result: scored, or left_out when it was behind");
  prometheus::Family<Counter>& registry_polls =
      counter("troupe_registry_polls_total", "Polls of the model registry");
  prometheus::Family<Gauge>& registry_up = gauge("troupe_registry_up", "1 while the model registry answers");
  prometheus::Family<Counter>& registry_refusals =
      counter("troupe_registry_rejected_versions_total",
              "Versions of the registry that can't be served; the one in use stays");
  prometheus::Family<Gauge>& batches =
      gauge("troupe_batches", "Batches that have not ended, by status: running or queued");
  prometheus::Family<Counter>& batch_lines =
      counter("troupe_batch_lines_total", "Lines of batches that ended, by status: success or error");
  prometheus::Family<Counter>& spans =
      counter("troupe_trace_spans_total", "Spans of traced requests, by result: exported, dropped or failed");
  prometheus::Family<Gauge>& faults_active =
      gauge("troupe_faults_active", "Injected faults that are active, by fault");
  prometheus::Family<Counter>& fault_injections =
      counter("troupe_fault_injections_total", "Times that an injected fault struck, by fault");
  prometheus::Family<Gauge>& failed_models =
      gauge("troupe_models_failed", "Models and versions that are there and could not be loaded");
  prometheus::Family<Gauge>& is_ready = gauge("troupe_ready", "1 while the node is ready");
  prometheus::Family<Gauge>& kafka_is_up =
      gauge("troupe_kafka_up", "1 while the brokers answer, the group is joined and answers can be written");
  prometheus::Family<Gauge>& redis_is_up =
      gauge("troupe_redis_up", "1 while the cache's second level is connected");

  // --- series, resolved once
  // ------------------------------------------------------------------------------------------

  struct class_series {
    Counter* late;
    Counter* shed;
    Counter* expired;
    Gauge* depth;
    Gauge* age;
  };
  /// What the doors say of a model in numbers of their own.
  struct model_tally {
    std::atomic<std::uint64_t> answered{0}, answered_ns{0}, refused{0}, refused_ns{0};
    std::atomic<std::uint64_t> batches{0}, rows{0}, busy_ns{0};
    std::atomic<std::int64_t> last_ms{0};
  };
  struct request_series {
    Counter* requests;
    Counter* errors;  // null for successes
    Counter* rows;    // null for errors
    histogram* duration;
    std::shared_ptr<model_tally> of_model;  // null for no model
  };
  struct model_series {
    std::string name;
    std::string version;
    histogram* latency;
    histogram* batch_rows;
    mean_family::series* confidence;
    Counter* exceptions;
    Gauge* loaded;  // null for one that was never registered
    Gauge* hung;    // the same
    std::shared_ptr<model_tally> tally;
  };
  struct partition_series {
    Gauge* credit_records;
    Gauge* credit_bytes;
    Gauge* credit_age;
    Gauge* lag_records = nullptr;  // null while unknown
    Gauge* lag_seconds = nullptr;  // the same
  };
  using request_key = std::tuple<const model::loaded_model*, door, std::uint8_t, error_code>;

  std::vector<std::string> class_names;
  histogram_family latency;
  histogram_family duration;
  mean_family confidences;
  histogram_family batch_rows;
  histogram_family commits;
  histogram_family order_waits;

  std::mutex mutex;  // guards the maps; what they point to is atomic and stays
  std::map<std::size_t, class_series> by_class;
  std::map<request_key, request_series> by_request;
  std::map<const model::loaded_model*, model_series> by_model;
  std::map<int, partition_series> by_partition;
  std::map<std::string, int> breaker_states;
  std::vector<model_line> model_lines;
  std::vector<Gauge*> model_gauges;
  struct rollout_series {
    Gauge* share;
    Gauge* psi;
  };
  std::map<std::string, rollout_series> by_rollout;
  std::uint64_t rebalances_seen = 0;
  std::atomic<std::uint64_t> all_requests{0};
  std::atomic<std::uint64_t> all_errors{0};

  [[nodiscard]] std::string class_name(std::size_t cls) const {
    return cls < class_names.size() && !class_names[cls].empty() ? class_names[cls] : std::to_string(cls);
  }

  class_series& class_of(std::size_t cls) {
    const auto it = by_class.find(cls);
    if (it != by_class.end()) return it->second;
    const labels with = {{"class", class_name(cls)}};
    return by_class
        .emplace(cls, class_series{&late.Add(with), &shed.Add(with), &expired.Add(with),
                                   &queue_depth.Add(with), &queue_age.Add(with)})
        .first->second;
  }

  model_series& model_of(const model::loaded_model* model, std::string_view name = {},
                         std::string_view version = {}) {
    const auto it = by_model.find(model);
    if (it != by_model.end()) return it->second;
    const labels with = {{"model", std::string(name)}, {"version", std::string(version)}};
    return by_model
        .emplace(model, model_series{std::string(name), std::string(version), &latency.add(with),
                                     &batch_rows.add(with), &confidences.add(with), &exceptions.Add(with),
                                     nullptr, nullptr, std::make_shared<model_tally>()})
        .first->second;
  }

  request_series request_of(const answered_line& line) {
    const std::lock_guard lock(mutex);
    const request_key key{line.model, line.via, line.cls, line.code};
    const auto it = by_request.find(key);
    if (it != by_request.end()) return it->second;
    labels with = {{"model", ""}, {"version", ""}};
    std::shared_ptr<model_tally> of;
    if (line.model) {
      const auto known = by_model.find(line.model);
      if (known != by_model.end()) {
        with = {{"model", known->second.name}, {"version", known->second.version}};
        of = known->second.tally;
      }
    }
    const labels of_model = with;
    const std::string door_name(door_names[static_cast<std::size_t>(line.via)]);
    with["door"] = door_name;
    with["class"] = class_name(line.cls);
    const bool failed = line.code != error_code::none;
    labels status = with;
    status["status"] = failed ? "error" : "success";
    labels code = with;
    code["code"] = to_string(line.code);
    return by_request
        .emplace(key, request_series{&requests.Add(status), failed ? &errors.Add(code) : nullptr,
                                     failed ? nullptr : &rows.Add(of_model),
                                     &duration.add({{"door", door_name},
                                                    {"class", class_name(line.cls)},
                                                    {"status", failed ? "error" : "success"}}),
                                     std::move(of)})
        .first->second;
  }
};

metrics::metrics(const metrics_options& options) : impl_(std::make_unique<impl>(options)) {
  impl_->is_ready.Add({}).Set(0);
  impl_->failed_models.Add({}).Set(0);
  impl_->delivery_failures.Add({});
  impl_->coalesced.Add({});
  impl_->rebalances.Add({});
  // A counter that begins with its first increment hides that one from increase().
  impl_->parked.Add({});
  for (const char* result : {"ok", "failed"}) impl_->model_loads.Add({{"result", result}});
  for (const auto code : error_names)
    if (code != to_string(error_code::none)) impl_->dead_letters.Add({{"code", std::string(code)}});
  for (const char* level : {"1", "2"}) {
    impl_->cache_hits.Add({{"level", level}});
    impl_->cache_misses.Add({{"level", level}});
    impl_->cache_failures.Add({{"level", level}});
  }
}

metrics::~metrics() = default;

void metrics::model_loaded(const model::loaded_model* model, std::string_view name,
                           std::string_view version) {
  const std::lock_guard lock(impl_->mutex);
  auto& series = impl_->model_of(model, name, version);
  if (!series.loaded) {
    const labels with = {{"model", series.name}, {"version", series.version}};
    series.loaded = &impl_->models_loaded.Add(with);
    series.hung = &impl_->hung_calls.Add(with);
  }
  series.loaded->Set(1);
}

void metrics::model_unloaded(const model::loaded_model* model) {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->by_model.find(model);
  if (it == impl_->by_model.end()) return;
  const bool reloaded = [&] {  // the same version from another load
    for (const auto& [other, series] : impl_->by_model)
      if (other != model && series.loaded == it->second.loaded) return true;
    return false;
  }();
  if (it->second.loaded && !reloaded) {
    impl_->models_loaded.Remove(it->second.loaded);
    impl_->hung_calls.Remove(it->second.hung);
  }
  impl_->by_model.erase(it);
  // The address may be another model's next.
  std::erase_if(impl_->by_request, [&](const auto& entry) { return std::get<0>(entry.first) == model; });
}

void metrics::models(const std::vector<model_line>& all) {
  const std::lock_guard lock(impl_->mutex);
  if (all == impl_->model_lines) return;
  for (auto* g : impl_->model_gauges) impl_->model_info.Remove(g);
  impl_->model_gauges.clear();
  for (const auto& l : all) {
    auto& g = impl_->model_info.Add(
        {{"model", l.model}, {"version", l.version}, {"state", l.state}, {"engine", l.engine}});
    g.Set(1);
    impl_->model_gauges.push_back(&g);
  }
  impl_->model_lines = all;
}

void metrics::models_failed(std::size_t n) {
  impl_->failed_models.Add({}).Set(static_cast<double>(n));
}

metrics::model_use metrics::use_of(const model::loaded_model* model) const {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->by_model.find(model);
  if (it == impl_->by_model.end()) return {};
  const auto seen = it->second.latency->read();
  model_use use;
  use.rows = seen.cumulative.back();
  use.failed = static_cast<std::uint64_t>(it->second.exceptions->Value());
  if (use.rows) use.latency_seconds = seen.sum / static_cast<double>(use.rows);
  const auto& t = *it->second.tally;
  use.answered = {t.answered, t.answered_ns};
  use.refused = {t.refused, t.refused_ns};
  use.executed = {t.batches, t.busy_ns};
  use.scored_rows = t.rows;
  use.last_ms = t.last_ms;
  return use;
}

void metrics::model_load(bool ok) {
  impl_->model_loads.Add({{"result", ok ? "ok" : "failed"}}).Increment();
}

void metrics::rollout(const std::string& model, const std::string& version, const std::string& strategy,
                      double share, double psi) {
  const std::lock_guard lock(impl_->mutex);
  auto it = impl_->by_rollout.find(model);
  if (it == impl_->by_rollout.end())
    it = impl_->by_rollout
             .emplace(
                 model,
                 impl::rollout_series{&impl_->rollout_share.Add(
                                          {{"model", model}, {"version", version}, {"strategy", strategy}}),
                                      &impl_->rollout_psi.Add({{"model", model}, {"version", version}})})
             .first;
  it->second.share->Set(share);
  it->second.psi->Set(psi);
}

void metrics::rollout_gone(const std::string& model) {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->by_rollout.find(model);
  if (it == impl_->by_rollout.end()) return;
  impl_->rollout_share.Remove(it->second.share);
  impl_->rollout_psi.Remove(it->second.psi);
  impl_->by_rollout.erase(it);
}

void metrics::may_roll_back(const std::string& model, const std::string& reason) {
  impl_->rollout_rollbacks.Add({{"model", model}, {"reason", reason}});
}

void metrics::rollout_requests(const std::string& model, bool new_version, std::size_t ok,
                               std::size_t failed) {
  const char* side = new_version ? "new" : "old";
  if (ok)
    impl_->rollout_requests.Add({{"model", model}, {"side", side}, {"status", "success"}})
        .Increment(as_number(ok));
  if (failed)
    impl_->rollout_requests.Add({{"model", model}, {"side", side}, {"status", "error"}})
        .Increment(as_number(failed));
}

void metrics::rolled_back(const std::string& model, const std::string& reason) {
  impl_->rollout_rollbacks.Add({{"model", model}, {"reason", reason}}).Increment();
}

void metrics::promoted(const std::string& model) {
  impl_->rollout_promotions.Add({{"model", model}}).Increment();
}

void metrics::shadowed(std::size_t scored, std::size_t left_out) {
  if (scored) impl_->shadow_requests.Add({{"result", "scored"}}).Increment(as_number(scored));
  if (left_out) impl_->shadow_requests.Add({{"result", "left_out"}}).Increment(as_number(left_out));
}

void metrics::answered(const answered_line& line) {
  if (line.count == 0) return;
  const auto series = impl_->request_of(line);
  const double n = as_number(line.count);
  series.requests->Increment(n);
  impl_->all_requests.fetch_add(line.count, std::memory_order_relaxed);
  if (series.errors) {
    series.errors->Increment(n);
    impl_->all_errors.fetch_add(line.count, std::memory_order_relaxed);
  }
  if (series.rows) series.rows->Increment(as_number(line.rows));
  series.duration->observe(line.seconds, line.count);
  show(*series.duration, line.seconds, line.trace);
  if (series.of_model) {
    auto& t = *series.of_model;
    const bool ok = line.code == error_code::none;
    const auto ns = static_cast<std::uint64_t>(std::max(0.0, line.seconds) * 1e9 * n);
    (ok ? t.answered : t.refused).fetch_add(line.count, std::memory_order_relaxed);
    (ok ? t.answered_ns : t.refused_ns).fetch_add(ns, std::memory_order_relaxed);
    if (ok)
      t.last_ms.store(std::chrono::duration_cast<std::chrono::milliseconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count(),
                      std::memory_order_relaxed);
  }
  if (line.dead) impl_->dead_letters.Add({{"code", std::string(to_string(line.code))}}).Increment(n);
  const bool expired = line.code == error_code::deadline_exceeded;
  if (line.late || expired) {
    const std::lock_guard lock(impl_->mutex);
    const auto& of_class = impl_->class_of(line.cls);
    if (line.late) of_class.late->Increment(as_number(line.late));
    if (expired) of_class.expired->Increment(n);
  }
}

void metrics::model_batch(const model::loaded_model& model, std::size_t rows, double seconds,
                          std::size_t failed, const std::string& trace) {
  const std::lock_guard lock(impl_->mutex);
  const auto& series = impl_->model_of(&model);
  series.latency->observe(seconds, rows);
  show(*series.latency, seconds, trace);
  series.batch_rows->observe(as_number(rows));
  series.tally->batches.fetch_add(1, std::memory_order_relaxed);
  series.tally->rows.fetch_add(rows, std::memory_order_relaxed);
  series.tally->busy_ns.fetch_add(static_cast<std::uint64_t>(std::max(0.0, seconds) * 1e9),
                                  std::memory_order_relaxed);
  if (failed) series.exceptions->Increment(as_number(failed));
}

void metrics::confidence(const model::loaded_model& model, double sum, std::size_t rows) {
  const std::lock_guard lock(impl_->mutex);
  auto& series = *impl_->model_of(&model).confidence;
  series.sum.fetch_add(sum, std::memory_order_relaxed);
  series.count.fetch_add(rows, std::memory_order_relaxed);
}

void metrics::callers_gone(door via, std::size_t count) {
  const std::lock_guard lock(impl_->mutex);
  impl_->gone.Add({{"door", std::string(door_names[static_cast<std::size_t>(via)])}})
      .Increment(as_number(count));
}

void metrics::guard_refused(door via, std::string_view reason) {
  const std::lock_guard lock(impl_->mutex);
  impl_->guarded
      .Add(
          {{"door", std::string(door_names[static_cast<std::size_t>(via)])}, {"reason", std::string(reason)}})
      .Increment();
}

void metrics::shed(std::size_t cls, std::size_t count) {
  const std::lock_guard lock(impl_->mutex);
  impl_->class_of(cls).shed->Increment(as_number(count));
}

void metrics::queue(std::size_t cls, std::size_t depth, double oldest_age_seconds) {
  const std::lock_guard lock(impl_->mutex);
  const auto& series = impl_->class_of(cls);
  series.depth->Set(as_number(depth));
  series.age->Set(oldest_age_seconds);
}

void metrics::hung_calls(const model::loaded_model* model, std::size_t count) {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->by_model.find(model);
  if (it != impl_->by_model.end() && it->second.hung) it->second.hung->Set(as_number(count));
}

void metrics::suspect_rows(std::size_t count) {
  impl_->suspects.Add({}).Set(as_number(count));
}

void metrics::express_batch() {
  impl_->express.Increment();
}

void metrics::slots(std::size_t busy, std::size_t all) {
  impl_->slots_busy.Add({}).Set(as_number(busy));
  impl_->slots.Add({}).Set(as_number(all));
}

void metrics::partition(int partition, const partition_line& now) {
  const std::lock_guard lock(impl_->mutex);
  const labels with = {{"partition", std::to_string(partition)}};
  auto it = impl_->by_partition.find(partition);
  if (it == impl_->by_partition.end())
    it = impl_->by_partition
             .emplace(partition,
                      impl::partition_series{&impl_->credit_records.Add(with), &impl_->credit_bytes.Add(with),
                                             &impl_->credit_age.Add(with)})
             .first;
  auto& series = it->second;
  series.credit_records->Set(as_number(now.credit_records));
  series.credit_bytes->Set(as_number(now.credit_bytes));
  series.credit_age->Set(now.oldest_age_seconds);
  const auto show_if_known = [&](prometheus::Family<Gauge>& family, Gauge*& gauge, bool known, double value) {
    if (!known) {
      if (gauge) family.Remove(std::exchange(gauge, nullptr));
      return;
    }
    if (!gauge) gauge = &family.Add(with);
    gauge->Set(value);
  };
  show_if_known(impl_->lag_records, series.lag_records, now.lag_records >= 0,
                static_cast<double>(now.lag_records));
  show_if_known(impl_->lag_seconds, series.lag_seconds, now.lag_seconds.has_value(),
                now.lag_seconds.value_or(0));
}

void metrics::partition_gone(int partition) {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->by_partition.find(partition);
  if (it == impl_->by_partition.end()) return;
  impl_->credit_records.Remove(it->second.credit_records);
  impl_->credit_bytes.Remove(it->second.credit_bytes);
  impl_->credit_age.Remove(it->second.credit_age);
  if (it->second.lag_seconds) impl_->lag_seconds.Remove(it->second.lag_seconds);
  if (it->second.lag_records) impl_->lag_records.Remove(it->second.lag_records);
  impl_->by_partition.erase(it);
}

void metrics::assigned_partitions(std::size_t count, std::uint64_t rebalances) {
  impl_->assigned.Add({}).Set(as_number(count));
  const std::lock_guard lock(impl_->mutex);
  if (rebalances > impl_->rebalances_seen) {
    impl_->rebalances.Add({}).Increment(static_cast<double>(rebalances - impl_->rebalances_seen));
    impl_->rebalances_seen = rebalances;
  }
}

void metrics::delivery_errors(std::size_t count) {
  impl_->delivery_failures.Add({}).Increment(as_number(count));
}

void metrics::transaction(bool committed, std::size_t records, double seconds) {
  const labels with = {{"result", committed ? "committed" : "aborted"}};
  impl_->transactions.Add(with).Increment();
  impl_->transaction_records.Add(with).Increment(as_number(records));
  if (committed) impl_->commits.add({}).observe(seconds);
}

void metrics::order_wait(double seconds) {
  impl_->order_waits.add({}).observe(seconds);
}

void metrics::cache_lookups(int level, std::size_t hits, std::size_t misses) {
  const labels with = {{"level", std::to_string(level)}};
  if (hits) impl_->cache_hits.Add(with).Increment(as_number(hits));
  if (misses) impl_->cache_misses.Add(with).Increment(as_number(misses));
}

void metrics::cache_coalesced(std::size_t count) {
  impl_->coalesced.Add({}).Increment(as_number(count));
}

void metrics::cache_errors(int level, std::size_t count) {
  impl_->cache_failures.Add({{"level", std::to_string(level)}}).Increment(as_number(count));
}

void metrics::breaker(const std::string& name, int state) {
  constexpr int open = 2;
  const std::lock_guard lock(impl_->mutex);
  impl_->breakers.Add({{"name", name}}).Set(state);
  auto& openings = impl_->breaker_openings.Add({{"name", name}});
  int& before = impl_->breaker_states[name];
  if (state == open && before != open) openings.Increment();
  before = state;
}

void metrics::restarted(const std::string& actor) {
  impl_->restarts.Add({{"actor", actor}}).Increment();
}

void metrics::started(const std::string& actor) {
  impl_->restarts.Add({{"actor", actor}});
}

void metrics::stuck(const std::string& actor, bool is) {
  auto& gauge = impl_->stuck.Add({{"actor", actor}});
  gauge.Set(1);
  if (!is) impl_->stuck.Remove(&gauge);
}

void metrics::abandoned(std::size_t count) {
  impl_->abandoned.Add({}).Set(as_number(count));
}

void metrics::parked(std::size_t count) {
  impl_->parked.Add({}).Increment(as_number(count));
}

void metrics::mailbox(const std::string& actor, std::size_t depth) {
  impl_->mailboxes.Add({{"actor", actor}}).Set(as_number(depth));
}

void metrics::faults(std::string_view fault, std::size_t active, std::uint64_t strikes) {
  const prometheus::Labels labels = {{"fault", std::string(fault)}};
  impl_->faults_active.Add(labels).Set(static_cast<double>(active));
  auto& total = impl_->fault_injections.Add(labels);
  const std::lock_guard lock(impl_->mutex);  // two scrapes at once
  if (const double more = static_cast<double>(strikes) - total.Value(); more > 0) total.Increment(more);
}

void metrics::registry_poll(bool reached) {
  impl_->registry_polls.Add({{"result", reached ? "ok" : "failed"}}).Increment();
  impl_->registry_up.Add({}).Set(reached ? 1 : 0);
}

void metrics::registry_rejected(const std::string& model) {
  impl_->registry_refusals.Add({{"model", model}}).Increment();
}

void metrics::batches(std::size_t running, std::size_t queued) {
  impl_->batches.Add({{"status", "running"}}).Set(as_number(running));
  impl_->batches.Add({{"status", "queued"}}).Set(as_number(queued));
}

void metrics::batch_lines(std::size_t ok, std::size_t errors) {
  if (ok > 0) impl_->batch_lines.Add({{"status", "success"}}).Increment(as_number(ok));
  if (errors > 0) impl_->batch_lines.Add({{"status", "error"}}).Increment(as_number(errors));
}

void metrics::trace_spans(const char* result, std::size_t count) {
  impl_->spans.Add({{"result", result}}).Increment(as_number(count));
}

void metrics::ready(bool is) {
  impl_->is_ready.Add({}).Set(is ? 1 : 0);
}

void metrics::kafka_up(bool is) {
  impl_->kafka_is_up.Add({}).Set(is ? 1 : 0);
}

void metrics::redis_up(bool is) {
  impl_->redis_is_up.Add({}).Set(is ? 1 : 0);
}

request_totals metrics::totals() const {
  return {impl_->all_requests.load(std::memory_order_relaxed),
          impl_->all_errors.load(std::memory_order_relaxed)};
}

std::vector<prometheus::MetricFamily> metrics::impl::collect(exemplars* shown) const {
  auto families = registry.Collect();
  for (const auto* h : {&latency, &duration, &batch_rows, &commits, &order_waits}) {
    auto family = h->collect(shown ? &(*shown)[h->name()] : nullptr);
    if (!family.metric.empty()) families.push_back(std::move(family));
  }
  if (auto family = confidences.collect(); !family.metric.empty()) families.push_back(std::move(family));
  const auto add = [&](const char* name, const char* help, prometheus::MetricType type, double value) {
    prometheus::ClientMetric m;
    (type == prometheus::MetricType::Counter ? m.counter.value : m.gauge.value) = value;
    families.push_back({name, help, type, {m}});
  };
  const process_usage now = read_process_usage();
  using prometheus::MetricType;
  add("process_cpu_seconds_total", "User and system CPU time of the process", MetricType::Counter,
      now.cpu_seconds);
  add("process_resident_memory_bytes", "Resident memory of the process", MetricType::Gauge,
      now.resident_bytes);
  add("process_open_fds", "Open file descriptors", MetricType::Gauge, now.open_files);
  add("process_start_time_seconds", "Start of the process since the Unix epoch", MetricType::Gauge,
      now.start_seconds);
  return families;
}

std::string metrics::text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->collect(nullptr));
  return std::move(out).str();
}

metrics::page metrics::expose(std::string_view accept) const {
  if (!wants_openmetrics(accept)) return {text(), text_type};
  exemplars shown;
  const auto families = impl_->collect(&shown);
  return {openmetrics_text(families, shown), openmetrics_type};
}

}  // namespace troupe::observe
