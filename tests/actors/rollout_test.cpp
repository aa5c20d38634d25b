// Versions that change while requests flow, all actors, under the deterministic scheduler.

#include <gtest/gtest.h>

#include "actors/model_keeper.hpp"
#include "actors/shadow_scorer.hpp"
#include "tests/actors/stage.hpp"

namespace troupe {
namespace {

using test::simulated_queue;
using test::stage;
using test::stage_options;

/// Answers a + b + more; counts itself.
class shifted_engine final : public model::engine {
 public:
  using hook = std::function<void(std::span<const double* const>)>;
  shifted_engine(double more, hook before) : more_(more), before_(std::move(before)) { ++alive; }
  ~shifted_engine() override { --alive; }
  void score(std::span<const double* const> rows, double* out) const override {
    if (before_) before_(rows);
    for (const double* row : rows) *out++ = row[0] + row[1] + more_;
  }
  std::string_view kind() const override { return "shifted"; }
  static inline int alive = 0;

 private:
  double more_;
  hook before_;
};

/// A stage with a keeper, whose loads are made by hand.
class rollout_stage : public stage {
 public:
  explicit rollout_stage(stage_options o = {}) : stage(std::move(o)) {
    add("shadow_scorer", [this](bool) {
      return caf_line::untyped(spawn_shadow_scorer(system.actors, {gate, metrics}, who));
    });
    add("model_keeper", [this](bool) {
      model_keeper_args a;
      a.memory = memory;
      a.live = live;
      a.directory = "/nowhere";
      a.metrics = metrics;
      a.stalls = stalls;
      a.load = [this](const model::version_on_disk& v) { asked.push_back(v); };
      a.start = [this](const std::shared_ptr<const model::loaded_model>& m) {
        add_child(shard_name(m.get()), "model_shard", [this, m](bool) {
          return caf_line::untyped(
              spawn_model_shard(system.actors, {++shards, m, metrics, nullptr, gate}, who));
        });
      };
      a.stop = [this](const model::loaded_model* m) {
        caf_line::post(supervisor, dismiss{shard_name(m), nullptr});
      };
      a.gone = [this](const model::loaded_model*) { ++gone; };
      return caf_line::untyped(spawn_model_keeper(system.actors, std::move(a), who));
    });
    system.run();
  }

  /// A source names version `number` and its load ends.
  void load(const std::string& number, double more, shifted_engine::hook before = {}) {
    named.push_back({"sum", number, "/models/sum/" + number, 1});
    update();
    ASSERT_FALSE(asked.empty());
    load_ends(asked.back(), more, std::move(before));
  }

  void load_ends(const model::version_on_disk& version, double more, shifted_engine::hook before = {}) {
    std::vector<model::feature> features(2);
    features[0].name = "a";
    features[1].name = "b";
    model::loaded_model::parts parts;
    parts.name = version.name;
    parts.version = version.version;
    parts.schema = model::schema(features, true);
    parts.engine = std::make_unique<shifted_engine>(more, std::move(before));
    parts.digest = 100 + static_cast<std::uint64_t>(std::stoi(version.version));
    caf_line::post(who.keeper,
                   load_ended{std::make_shared<const model::version_on_disk>(version),
                              std::make_shared<const model::loaded_model>(std::move(parts)), "warm"});
    system.run();
  }

  void update() {
    auto u = std::make_shared<model::model_source_update>();
    u->versions = named;
    u->production = production;
    caf_line::post(who.keeper, source_changed{u});
    system.run();
  }

  command_result command(model_command::what op, const std::string& version = {}) {
    return tell({op, "sum", version, nullptr, nullptr});
  }

  command_result roll_out(policy::rollout_strategy strategy, double percent,
                          const std::string& version = "2") {
    auto spec = std::make_shared<policy::rollout_spec>();
    spec->model = "sum";
    spec->version = version;
    spec->strategy = strategy;
    spec->percent = percent;
    spec->min_samples = 100;
    return tell({model_command::what::rollout, "sum", "", spec, nullptr});
  }

  command_result tell(model_command c) {
    c.result = std::make_shared<std::promise<command_result>>();
    auto result = c.result->get_future();
    caf_line::post(who.keeper, std::move(c));
    system.run();
    return result.get();
  }

  /// How many of the delivered results came from that version.
  std::size_t by_version(const std::string& version) const {
    std::size_t n = 0;
    for (const auto& s : sink->delivered)
      n += s.value.find("\"model_version\":\"" + version + "\"") != std::string::npos;
    return n;
  }

  void flow(int records) {
    for (int i = 0; i < records; ++i) {
      request(sent++);
      if (i % 20 == 19) settle(20'000'000);
    }
    settle(400'000'000);
  }

  std::string state_of(const std::string& version) {
    for (const auto& v : memory->report().versions)
      if (v.version == version) return v.state;
    return "";
  }

  std::shared_ptr<keeper_memory> memory = std::make_shared<keeper_memory>();
  std::vector<model::version_on_disk> named;
  std::map<std::string, std::string> production;
  std::vector<model::version_on_disk> asked;
  int gone = 0;
  int sent = 0;

 private:
  std::string shard_name(const model::loaded_model* m) {
    return "model_shard " + m->name() + "/" + m->version();
  }
  void add(const std::string& kind, std::function<caf_line::any_actor(bool)> start) {
    add_child(kind, kind, std::move(start));
  }
  void add_child(const std::string& name, const std::string& kind,
                 std::function<caf_line::any_actor(bool)> start) {
    auto spec = std::make_shared<child_spec>();
    spec->name = name;
    spec->kind = kind;
    spec->start = std::move(start);
    caf_line::post(supervisor, supervise{spec});
  }
};

using what = model_command::what;
using strategy = policy::rollout_strategy;

TEST(rollout, what_a_source_promotes_answers_once_it_is_loaded_whatever_another_source_says) {
  rollout_stage s;
  auto registry = std::make_shared<model::model_source_update>();
  registry->source = "registry";
  registry->versions = {{"other", "7", "/cache/other/7", 1}};
  registry->production = {{"other", "7"}};
  s.production = {{"sum", "2"}};
  s.named.push_back({"sum", "2", "/models/sum/2", 1});
  s.update();
  caf_line::post(s.who.keeper, source_changed{registry});  // while version 2 is loading
  s.system.run();
  ASSERT_EQ(s.asked.size(), 2U);
  s.load_ends(s.asked.front(), 1000);
  EXPECT_EQ(s.state_of("2"), "production");
}

TEST(rollout, a_version_is_loaded_beside_and_answers_when_it_is_promoted) {
  rollout_stage s;
  s.load("2", 1000);
  EXPECT_EQ(s.state_of("1"), "production");
  EXPECT_EQ(s.state_of("2"), "loaded");
  s.flow(40);
  EXPECT_EQ(s.by_version("1"), 40U) << "a new version gets nothing until it is told to";
  for (int i = 0; i < 40; ++i) s.request(s.sent++);  // in flight while it switches
  s.system.run();
  EXPECT_EQ(s.command(what::promote, "v2").status, 200);
  s.flow(40);
  s.settle();
  EXPECT_EQ(s.sink->delivered.size(), 120U);
  for (int i = 0; i < s.sent; ++i) EXPECT_EQ(s.results_of(i).size(), 1U) << i;
  EXPECT_GE(s.by_version("2"), 40U);
  EXPECT_EQ(s.command(what::rollback).status, 200);
  const auto before = s.by_version("1");
  s.flow(20);
  EXPECT_EQ(s.by_version("1"), before + 20);
}

TEST(rollout, what_was_queued_for_an_unloaded_version_is_answered_by_it) {
  rollout_stage s;
  const int alive = shifted_engine::alive;
  s.load("2", 1000);
  EXPECT_EQ(shifted_engine::alive, alive + 1);
  EXPECT_EQ(s.command(what::unload, "1").status, 409) << "the production version stays";
  for (int i = 0; i < 60; ++i) s.request(s.sent++, ",\"model_version\":2");
  s.system.advance(20'000'000);  // polled; nothing is delivered yet, so the batches live
  EXPECT_EQ(s.command(what::unload, "2").status, 202);
  s.system.advance(1'000'000'000);
  EXPECT_EQ(s.state_of("2"), "unloaded");
  EXPECT_EQ(shifted_engine::alive, alive + 1) << "kept until its rows are done";
  s.settle();
  EXPECT_EQ(s.by_version("2"), 60U);
  EXPECT_EQ(shifted_engine::alive, alive);
  EXPECT_EQ(s.gone, 1);
  s.request(s.sent++, ",\"model_version\":2");
  s.settle();
  EXPECT_EQ(s.by_version("1"), 1U) << "the production version stands in";
}

TEST(rollout, the_default_model_does_not_move_when_a_model_is_unloaded) {
  struct row {
    const char *configured, *unloaded, *wanted;
  };
  for (const row& r : std::vector<row>{{"sum", "sum", "none"},
                                       {"sum", "other", "sum"},
                                       {"other", "other", "none"},
                                       {"", "other", "sum"},  // the only one of the start
                                       {"", "sum", "none"}}) {
    rollout_stage s;
    const model::version_on_disk other{"other", "1", "/models/other/1", 1};
    s.update();  // the keeper knows what the node began with
    caf_line::post(s.who.keeper, model_settings{r.configured, true, nullptr});
    s.system.run();
    s.named.push_back(other);
    s.update();
    s.load_ends(other, 0);
    ASSERT_EQ(s.live->current()->all().size(), 2U);
    model_command c;
    c.op = what::unload;
    c.model = r.unloaded;
    EXPECT_EQ(s.tell(std::move(c)).status, 202);
    const auto table = s.live->current();
    const auto* m = table->find("", "").model;
    EXPECT_EQ(m ? m->name() : "none", r.wanted) << r.configured << " without " << r.unloaded;
    EXPECT_EQ(table->default_name(), *r.configured ? r.configured : "sum");
  }
}

TEST(rollout, a_hundred_loads_and_unloads_leave_nothing) {
  rollout_stage s;
  const int alive = shifted_engine::alive;
  for (int i = 0; i < 100; ++i) {
    s.load("2", 1000);
    for (int j = 0; j < 3; ++j) s.request(s.sent++, ",\"model_version\":2");
    s.settle(30'000'000);
    s.named.clear();
    s.update();
    s.settle(400'000'000);
    ASSERT_EQ(shifted_engine::alive, alive) << i;
  }
  EXPECT_EQ(s.gone, 100);
  EXPECT_EQ(s.by_version("2"), 300U);
}

TEST(rollout, a_failed_load_changes_nothing) {
  rollout_stage s;
  s.named.push_back({"sum", "2", "/models/sum/2", 1});
  s.update();
  ASSERT_EQ(s.asked.size(), 1U);
  caf_line::post(s.who.keeper, load_ended{std::make_shared<const model::version_on_disk>(s.asked.back()),
                                          nullptr, "model.onnx: is cut short"});
  s.system.run();
  EXPECT_EQ(s.state_of("2"), "failed");
  s.flow(20);
  EXPECT_EQ(s.by_version("1"), 20U);
  s.update();
  EXPECT_EQ(s.asked.size(), 1U) << "tried again only once it changes";
  s.named.back().stamp = 2;
  s.update();
  EXPECT_EQ(s.asked.size(), 2U);
}

TEST(rollout, a_canary_gets_its_share_and_is_promoted) {
  rollout_stage s;
  s.load("2", 0.001);
  ASSERT_EQ(s.roll_out(strategy::canary, 25).status, 200);
  EXPECT_EQ(s.state_of("2"), "candidate");
  s.flow(400);
  EXPECT_NEAR(static_cast<double>(s.by_version("2")), 100, 40);
  EXPECT_EQ(s.by_version("1") + s.by_version("2"), 400U);
  ASSERT_EQ(s.memory->report().rollouts.size(), 1U);
  EXPECT_EQ(s.memory->report().rollouts[0].new_side.requests, s.by_version("2"));
  EXPECT_EQ(s.command(what::promote).status, 200);
  EXPECT_EQ(s.state_of("2"), "production");
  EXPECT_EQ(s.memory->report().history.at(0).ended, "promoted");
}

TEST(rollout, a_version_that_predicts_otherwise_is_rolled_back) {
  rollout_stage s;
  s.load("2", 100'000);
  ASSERT_EQ(s.roll_out(strategy::canary, 50).status, 200);
  s.flow(600);
  ASSERT_TRUE(s.memory->report().rollouts.empty());
  const auto r = s.memory->report().history.at(0);
  EXPECT_EQ(r.ended, "rolled_back");
  EXPECT_EQ(r.reason, "drift") << r.text;
  const auto before = s.by_version("2");
  s.flow(100);
  EXPECT_EQ(s.by_version("2"), before);
  EXPECT_EQ(s.state_of("2"), "loaded");
  EXPECT_NE(s.metrics->text().find("troupe_rollout_rollbacks_total{model=\"sum\",reason=\"drift\"} 1"),
            std::string::npos);
}

TEST(rollout, a_version_that_fails_is_rolled_back) {
  rollout_stage s;
  s.load("2", 0, [](std::span<const double* const> rows) {
    for (const double* r : rows)
      if (static_cast<int>(r[0]) % 10 < 2) throw model::model_error("no answer for this row");
  });
  ASSERT_EQ(s.roll_out(strategy::canary, 50).status, 200);
  s.flow(600);
  ASSERT_TRUE(s.memory->report().rollouts.empty());
  EXPECT_EQ(s.memory->report().history.at(0).reason, "error_rate") << s.memory->report().history.at(0).text;
  for (int i = 0; i < s.sent; ++i) EXPECT_EQ(s.results_of(i).size(), 1U) << i;
}

TEST(rollout, a_version_that_answers_nothing_is_rolled_back_without_a_sample) {
  rollout_stage s;
  s.load("2", 0);
  const auto model = [&](const char* version) { return s.live->current()->find("sum", version).model; };
  ASSERT_EQ(s.roll_out(strategy::canary, 50).status, 200);
  s.stalls->set(model("1"), {1, 2, 0});
  s.stalls->set(model("2"), {1, 2, 0});
  s.settle(5'000'000'000);
  EXPECT_EQ(s.memory->report().rollouts.size(), 1U) << "the old one answers no better";
  s.stalls->clear(model("1"));
  s.settle(5'000'000'000);
  ASSERT_TRUE(s.memory->report().rollouts.empty());
  const rollout_report ended = s.memory->report().history.at(0);
  EXPECT_EQ(ended.reason, "unavailable");
  EXPECT_EQ(ended.text, "it can't answer: it keeps failing, its breaker is open");
  EXPECT_EQ(ended.new_side.requests, 0U);
  EXPECT_NE(s.metrics->text().find("troupe_rollout_rollbacks_total{model=\"sum\",reason=\"unavailable\"} 1"),
            std::string::npos);
}

TEST(rollout, a_shadow_is_compared_and_never_answers) {
  rollout_stage s;
  s.load("2", 100'000);
  ASSERT_EQ(s.roll_out(strategy::shadow, 0).status, 200);
  s.flow(60);
  EXPECT_EQ(s.by_version("1"), 60U);
  ASSERT_EQ(s.memory->report().rollouts.size(), 1U);
  EXPECT_GT(s.memory->report().rollouts[0].new_side.requests, 0U);
  s.flow(400);
  EXPECT_EQ(s.by_version("1"), 460U);
  EXPECT_EQ(s.by_version("2"), 0U);
  ASSERT_EQ(s.memory->report().history.size(), 1U);
  EXPECT_EQ(s.memory->report().history[0].reason, "drift");
  EXPECT_EQ(s.gate->waiting.load(), 0U);
}

TEST(rollout, blue_green_switches_all_and_back) {
  rollout_stage s;
  s.load("2", 0.25);
  s.flow(20);
  ASSERT_EQ(s.roll_out(strategy::blue_green, 0).status, 200);
  s.flow(40);
  EXPECT_EQ(s.by_version("2"), 40U);
  EXPECT_EQ(s.command(what::rollback).status, 200);
  s.flow(40);
  EXPECT_EQ(s.by_version("2"), 40U);
  EXPECT_EQ(s.by_version("1"), 60U);
}

TEST(rollout, a_request_that_names_its_version_is_not_divided) {
  rollout_stage s;
  s.load("2", 0.25);
  ASSERT_EQ(s.roll_out(strategy::blue_green, 0).status, 200);
  for (int i = 0; i < 30; ++i) s.request(s.sent++, ",\"model_version\":\"v1\"");
  s.settle();
  EXPECT_EQ(s.by_version("1"), 30U);
  EXPECT_EQ(s.memory->report().rollouts.at(0).old_side.requests, 0U) << "nor is it counted";
}

TEST(rollout, the_keeper_crashes_and_its_rollout_goes_on) {
  rollout_stage s;
  s.load("2", 0.25);
  ASSERT_EQ(s.roll_out(strategy::canary, 50).status, 200);
  s.crash_child("model_keeper");
  s.system.advance(1'000'000'000);
  s.flow(200);
  EXPECT_GT(s.by_version("2"), 50U);
  ASSERT_EQ(s.memory->report().rollouts.size(), 1U);
  EXPECT_GT(s.memory->report().rollouts[0].new_side.requests, 0U);
  EXPECT_EQ(s.command(what::promote).status, 200);
}

TEST(rollout, commands_that_make_no_sense_say_why) {
  rollout_stage s;
  EXPECT_EQ(s.command(what::promote).status, 400);
  EXPECT_EQ(s.command(what::promote, "9").status, 404);
  EXPECT_EQ(s.command(what::rollback).status, 409);
  EXPECT_EQ(s.command(what::unload, "1").status, 409);
  EXPECT_EQ(s.command(what::load, "1").status, 409);
  EXPECT_EQ(s.command(what::load, "7").status, 404);
  EXPECT_EQ(s.command(what::load, "../x").status, 400);
  EXPECT_EQ(s.roll_out(strategy::canary, 5, "2").status, 404);
  EXPECT_EQ(s.roll_out(strategy::canary, 5, "1").status, 409);
}

TEST(rollout, the_source_names_production_and_takes_versions_away) {
  rollout_stage s;
  s.named.push_back({"sum", "1", "/models/sum/1", 0});
  s.production = {{"sum", "2"}};
  s.load("2", 1000);
  EXPECT_EQ(s.state_of("2"), "production");
  s.flow(20);
  EXPECT_EQ(s.by_version("2"), 20U);
  s.named.pop_back();
  s.production.clear();
  s.update();
  s.flow(20);
  EXPECT_EQ(s.by_version("1"), 20U);
  s.named.clear();
  s.update();
  s.flow(20);
  EXPECT_EQ(s.by_version("1"), 40U) << "the last version stays";
}

}  // namespace
}  // namespace troupe
