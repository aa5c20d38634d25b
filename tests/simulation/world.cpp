#include "tests/simulation/world.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "actors/breaker.hpp"
#include "actors/cache_client.hpp"
#include "actors/gateway.hpp"
#include "actors/model_shard.hpp"
#include "actors/partition_consumer.hpp"
#include "actors/producer.hpp"
#include "actors/scheduler.hpp"
#include "actors/supervisor.hpp"
#include "actors/transactor.hpp"
#include "runtime/faults/fault_points.hpp"
#include "runtime/faults/faulty_sink.hpp"
#include "runtime/kafka/record_sink.hpp"
#include "runtime/kafka/record_source.hpp"
#include "runtime/model/live_models.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/store/redis.hpp"
#include "tests/actors/deterministic_system.hpp"

namespace troupe::test {
namespace {

constexpr nanos ms = 1'000'000;
constexpr nanos a_minute = 60'000 * ms;
constexpr std::int64_t stride = 3;  // offsets have gaps
constexpr double poison = 1e6;      // first features from here on end whoever scores them

thread_local nanos engine_time = 0;  // grows while a simulated engine scores

/// What a record deserves.
enum class fate : std::uint8_t { prediction, error, dead_letter };

struct request {
  std::string value;
  fate deserves = fate::prediction;
  bool expires = false;  // it may end with deadline_exceeded
  double answer = 0;
  int answers = 0;
  double feature = -1;  // of its row, if it has one
  int reads = 0;        // by its partition's owners
  bool sent = false;    // an answer of ours was given to the sink, or somebody else has answered it
  std::size_t partition = 0;
  std::size_t place = 0;  // in its log
};

struct log_partition {
  std::int32_t number = 0;
  std::deque<std::size_t> log;  // requests; addresses of their values stay valid
  std::size_t committed = 0;    // where the next owner begins
  std::size_t all_sent = 0;     // so many from the first one on were sent
  std::uint32_t generation = 0;
  std::string child;
  std::shared_ptr<class queue> owned;
  std::optional<std::future<bool>> leaving;
  nanos leave_by = 0;
};

class world {
 public:
  explicit world(std::uint64_t seed);
  ~world();
  history run();

  // --- for the simulated parts
  std::deque<request> requests;
  void violated(const std::string& law, const std::string& what) {
    if (out.violation.empty())
      out.violation = law + ": " + what + " at " + std::to_string(now() / ms) + " ms";
  }
  [[nodiscard]] bool chance(double p) { return std::uniform_real_distribution<>(0, 1)(random) < p; }
  [[nodiscard]] std::size_t pick(std::size_t from, std::size_t to) {
    return std::uniform_int_distribution<std::size_t>(from, to)(random);
  }
  [[nodiscard]] nanos now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               system.actors.clock().now().time_since_epoch())
        .count();
  }
  void told(const std::string& line) { out.story += std::to_string(now() / ms) + " ms: " + line + "\n"; }
  void sent(const kafka::outgoing& o);
  void delivered(const kafka::outgoing& o, std::string_view value);
  [[nodiscard]] bool owns(std::int32_t partition, std::uint32_t generation) const;
  void commit(const kafka::cut& c);

  /// Whoever reads a record again knows nothing of what it did before.
  void died_alone_of(double feature) {
    const auto one = only.find(feature);
    ++died_alone[feature][one == only.end() ? 0 : requests[one->second].reads];
  }
  [[nodiscard]] bool may_be_convicted(double feature) {
    const auto& deaths = died_alone[feature];
    return std::any_of(deaths.begin(), deaths.end(), [](const auto& d) { return d.second >= 2; });
  }

  history out;
  bool exactly_once = false;
  bool in_order = false;
  bool faulty = false;        // anything failed so far that may double an answer
  bool model_failed = false;  // an engine refused rows so far
  bool shard_crashed = false;
  std::map<double, std::map<int, int>>
      died_alone;                      // crashes of engines that had one row, by its feature and reading
  std::map<double, std::size_t> only;  // features of one record
  double engine_fails = 0;             // probability a batch
  double engine_dies = 0;
  std::size_t slots = 1;

 private:
  friend class queue;
  struct sink;
  struct transactional;
  struct second_level;
  struct engine;
  struct caller;

  void child(const std::string& name, const std::string& kind,
             std::function<caf_line::any_actor(bool)> start);
  void assign(log_partition& p);
  void build();
  void step();
  void settle_leaving();
  [[nodiscard]] std::size_t request_in(std::string_view value) const;
  void deliver(std::size_t n, double refuses);
  void limit_sink(std::size_t records);
  void send_records();
  void send_calls();
  void crash_one();
  void inject();
  void some_messages(std::size_t n);
  void finish();
  [[nodiscard]] std::string unanswered() const;
  [[nodiscard]] std::uint64_t metric(std::string_view name) const;  // without labels

  std::mt19937_64 random;
  std::deque<log_partition> partitions;
  deterministic_system system;
  std::vector<std::string> victims;
  std::vector<std::shared_ptr<const model::loaded_model>> models;
  std::shared_ptr<model::live_models> live = std::make_shared<model::live_models>();
  std::shared_ptr<observe::metrics> metrics = std::make_shared<observe::metrics>(observe::metrics_options{});
  std::shared_ptr<gateway_desk> desk = std::make_shared<gateway_desk>();
  faults::fault_points points;
  std::shared_ptr<sink> results;                  // at least once
  std::shared_ptr<kafka::record_sink> reporting;  // the same, with faults
  std::shared_ptr<transactional> committing;      // exactly once
  std::shared_ptr<second_level> redis;
  supervisor_actor supervisor;
  wiring who;
  std::string escalated;
  std::uint64_t shards = 0;
  std::uint64_t kills = 0;
  std::vector<std::future<std::string>> ordered;  // crashes; one that met a child that is down names none
  std::size_t credit = 0;
  bool parking = false;
  bool alone = true;  // every group restarts only who crashed
  std::shared_ptr<model::stalls> stalls = std::make_shared<model::stalls>();
  int poisons = 3;  // each costs two crashes, and a shard that dies often starts again ever more slowly
  std::size_t poll_records = 0;
  struct call_state {
    double answer = 0;
    bool gone = false;
    bool expires = false;
    int ends = 0;
    bool abandoned = false;
  };
  std::deque<call_state> calls;
};

/// A partition as one assignment sees it.
class queue final : public kafka::partition_queue {
 public:
  queue(world& in, log_partition& of)
      : world_(&in), of_(&of), generation_(of.generation), next_(of.committed) {}

  const std::shared_ptr<const std::string>& topic() const override {
    static const auto name = std::make_shared<const std::string>("requests");
    return name;
  }
  std::int32_t partition() const override { return of_->number; }
  std::uint32_t generation() const override { return generation_; }

  std::size_t poll(record_batch& batch, std::size_t max_records, std::size_t max_bytes) override {
    std::size_t n = 0, bytes = 0;
    while (!fenced && next_ < of_->log.size() && n < max_records && bytes < max_bytes) {
      record r;
      r.offset = static_cast<std::int64_t>(next_) * stride;
      r.timestamp_ms = batch.arrived_ms;
      auto& request = world_->requests[of_->log[next_]];
      ++request.reads;
      r.value = request.value;
      r.headers_begin = static_cast<std::uint32_t>(batch.headers.size());
      bytes += r.value.size();
      batch.records.push_back(std::move(r));
      ++next_;
      ++n;
    }
    std::size_t open = 0;
    for (std::size_t i = of_->committed; i < next_; ++i) open += world_->requests[of_->log[i]].answers == 0;
    if (open > world_->credit)
      world_->violated("credit", std::to_string(open) + " records of partition " +
                                     std::to_string(of_->number) + " are unanswered");
    return n;
  }
  void on_records(std::function<void()> wake) override { wake_ = std::move(wake); }
  bool store(std::int64_t next_offset) override {
    if (fenced) return false;
    if (world_->exactly_once) world_->violated("commit", "an offset was stored beside the transactions");
    const auto upto = static_cast<std::size_t>((next_offset + stride - 1) / stride);
    for (std::size_t i = of_->committed; i < upto; ++i)
      if (world_->requests[of_->log[i]].answers == 0)
        world_->violated("commit", "offset " + std::to_string(next_offset) + " of partition " +
                                       std::to_string(of_->number) + " past record " +
                                       std::to_string(of_->log[i]) + ", which has no answer");
    if (upto < of_->committed)
      world_->violated("commit", "an offset was stored that lies before the one before");
    of_->committed = upto;
    return true;
  }
  void rewind() override { next_ = of_->committed; }
  std::int64_t lag() const override { return static_cast<std::int64_t>(of_->log.size() - next_); }
  void wake() {
    if (wake_) wake_();
  }

  [[nodiscard]] std::size_t position() const { return next_; }

  bool fenced = false;

 private:
  world* world_;
  log_partition* of_;
  std::uint32_t generation_;
  std::size_t next_;
  std::function<void()> wake_;
};

struct world::sink final : kafka::record_sink {
  explicit sink(world& w) : in(&w) {}
  struct sent {
    kafka::outgoing what;
    std::string value;
  };
  kafka::produced produce(const kafka::outgoing& o) override {
    if (waiting.size() >= capacity) return kafka::produced::queue_full;
    in->sent(o);
    waiting.push_back({o, std::string(o.value)});
    return kafka::produced::ok;
  }
  void deliver(std::size_t n, double refuses) {
    while (n-- && !waiting.empty()) {
      // Partitions of the result topic are acknowledged in any order.
      const std::size_t at = in->pick(0, std::min<std::size_t>(waiting.size(), 4) - 1);
      sent s = std::move(waiting[at]);
      waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(at));
      kafka::delivery_report r;
      r.opaque = s.what.opaque;
      r.to = s.what.to;
      r.ok = !in->chance(refuses);
      if (r.ok)
        in->delivered(s.what, s.value);
      else
        r.code = -1;
      done.push_back(r);
    }
    if (wake) wake();
  }
  std::size_t reports(std::vector<kafka::delivery_report>& to, std::size_t max) override {
    const std::size_t n = std::min(max, done.size());
    to.insert(to.end(), done.begin(), done.begin() + static_cast<std::ptrdiff_t>(n));
    done.erase(done.begin(), done.begin() + static_cast<std::ptrdiff_t>(n));
    return n;
  }
  void on_reports(std::function<void()> w) override { wake = std::move(w); }
  void hurry() override {}
  std::size_t in_flight() const override { return waiting.size(); }
  kafka::link_status status() const override { return {true, false, {}}; }
  std::string error_text(int) const override { return "simulated"; }
  void close() override {}

  world* in;
  std::size_t capacity = SIZE_MAX;
  std::deque<sent> waiting;
  std::vector<kafka::delivery_report> done;
  std::function<void()> wake;
};

struct world::transactional final : kafka::transactional_sink {
  explicit transactional(world& w) : in(&w) {}
  kafka::produced produce(const kafka::outgoing& o) override {
    if (now_ != kafka::transaction_phase::open) in->violated("once", "an answer outside of a transaction");
    if (waiting.size() >= capacity) return kafka::produced::queue_full;
    in->sent(o);
    waiting.push_back({o, std::string(o.value)});
    return kafka::produced::ok;
  }
  std::size_t reports(std::vector<kafka::delivery_report>& to, std::size_t max) override {
    const std::size_t n = std::min(max, refused.size());
    to.insert(to.end(), refused.begin(), refused.begin() + static_cast<std::ptrdiff_t>(n));
    refused.erase(refused.begin(), refused.begin() + static_cast<std::ptrdiff_t>(n));
    return n;
  }
  void on_reports(std::function<void()> w) override { wake = std::move(w); }
  void hurry() override {}
  std::size_t in_flight() const override { return waiting.size(); }
  kafka::link_status status() const override { return {true, false, {}}; }
  std::string error_text(int) const override { return "simulated"; }
  void close() override {}

  kafka::transaction_phase phase() const override { return now_; }
  void begin() override {
    if (now_ != kafka::transaction_phase::ready) in->violated("once", "a transaction in a transaction");
    now_ = kafka::transaction_phase::open;
  }
  void commit(std::vector<kafka::cut> c) override { end(true, std::move(c)); }
  void abort() override { end(false, {}); }
  bool owns(std::int32_t partition, std::uint32_t generation) const override {
    return in->owns(partition, generation);
  }
  std::optional<kafka::transaction_result> ended() override { return std::exchange(result, std::nullopt); }

  /// The broker's turn.
  void go_on(double refuses) {
    if (now_ == kafka::transaction_phase::preparing) {
      now_ = kafka::transaction_phase::ready;
    } else if (now_ == kafka::transaction_phase::open && !waiting.empty() && in->chance(refuses / 2)) {
      kafka::delivery_report r;
      r.opaque = waiting[in->pick(0, waiting.size() - 1)].what.opaque;
      r.code = -1;
      refused.push_back(r);
      spoiled = true;
    } else if (now_ == kafka::transaction_phase::ending) {
      result = committed_or_not(refuses);
      now_ = !result->committed && in->chance(0.2) ? kafka::transaction_phase::preparing
                                                   : kafka::transaction_phase::ready;
      waiting.clear();
      spoiled = false;
    }
    if (wake) wake();
  }

  world* in;
  std::size_t capacity = SIZE_MAX;
  std::function<void()> wake;

 private:
  struct given {
    kafka::outgoing what;
    std::string value;
  };

  void end(bool with_commit, std::vector<kafka::cut> c) {
    if (now_ != kafka::transaction_phase::open) in->violated("once", "the end of no transaction");
    wants_commit = with_commit;
    cuts = std::move(c);
    now_ = kafka::transaction_phase::ending;
  }

  kafka::transaction_result committed_or_not(double refuses) {
    if (!wants_commit) return {};
    if (spoiled) return {false, false, "a record was refused"};
    if (in->chance(refuses)) return {false, in->chance(0.5), "simulated"};
    for (const auto& c : cuts)
      if (!in->owns(c.partition, c.generation)) return {false, true, "a partition was taken away"};
    for (const auto& g : waiting) {
      const auto& r = in->requests[in->request_in(g.value)];
      const auto cut = std::find_if(cuts.begin(), cuts.end(), [&](const kafka::cut& c) {
        return static_cast<std::size_t>(c.partition) == r.partition;
      });
      if (cut == cuts.end() || static_cast<std::int64_t>(r.place) * stride >= cut->next_offset)
        in->violated("cut", "an answer of partition " + std::to_string(r.partition) + " beyond its cut");
      in->delivered(g.what, g.value);
    }
    for (const auto& c : cuts) in->commit(c);
    return {true, false, {}};
  }

  kafka::transaction_phase now_ = kafka::transaction_phase::preparing;
  std::vector<given> waiting;
  std::vector<kafka::delivery_report> refused;
  std::vector<kafka::cut> cuts;
  bool wants_commit = false;
  bool spoiled = false;
  std::optional<kafka::transaction_result> result;
};

struct world::second_level final : store::level2_cache {
  explicit second_level(world& w) : in(&w) {}
  void get(std::vector<std::string> keys, std::function<void(store::get_result)> end) override {
    waiting.push_back({std::move(keys), std::move(end)});
  }
  void set(std::vector<std::pair<std::string, std::string>> items) override {
    if (dead) return;
    for (auto& [k, v] : items) kept[k] = std::move(v);
  }
  store::store_status status() const override { return {!dead, false, {}}; }
  void close() override { waiting.clear(); }
  void answer(std::size_t n) {
    while (n-- && !waiting.empty()) {
      auto w = std::move(waiting.front());
      waiting.pop_front();
      store::get_result r;
      r.ok = !dead;
      r.timed_out = dead && in->chance(0.5);
      if (dead) r.error = "simulated";
      for (const auto& k : w.keys) {
        const auto it = kept.find(k);
        std::optional<std::string> v;
        if (r.ok && it != kept.end()) v = it->second;
        if (v && in->chance(corrupt)) v = v->substr(0, v->size() / 2);
        if (r.ok) r.values.push_back(std::move(v));
      }
      w.end(std::move(r));
    }
  }
  struct look_up {
    std::vector<std::string> keys;
    std::function<void(store::get_result)> end;
  };
  world* in;
  bool dead = false;
  double corrupt = 0;
  std::deque<look_up> waiting;
  std::map<std::string, std::string> kept;
};

struct world::engine final : model::engine {
  engine(world& w, double f) : in(&w), factor(f) {}
  void score(std::span<const double* const> rows, double* out) const override {
    engine_time += 20'000 + 10'000 * static_cast<nanos>(rows.size());
    for (const double* row : rows)
      if (row[0] >= poison) die_of(rows, "a poison row");
    if (in->chance(in->engine_dies)) die_of(rows, "a simulated crash");
    if (in->chance(in->engine_fails)) {
      in->model_failed = true;
      throw model::model_error("a simulated failure");
    }
    for (const double* row : rows) *out++ = factor * (row[0] + row[1]);
  }
  [[noreturn]] void die_of(std::span<const double* const> rows, const char* why) const {
    in->faulty = in->shard_crashed = true;
    ++in->out.crashes;
    if (rows.size() == 1) in->died_alone_of(rows.front()[0]);
    throw std::runtime_error(why);
  }
  std::string_view kind() const override { return "simulated"; }
  world* in;
  double factor;
};

struct world::caller final : call {
  caller(world& w, std::size_t number, std::string asks, double feature, std::uint8_t of_class,
         nanos expires_in)
      : in(&w), n(number), model(std::move(asks)), a(feature), cls(of_class), timeout(expires_in) {}
  ~caller() override { in->calls[n].abandoned = in->calls[n].ends == 0; }
  void read(record& r, record_batch& batch) override {
    r.request_id = "\"call\"";
    r.cls = cls;
    r.target = batch.arrived + (cls == 0 ? 100 * ms : a_minute);
    if (timeout != 0) r.expiry = batch.arrived + timeout;
    r.model = batch.models->find(model, "").model;
    r.rows = 1;
    r.values_begin = static_cast<std::uint32_t>(batch.values.size());
    batch.values.push_back(a);
    batch.values.push_back(0.25);
  }
  void reply(const record&, const call_result& result) override {
    auto& c = in->calls[n];
    ++c.ends;
    if (result.outputs[0] != c.answer)
      in->violated("right", "call " + std::to_string(n) + " got " + std::to_string(result.outputs[0]) +
                                " instead of " + std::to_string(c.answer));
    end();
  }
  void fail(const record&, const call_failure& why) override {
    auto& c = in->calls[n];
    ++c.ends;
    const bool fair = (why.code == error_code::deadline_exceeded && c.expires) ||
                      // a breaker that is open needs a reason too
                      ((why.code == error_code::model_failed || why.code == error_code::unavailable) &&
                       (in->model_failed || in->shard_crashed));
    if (!fair)
      in->violated("right", "call " + std::to_string(n) + " ended with " + std::string(to_string(why.code)) +
                                ": " + std::string(why.message));
    end();
  }
  void end() {
    if (in->calls[n].ends > 1) in->violated("calls", "call " + std::to_string(n) + " ended twice");
  }
  bool gone() const override { return in->calls[n].gone; }
  world* in;
  std::size_t n;
  std::string model;
  double a;
  std::uint8_t cls;
  nanos timeout;
};

world::world(std::uint64_t seed) : random(seed), points(seed) {
  build();
}

world::~world() {
  desk->close();
  if (redis) redis->close();
}

void world::child(const std::string& name, const std::string& kind,
                  std::function<caf_line::any_actor(bool)> start) {
  auto spec = std::make_shared<child_spec>();
  spec->name = name;
  spec->kind = kind;
  spec->group = kind == "producer" || kind == "partition_consumer" ? "kafka"
                : kind == "breaker" || kind == "model_shard"       ? "models"
                                                                   : "";
  spec->start = std::move(start);
  caf_line::post(supervisor, supervise{spec});
}

void world::build() {
  slots = pick(1, 3);
  credit = pick(4, 48);
  poll_records = pick(1, 32);
  const std::size_t max_batch = pick(1, 16);
  const std::size_t class_limit = chance(0.3) ? pick(2, 12) : 100'000;
  const bool cache = chance(0.5);
  const bool express = chance(0.7);
  exactly_once = chance(0.4);
  in_order = exactly_once || chance(0.4);
  told(exactly_once ? "exactly once" : in_order ? "at least once, in order" : "at least once");
  parking = chance(0.5);
  const nanos stall_limit = static_cast<nanos>(pick(0, 5'000)) * ms;

  std::vector<model::feature> features(2);
  features[0].name = "a";
  features[1].name = "b";
  for (const auto& [name, factor] : {std::pair("sum", 1.0), std::pair("double", 2.0)}) {
    model::loaded_model::parts parts;
    parts.name = name;
    parts.version = "1";
    parts.schema = model::schema(features, true);
    parts.engine = std::make_unique<engine>(*this, factor);
    parts.digest = static_cast<std::uint64_t>(factor);
    models.push_back(std::make_shared<const model::loaded_model>(std::move(parts)));
  }
  model::model_table::options table;
  table.default_model = "sum";
  live->publish(std::make_shared<const model::model_table>(models, table));

  auto breakers = std::make_shared<std::map<const model::loaded_model*, breaker_actor>>();
  supervisor_args sup;
  sup.rules.children.intensity = 1'000'000;
  sup.rules.children.period = a_minute;
  sup.rules.groups.intensity = 1'000'000;
  sup.metrics = metrics;
  sup.escalate = [this](const std::string& why) { escalated = why; };
  sup.started = [this, breakers](const child_spec& spec, const caf_line::any_actor& h,
                                 bool restart) -> std::optional<wiring> {
    if (restart) {
      ++kills;
      told("started again: " + spec.name);
    }
    if (spec.kind == "producer") who.producer = caf::actor_cast<producer_actor>(h);
    if (spec.kind == "scheduler") who.scheduler = caf::actor_cast<scheduler_actor>(h);
    if (spec.kind == "cache_client") who.cache = caf::actor_cast<cache_client_actor>(h);
    if (spec.kind == "breaker") {
      for (const auto& m : models)
        if (spec.name == "breaker " + m->name()) (*breakers)[m.get()] = caf::actor_cast<breaker_actor>(h);
      who.breakers = std::make_shared<std::map<const model::loaded_model*, breaker_actor>>(*breakers);
    }
    ++who.revision;
    return who;
  };
  supervisor = system.own(spawn_supervisor(system.actors, std::move(sup)));
  for (const char* name : {"kafka", "models"}) {
    auto rules = std::make_shared<policy::group_rules>();
    rules->children.intensity = chance(0.5) ? 1'000'000 : 3;
    rules->groups.intensity = 1'000'000;
    if (chance(0.3)) rules->strategy = static_cast<policy::restart_strategy>(pick(1, 2));
    alone =
        alone && rules->children.intensity > 3 && rules->strategy == policy::restart_strategy::one_for_one;
    caf_line::post(supervisor, supervise_group{name, "", rules});
  }

  std::shared_ptr<transaction_desk> transactions;
  std::shared_ptr<order_desk> order;
  if (exactly_once) {
    committing = std::make_shared<transactional>(*this);
    transactions = make_transaction_desk({committing}, pick(1, 64));
  } else {
    results = std::make_shared<sink>(*this);
    reporting = faults::make_faulty_sink(results, points);
    if (in_order) order = make_order_desk();
  }
  child("producer", "producer", [this, transactions, order](bool) {
    if (transactions)
      return caf_line::untyped(spawn_transactor(system.actors, {transactions, metrics, false}));
    producer_args a;
    a.sink = reporting;
    a.order = order;
    a.metrics = metrics;
    return caf_line::untyped(spawn_producer(system.actors, std::move(a)));
  });
  child("scheduler", "scheduler", [=, this](bool) {
    scheduler_args a;
    a.classes = {{"interactive", 100 * ms, class_limit}, {"bulk", a_minute, class_limit}};
    a.slots = slots;
    a.max_batch = max_batch;
    a.stalls = stalls;
    a.park = parking;
    a.stall_limit = stall_limit;
    a.metrics = metrics;
    return caf_line::untyped(spawn_scheduler(system.actors, std::move(a), who));
  });
  system.run();
  if (cache) {
    if (chance(0.5)) redis = std::make_shared<second_level>(*this);
    child("cache_client", "cache_client", [this](bool) {
      cache_client_args a;
      a.always = true;
      a.bytes = 1 << 16;
      a.level2 = redis;
      a.metrics = metrics;
      return caf_line::untyped(spawn_cache_client(system.actors, std::move(a), who));
    });
    victims.push_back("cache_client");
  }
  system.run();
  for (const auto& m : models) {
    child("breaker " + m->name(), "breaker", [this, m](bool) {
      breaker_args a;
      a.model = m;
      a.circuit.threshold = 4;
      a.circuit.open_for = 2'000 * ms;
      a.metrics = metrics;
      return caf_line::untyped(spawn_breaker(system.actors, std::move(a), who));
    });
    victims.push_back("breaker " + m->name());
    for (std::size_t i = 0; i < slots + express; ++i) {
      const std::string name = "model_shard " + m->name() + "#" + std::to_string(i);
      child(name, "model_shard", [this, m, fast = i == slots](bool) {
        model_shard_args a;
        a.id = ++shards;
        a.model = m;
        a.metrics = metrics;
        a.express = fast;
        a.clock = [] { return engine_time; };
        a.faults = &points;
        return caf_line::untyped(spawn_model_shard(system.actors, std::move(a), who));
      });
      victims.push_back(name);
    }
  }
  child("gateway", "gateway", [this](bool) {
    gateway_args a;
    a.desk = desk;
    a.name = "gateway";
    a.models = live;
    a.stalls = stalls;
    a.metrics = metrics;
    return caf_line::untyped(spawn_gateway(system.actors, std::move(a), who));
  });
  for (const char* name : {"producer", "scheduler", "gateway"}) victims.emplace_back(name);
  system.run();
  const std::size_t n = pick(1, 3);
  for (std::size_t i = 0; i < n; ++i) {
    auto& p = partitions.emplace_back();
    p.number = static_cast<std::int32_t>(i);
    assign(p);
  }
  system.run();
}

void world::assign(log_partition& p) {
  ++p.generation;
  p.child = "partition_consumer " + std::to_string(p.number) + "@" + std::to_string(p.generation);
  p.owned = std::make_shared<queue>(*this, p);
  child(p.child, "partition_consumer", [this, owned = p.owned](bool restart) {
    partition_consumer_args a;
    a.queue = owned;
    a.models = live;
    a.parser.class_targets = {100 * ms, a_minute};
    a.parser.default_class = 1;
    a.credit_records = credit;
    a.stalls = stalls;
    a.stalled_share = parking ? credit / 2 : 0;
    a.poll_records = poll_records;
    a.rewind = restart;
    a.transactional = exactly_once;
    a.metrics = metrics;
    return caf_line::untyped(spawn_partition_consumer(system.actors, std::move(a), who));
  });
}

std::size_t world::request_in(std::string_view value) const {
  const std::size_t at = value.find("r-");
  std::size_t n = requests.size();
  if (at != std::string_view::npos) std::from_chars(value.data() + at + 2, value.data() + value.size(), n);
  return n;
}

bool world::owns(std::int32_t partition, std::uint32_t generation) const {
  const auto& p = partitions[static_cast<std::size_t>(partition)];
  return p.owned && p.generation == generation && !p.owned->fenced;
}

/// Where order is promised: nothing is sent before all that lies before it in its partition.
void world::sent(const kafka::outgoing& o) {
  const std::size_t n = request_in(o.value);
  if (n >= requests.size()) return;
  auto& r = requests[n];
  auto& p = partitions[r.partition];
  while (p.all_sent < p.log.size() && requests[p.log[p.all_sent]].sent) ++p.all_sent;
  if (in_order && r.place > p.all_sent)
    violated("order", "record " + std::to_string(n) + " was answered before record " +
                          std::to_string(p.log[p.all_sent]));
  r.sent = true;
}

void world::commit(const kafka::cut& c) {
  auto& p = partitions[static_cast<std::size_t>(c.partition)];
  const auto upto = static_cast<std::size_t>((c.next_offset + stride - 1) / stride);
  for (std::size_t i = p.committed; i < upto; ++i)
    if (requests[p.log[i]].answers == 0)
      violated("commit", "offset " + std::to_string(c.next_offset) + " of partition " +
                             std::to_string(c.partition) + " past record " + std::to_string(p.log[i]) +
                             ", which has no answer");
  if (upto < p.committed) violated("commit", "a cut lies before the one before");
  p.committed = upto;
}

void world::deliver(std::size_t n, double refuses) {
  if (committing)
    committing->go_on(refuses);
  else
    results->deliver(n, refuses);
}

void world::limit_sink(std::size_t records) {
  (committing ? committing->capacity : results->capacity) = records;
}

void world::delivered(const kafka::outgoing& o, std::string_view value) {
  const std::size_t n = request_in(value);
  if (n >= requests.size()) return violated("right", "an answer to nobody: " + std::string(value));
  auto& r = requests[n];
  const bool dead = o.to == kafka::destination::dead_letters;
  if (o.to == kafka::destination::parking) {  // its headers say why
    ++out.parked;
    if (!model_failed && !shard_crashed) violated("right", "parked, record " + std::to_string(n));
    if (++r.answers > 1) {
      ++out.duplicates;
      if (!faulty) violated("once", "parked after an answer, record " + std::to_string(n));
    }
    return;
  }
  out.dead_letters += dead;
  const std::string told = "record " + std::to_string(n) + ": " + std::string(value);
  if (dead) {
    // A crash by chance may meet a record alone twice.
    if (r.deserves != fate::dead_letter && !shard_crashed) violated("right", "dead-lettered, " + told);
    if (r.feature >= 0 && !may_be_convicted(r.feature))
      violated("right", "convicted of fewer than two crashes, " + told);
  } else if (value.find("\"error\"") != std::string_view::npos) {
    const bool fair = r.deserves == fate::error ||
                      (r.expires && value.find("deadline_exceeded") != std::string_view::npos) ||
                      (model_failed && value.find("model_failed") != std::string_view::npos);
    if (!fair) violated("right", "an error for " + told);
  } else {
    double got = -1;
    const std::string_view key = "\"prediction\":";
    if (const auto p = value.find(key); p != std::string_view::npos)
      std::from_chars(value.data() + p + key.size(), value.data() + value.size(), got);
    if (r.deserves != fate::prediction || got != r.answer)
      violated("right", "expected " + std::to_string(r.answer) + " for " + told);
  }
  if (++r.answers > 1) {
    ++out.duplicates;
    if (exactly_once) violated("once", "a second answer, " + told);
    if (!faulty) violated("once", "a second answer although nothing failed, " + told);
  }
}

void world::send_records() {
  auto& p = partitions[pick(0, partitions.size() - 1)];
  for (std::size_t k = pick(1, 20); k-- > 0;) {
    const std::string id = "\"request_id\":\"r-" + std::to_string(requests.size()) + "\"";
    auto& r = requests.emplace_back();
    const bool doubled = chance(0.4);
    const double a = chance(0.5) ? static_cast<double>(pick(0, 5)) : static_cast<double>(requests.size());
    r.answer = (doubled ? 2 : 1) * (a + 0.5);
    std::string more = doubled ? ",\"model\":\"double\"" : "";
    if (chance(0.1)) {
      more += ",\"timeout_ms\":" + std::to_string(pick(1, 400));
      r.expires = true;
    }
    if (chance(0.2)) more += ",\"priority\":1";
    std::string first = std::to_string(static_cast<int>(a));
    const std::size_t kind = pick(0, 99);
    if (kind < 2 && poisons > 0) {
      --poisons;
      r.deserves = fate::dead_letter;
      first = std::to_string(static_cast<std::size_t>(poison) + requests.size());
    } else if (kind < 4) {
      r.deserves = fate::error;
      first = "\"no number\"";
    } else if (kind < 6) {
      r.deserves = fate::error;
      more = ",\"model\":\"nobody\"";
    }
    if (kind >= 8 || r.deserves == fate::dead_letter) r.feature = std::stod(first);
    if (r.feature > 5) only[r.feature] = requests.size() - 1;
    r.value = "{" + id + ",\"features\":[" + first + ",0.5]" + more + "}";
    if (kind >= 6 && kind < 8) {
      r.deserves = fate::dead_letter;
      r.value.pop_back();
    }
    r.partition = static_cast<std::size_t>(p.number);
    r.place = p.log.size();
    p.log.push_back(requests.size() - 1);
    ++out.records;
  }
  if (p.owned) p.owned->wake();
}

void world::send_calls() {
  std::vector<std::unique_ptr<call>> some;
  for (std::size_t k = pick(1, 6); k-- > 0;) {
    auto& c = calls.emplace_back();
    const bool doubled = chance(0.5);
    const double a = static_cast<double>(pick(0, 1'000) + 1'000);
    c.answer = (doubled ? 2 : 1) * (a + 0.25);
    c.expires = chance(0.1);
    some.push_back(std::make_unique<caller>(*this, calls.size() - 1, doubled ? "double" : "sum", a,
                                            chance(0.8) ? 0 : 1,
                                            c.expires ? static_cast<nanos>(pick(1, 300)) * ms : 0));
    ++out.calls;
  }
  desk->hand_in(std::move(some));
}

void world::crash_one() {
  std::string name = victims[pick(0, victims.size() - 1)];
  if (chance(0.3)) name = partitions[pick(0, partitions.size() - 1)].child;
  told("crash of " + name);
  faulty = true;
  shard_crashed = shard_crashed || name.starts_with("model_shard");
  auto killed = std::make_shared<std::promise<std::string>>();
  ordered.push_back(killed->get_future());
  caf_line::post(supervisor, kill_child{name, 1, std::move(killed)});
}

/// What an operator may ask for and no thread is held by.
void world::inject() {
  constexpr std::array some = {faults::kind::report_drop, faults::kind::report_duplicate,
                               faults::kind::shard_fail};
  faults::fault f;
  // Transactions have no reports.
  f.what = exactly_once ? faults::kind::shard_fail : some[pick(0, some.size() - 1)];
  f.probability = 0.3;
  f.duration = static_cast<nanos>(pick(1, 3'000)) * ms;
  faulty = faulty || f.what == faults::kind::report_drop;
  model_failed = model_failed || f.what == faults::kind::shard_fail;
  told("fault " + std::string(faults::info(f.what).name));
  points.start(f, now());
}

void world::some_messages(std::size_t n) {
  auto& jobs = system.scheduler().jobs;
  for (; n > 0 && !jobs.empty(); --n) {
    std::swap(jobs.front(), jobs[pick(0, jobs.size() - 1)]);
    system.scheduler().run_once();
  }
}

/// Partitions on their way out: fenced when they are at rest or out of time; another member may have them for
/// a while, then they come back.
void world::settle_leaving() {
  for (auto& p : partitions) {
    if (!p.leaving) continue;
    const bool over = p.leaving->wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    if (!over && now() < p.leave_by + 1'000 * ms) continue;
    if (!over) violated("drain", "partition " + std::to_string(p.number) + " did not end by its deadline");
    p.owned->fenced = true;
    p.leaving.reset();
    const std::size_t elsewhere = chance(0.5) ? pick(0, 8) : 0;
    for (std::size_t i = 0; i < elsewhere && p.committed < p.log.size(); ++i) {
      auto& r = requests[p.log[p.committed++]];
      r.sent = true;
      if (++r.answers > 1 && exactly_once) violated("once", "answered here and elsewhere: " + r.value);
    }
    told("partition " + std::to_string(p.number) + " comes back at " + std::to_string(p.committed));
    assign(p);
  }
}

void world::step() {
  points.sweep(now());
  switch (pick(0, 24)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return send_records();
    case 4:
    case 5:
      return send_calls();
    case 6:
      return crash_one();
    case 7: {
      const std::size_t takes = chance(0.5) ? pick(0, 8) : SIZE_MAX;
      limit_sink(takes);
      return told("the sink takes " + std::to_string(takes));
    }
    case 8: {
      const bool failing = chance(0.5);
      engine_fails = failing ? 0.5 : 0;
      engine_dies = chance(0.2) ? 0.2 : 0;
      return told("engines fail " + std::to_string(engine_fails) + ", die " + std::to_string(engine_dies));
    }
    case 9:
      if (!redis) return;
      redis->dead = chance(0.5);
      redis->corrupt = chance(0.3) ? 0.5 : 0;
      return told(std::string("the second level is ") + (redis->dead ? "dead" : "there"));
    case 10: {
      auto& p = partitions[pick(0, partitions.size() - 1)];
      if (p.leaving || !chance(0.5)) return;
      auto how = std::make_shared<retire>();
      how->lost = chance(0.3);
      how->deadline = p.leave_by = now() + static_cast<nanos>(pick(0, 3'000)) * ms;
      how->done = std::make_shared<std::promise<bool>>();
      p.leaving = how->done->get_future();
      if (how->lost) p.owned->fenced = true;
      faulty = true;
      ++out.rebalances;
      told("partition " + std::to_string(p.number) + (how->lost ? " is lost" : " is revoked"));
      return caf_line::post(supervisor, dismiss{p.child, how});
    }
    case 11:
      if (!calls.empty()) calls[pick(0, calls.size() - 1)].gone = true;
      return;
    case 12: {
      const double refuses = chance(0.1) ? 0.3 : 0;
      return deliver(pick(1, 30), refuses);
    }
    case 13:
    case 14:
      return deliver(pick(1, 30), 0);
    case 15:
      if (redis) redis->answer(pick(1, 8));
      return;
    case 16:
    case 17: {
      system.scheduler().advance_time(std::chrono::nanoseconds(static_cast<nanos>(pick(1, 200)) * ms));
      return;
    }
    case 18:
      return inject();
    default:
      return some_messages(pick(1, 60));
  }
}

std::string world::unanswered() const {
  std::string out_of;
  for (const auto& p : partitions)
    for (const std::size_t n : p.log)
      if (requests[n].answers == 0) out_of += "\n  " + requests[n].value;
  return out_of;
}

void world::finish() {
  told("all faults end");
  limit_sink(SIZE_MAX);
  engine_fails = engine_dies = 0;
  points.sweep(std::numeric_limits<nanos>::max());
  if (redis) {
    redis->dead = false;
    redis->corrupt = 0;
  }
  const auto heal = [&](nanos by, const std::function<bool()>& over) {
    for (const nanos until = now() + by; now() < until && out.violation.empty() && !over();) {
      system.scheduler().advance_time(std::chrono::nanoseconds(10 * ms));
      settle_leaving();
      some_messages(100'000);
      if (system.scheduler().has_job()) violated("moving", "messages go round and round");
      deliver(1'000, 0);
      if (redis) redis->answer(1'000);
      some_messages(100'000);
    }
  };
  const auto all_committed = [&] {
    return std::all_of(partitions.begin(), partitions.end(),
                       [](const log_partition& p) { return !p.leaving && p.committed == p.log.size(); }) &&
           desk->open_calls() == 0;
  };
  heal(10 * a_minute, all_committed);
  if (!out.violation.empty()) return;
  for (const auto& p : partitions)
    if (p.committed != p.log.size())
      violated("moving", "partition " + std::to_string(p.number) + " stands at " +
                             std::to_string(p.committed) + " of " + std::to_string(p.log.size()) +
                             unanswered() + "\n" + metrics->text());
  for (std::size_t i = 0; i < requests.size(); ++i)
    if (requests[i].answers == 0) violated("answered", "record " + std::to_string(i) + " has no answer");
  for (std::size_t i = 0; i < calls.size(); ++i)
    if (calls[i].ends == 0 && !calls[i].gone) violated("calls", "call " + std::to_string(i) + " has no end");

  heal(15'000 * ms, [] { return false; });  // the longest pause before a start, with its jitter
  if (const auto n = metric("troupe_suspect_rows"); n != 0)
    violated("blame", "all is answered, and " + std::to_string(n) + " rows are still suspects");
  auto tree = std::make_shared<std::promise<tree_report>>();
  auto reported = tree->get_future();
  caf_line::post(supervisor, report_tree{std::move(tree)});
  some_messages(100'000);
  for (const auto& c : reported.get().children)
    if (!c.running) violated("restarts", c.name + " is down");

  // A drain with work under way.
  poisons = 0;
  for (int i = 0; i < 5; ++i) send_records();
  some_messages(pick(0, 200));
  for (auto& p : partitions) {
    auto how = std::make_shared<retire>();
    how->deadline = p.leave_by = now() + 5 * a_minute;
    how->done = std::make_shared<std::promise<bool>>();
    p.leaving = how->done->get_future();
    caf_line::post(supervisor, dismiss{p.child, how});
  }
  const auto at_rest = [&] {
    return std::all_of(partitions.begin(), partitions.end(), [](const log_partition& p) {
      return p.leaving->wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    });
  };
  for (const nanos until = now() + 5 * a_minute; now() < until && !at_rest();) {
    system.scheduler().advance_time(std::chrono::nanoseconds(10 * ms));
    some_messages(100'000);
    deliver(1'000, 0);
    if (redis) redis->answer(1'000);
    some_messages(100'000);
  }
  for (auto& p : partitions)
    if (p.leaving->wait_for(std::chrono::seconds(0)) != std::future_status::ready || !p.leaving->get())
      violated("drain",
               "partition " + std::to_string(p.number) + " gave back with records under way" + unanswered());
  for (const auto& p : partitions)
    if (p.owned->position() != p.committed)
      violated("drain", "partition " + std::to_string(p.number) + " was left at " +
                            std::to_string(p.committed) + ", read up to " +
                            std::to_string(p.owned->position()));
  for (auto& o : ordered)
    if (o.wait_for(std::chrono::seconds(0)) == std::future_status::ready) out.crashes += !o.get().empty();
  if (alone && kills > out.crashes)
    violated("restarts", std::to_string(out.crashes) + " crashes, " + std::to_string(kills) + " restarts");
  if (!escalated.empty()) violated("restarts", "escalated: " + escalated);
}

std::uint64_t world::metric(std::string_view name) const {
  const std::string text = metrics->text(), key = "\n" + std::string(name) + " ";
  std::uint64_t value = 0;
  if (const auto at = text.find(key); at != std::string::npos)
    std::from_chars(text.data() + at + key.size(), text.data() + text.size(), value);
  return value;
}

history world::run() {
  for (std::size_t n = pick(50, 400); n > 0 && out.violation.empty(); --n) {
    step();
    settle_leaving();
  }
  if (out.violation.empty()) finish();
  out.express = metric("troupe_express_batches_total");
  out.digest = std::hash<std::string>()(out.story) ^ random();
  return out;
}

}  // namespace

history simulate(std::uint64_t seed) {
  engine_time = 0;
  world w(seed);
  return w.run();
}

}  // namespace troupe::test
