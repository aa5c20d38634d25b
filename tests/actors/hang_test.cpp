// Work that does not return, on real threads: what can be replaced is, and the rest goes on.

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "actors/breaker.hpp"
#include "actors/gateway.hpp"
#include "actors/gateway_desk.hpp"
#include "actors/model_shard.hpp"
#include "actors/partition_consumer.hpp"
#include "actors/producer.hpp"
#include "actors/scheduler.hpp"
#include "actors/supervisor.hpp"
#include "runtime/model/live_models.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/observe/metrics.hpp"
#include "tests/actors/simulated_ports.hpp"

namespace troupe {
namespace {

constexpr nanos ms = 1'000'000;

/// Opened once; whoever waits goes on.
class gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    opened_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    opened_.wait(lock, [&] { return open_; });
    --waiting_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
  int waiting_ = 0;
};

/// Rows with this first feature do not return until the gate is open.
constexpr double never = 666;

class hanging_engine final : public model::engine {
 public:
  explicit hanging_engine(std::shared_ptr<gate> g) : gate_(std::move(g)) {}
  void score(std::span<const double* const> rows, double* out) const override {
    for (const double* row : rows)
      if (row[0] == never) gate_->pass();
    for (const double* row : rows) *out++ = row[0] + row[1];
  }
  std::string_view kind() const override { return "hanging"; }

 private:
  std::shared_ptr<gate> gate_;
};

class locked_sink final : public kafka::record_sink {
 public:
  kafka::produced produce(const kafka::outgoing& o) override {
    const std::lock_guard lock(mutex_);
    const auto r = inner_.produce(o);
    inner_.deliver();
    return r;
  }
  std::size_t reports(std::vector<kafka::delivery_report>& out, std::size_t max) override {
    const std::lock_guard lock(mutex_);
    return inner_.reports(out, max);
  }
  void on_reports(std::function<void()> wake) override {
    const std::lock_guard lock(mutex_);
    inner_.on_reports(std::move(wake));
  }
  void hurry() override {}
  std::size_t in_flight() const override { return 0; }
  kafka::link_status status() const override { return {true, false, {}}; }
  std::string error_text(int) const override { return "simulated"; }
  void close() override {}
  std::vector<test::simulated_sink::sent> delivered() {
    const std::lock_guard lock(mutex_);
    return inner_.delivered;
  }

 private:
  std::mutex mutex_;
  test::simulated_sink inner_;
};

/// How calls ended, each by a line: its prediction, or why there is none.
class call_ends {
 public:
  void add(std::string one) {
    const std::lock_guard lock(mutex_);
    all_.push_back(std::move(one));
  }
  [[nodiscard]] std::vector<std::string> all() const {
    const std::lock_guard lock(mutex_);
    return all_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> all_;
};

class one_row final : public call {
 public:
  one_row(std::shared_ptr<call_ends> to, double first, nanos timeout)
      : to_(std::move(to)), first_(first), timeout_(timeout) {}
  void read(record& r, record_batch& batch) override {
    r.target = batch.arrived + 60'000 * ms;
    if (timeout_ > 0) r.expiry = batch.arrived + timeout_;
    r.model = batch.models->find("sum", "").model;
    r.rows = 1;
    r.values_begin = static_cast<std::uint32_t>(batch.values.size());
    batch.values.push_back(first_);
    batch.values.push_back(0.5);
  }
  void reply(const record&, const call_result& result) override {
    to_->add(std::to_string(result.outputs[0]));
  }
  void fail(const record&, const call_failure& why) override {
    to_->add(std::string(to_string(why.code)) + ": " + std::string(why.message));
  }

 private:
  std::shared_ptr<call_ends> to_;
  double first_;
  nanos timeout_;
};

struct small_node {
  small_node(nanos time_limit, nanos stuck_after, std::uint32_t max_hung = 20) {
    std::vector<model::feature> features(2);
    features[0].name = "a";
    features[1].name = "b";
    model::loaded_model::parts parts;
    parts.name = "sum";
    parts.version = "1";
    parts.schema = model::schema(features, true);
    parts.engine = std::make_unique<hanging_engine>(hangs);
    m = std::make_shared<const model::loaded_model>(std::move(parts));
    live->publish(std::make_shared<const model::model_table>(
        std::vector<std::shared_ptr<const model::loaded_model>>{m}, model::model_table::options{}));
    supervisor_args sup;
    sup.metrics = metrics;
    sup.stuck_after = stuck_after;
    sup.max_abandoned = 100;
    sup.escalate = [](const std::string&) {};
    sup.started = [this](const child_spec& spec, const caf_line::any_actor& h,
                         bool) -> std::optional<wiring> {
      const std::lock_guard lock(mutex);
      if (spec.kind == "producer") who.producer = caf_line::typed<producer_actor>(h);
      if (spec.kind == "scheduler") who.scheduler = caf_line::typed<scheduler_actor>(h);
      ++who.revision;
      return who;
    };
    supervisor = spawn_supervisor(actors, std::move(sup));
    child("producer", [this] {
      producer_args a;
      a.sink = sink;
      a.metrics = metrics;
      return caf_line::untyped(spawn_producer(actors, std::move(a)));
    });
    child("scheduler", [this, time_limit, max_hung] {
      scheduler_args a;
      a.classes = {{"bulk", 60'000 * ms}};
      a.slots = 2;
      a.max_batch = 16;
      a.stalls = stalls;
      a.time_limit = time_limit;
      a.max_hung = max_hung;
      a.abandon = [this](const caf_line::any_actor& shard, const std::string& why) {
        caf_line::post_urgent(supervisor, abandon{shard, why});
      };
      a.metrics = metrics;
      return caf_line::untyped(spawn_scheduler(actors, std::move(a), now()));
    });
    for (const char* name : {"shard 1", "shard 2"})
      child(name, [this] {
        model_shard_args a;
        a.id = ++shards;
        a.model = m;
        a.metrics = metrics;
        return caf_line::untyped(spawn_model_shard(actors, std::move(a), now()));
      });
  }

  ~small_node() {
    hangs->open();
    auto left = std::make_shared<std::promise<std::vector<std::string>>>();
    auto names = left->get_future();
    caf_line::post_urgent(supervisor, stop_all{60'000 * ms, left});
    names.wait();
    supervisor = supervisor_actor();
    const std::lock_guard lock(mutex);
    who = wiring();
  }

  wiring now() {
    const std::lock_guard lock(mutex);
    return who;
  }

  void child(const std::string& name, std::function<caf_line::any_actor()> make) {
    auto spec = std::make_shared<child_spec>();
    spec->name = name;
    spec->kind = name.substr(0, name.find(' '));
    spec->replaceable = true;
    spec->start = [make = std::move(make)](bool) { return make(); };
    caf_line::post(supervisor, supervise{spec});
  }

  /// Records are there before their consumer starts.
  void consume() {
    child("partition_consumer", [this] {
      partition_consumer_args a;
      a.queue = queue;
      a.models = live;
      a.parser.class_targets = {60'000 * ms};
      a.metrics = metrics;
      return caf_line::untyped(spawn_partition_consumer(actors, std::move(a), now()));
    });
  }

  void open_door() {
    child("gateway", [this] {
      gateway_args a;
      a.desk = desk;
      a.name = "gateway";
      a.models = live;
      a.stalls = stalls;
      a.metrics = metrics;
      return caf_line::untyped(spawn_gateway(actors, std::move(a), now()));
    });
  }

  std::shared_ptr<call_ends> ask(int times, double first, nanos timeout = 0) {
    auto ends = std::make_shared<call_ends>();
    std::vector<std::unique_ptr<call>> calls;
    for (int i = 0; i < times; ++i) calls.push_back(std::make_unique<one_row>(ends, first, timeout));
    desk->hand_in(std::move(calls));
    return ends;
  }

  tree_report tree() {
    auto p = std::make_shared<std::promise<tree_report>>();
    auto f = p->get_future();
    caf_line::post(supervisor, report_tree{p});
    return f.get();
  }

  /// Waits as long as it takes; ctest ends what takes for ever.
  void until(const std::function<bool()>& holds) {
    while (!holds()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }

  std::shared_ptr<gate> hangs = std::make_shared<gate>();
  std::shared_ptr<const model::loaded_model> m;
  std::shared_ptr<model::live_models> live = std::make_shared<model::live_models>();
  std::shared_ptr<model::stalls> stalls = std::make_shared<model::stalls>();
  std::shared_ptr<observe::metrics> metrics =
      std::make_shared<observe::metrics>(observe::metrics_options{{"bulk"}, {60}});
  std::shared_ptr<test::simulated_queue> queue = std::make_shared<test::simulated_queue>();
  std::shared_ptr<gateway_desk> desk = std::make_shared<gateway_desk>();
  std::shared_ptr<locked_sink> sink = std::make_shared<locked_sink>();
  std::mutex mutex;
  wiring who;
  std::atomic<std::uint64_t> shards{0};
  caf_line::system_config config{2};
  caf_line::system actors{config};
  supervisor_actor supervisor;
};

TEST(hang, a_record_that_hangs_its_engine_is_dead_lettered_and_all_others_are_answered) {
  small_node n(50 * ms, 0);
  for (int i = 0; i < 100; ++i)
    n.queue->add("{\"request_id\":\"r-" + std::to_string(i) + "\",\"features\":[" +
                 (i == 13 ? "666" : std::to_string(i + 1000)) + ",0.5]}");
  n.consume();
  n.until([&] { return n.sink->delivered().size() == 100; });
  for (const auto& s : n.sink->delivered()) {
    const bool guilty = s.value.find("\"r-13\"") != std::string::npos;
    EXPECT_EQ(s.to == kafka::destination::dead_letters, guilty) << s.value;
    if (guilty) {
      EXPECT_NE(s.headers.at("__connect.errors.exception.message").find("models.time_limit"),
                std::string::npos);
    }
  }
  EXPECT_FALSE(n.tree().abandoned.empty());
  for (const auto& c : n.tree().children) EXPECT_TRUE(c.running) << c.name;
  n.hangs->open();
  n.until([&] { return n.tree().abandoned.empty(); });
  EXPECT_EQ(n.sink->delivered().size(), 100U) << "what came late answers nobody twice";
}

TEST(hang, with_too_many_calls_that_hang_a_model_is_given_nothing_until_one_returns) {
  small_node n(30 * ms, 0, 3);
  for (int i = 0; i < 60; ++i)
    n.queue->add("{\"request_id\":\"r-" + std::to_string(i) + "\",\"features\":[666,0.5]}");
  n.consume();
  n.until([&] { return n.stalls->of(n.m.get()).value_or(model::stall()).hung >= 3; });
  EXPECT_LE(n.tree().abandoned.size(), 4U) << "three, and one that was under way beside the last";
  n.hangs->open();
  n.until([&] { return n.sink->delivered().size() == 60; });
  n.until([&] { return !n.stalls->any(); });
}

TEST(hang, callers_of_a_model_that_is_given_nothing_are_told_so_at_once_and_records_wait) {
  small_node n(30 * ms, 0, 3);
  n.open_door();
  const auto hang = n.ask(60, never);
  n.until([&] { return hang->all().size() == 60; });
  const auto later = n.ask(1, 1);
  n.until([&] { return later->all().size() == 1; });
  for (const auto& ends : {hang, later})
    for (const auto& one : ends->all()) {
      EXPECT_EQ(one.rfind("unavailable: model sum version 1: its engine hangs, with ", 0), 0U) << one;
      EXPECT_NE(one.find("models.max_hung"), std::string::npos) << one;
    }
  n.queue->add("{\"request_id\":\"r-1\",\"features\":[1,0.5]}");
  n.consume();
  n.until(
      [&] { return n.metrics->text().find("troupe_queue_depth{class=\"bulk\"} 1") != std::string::npos; });
  EXPECT_TRUE(n.sink->delivered().empty());
  n.hangs->open();
  n.until([&] { return n.sink->delivered().size() == 1; });
  const auto at_last = n.ask(1, 1);
  n.until([&] { return at_last->all().size() == 1; });
  EXPECT_EQ(at_last->all(), std::vector{std::to_string(1.5)});
}

TEST(hang, a_caller_s_deadline_holds_while_the_engine_has_the_row) {
  small_node n(0, 0);
  n.open_door();
  const auto ends = n.ask(3, never, 100 * ms);
  n.until([&] { return ends->all().size() == 3; });
  for (const auto& one : ends->all())
    EXPECT_EQ(one, "deadline_exceeded: the deadline passed before there was an answer");
  n.hangs->open();
  const auto later = n.ask(1, 1);
  n.until([&] { return later->all().size() == 1; });
  EXPECT_EQ(ends->all().size(), 3U) << "what came late answers nobody";
}

TEST(hang, a_stuck_actor_is_seen_and_another_takes_its_place) {
  small_node n(0, 100 * ms);
  n.queue->add("{\"request_id\":\"r-1\",\"features\":[666,0.5]}");
  n.consume();
  n.until([&] { return !n.tree().abandoned.empty(); });
  n.hangs->open();
  n.until([&] { return n.tree().abandoned.empty(); });
  n.until([&] { return n.sink->delivered().size() == 1; });
}

}  // namespace
}  // namespace troupe
