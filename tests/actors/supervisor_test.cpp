// The supervisor alone, with small actors as children, under the deterministic scheduler.

#include "actors/supervisor.hpp"

#include <gtest/gtest.h>

#include "runtime/observe/metrics.hpp"
#include "runtime/observe/notices.hpp"
#include "tests/actors/deterministic_system.hpp"

namespace troupe {
namespace {

using test::deterministic_system;

constexpr nanos ms = 1'000'000;

struct idle_state {
  static inline const char* name = "idle";
  std::string who;
  std::vector<std::string>* told = nullptr;
  ~idle_state() {
    if (told) told->push_back("-" + who);
  }
};

using idle_actor = breaker_actor;  // any interface that takes wiring and crash

struct hall {
  hall(policy::group_rules rules = {}, nanos stuck_after = 0, nanos patience = 5'000 * ms) {
    supervisor_args a;
    a.rules = rules;
    a.metrics = metrics;
    a.notices = notices;
    a.stuck_after = stuck_after;
    a.patience = patience;
    a.escalate = [this](const std::string& why) { escalated.push_back(why); };
    a.started = [](const child_spec&, const caf_line::any_actor&, bool restart) {
      return restart ? std::optional(wiring{}) : std::nullopt;
    };
    supervisor = system.own(spawn_supervisor(system.actors, std::move(a)));
    system.run();
  }

  static policy::group_rules rules(policy::restart_strategy how, std::uint32_t intensity = 10,
                                   std::uint32_t groups = 3) {
    policy::group_rules r;
    r.strategy = how;
    r.children.intensity = intensity;
    r.groups.intensity = groups;
    return r;
  }

  void group(const std::string& name, const std::string& parent, const policy::group_rules& r) {
    caf_line::post(supervisor, supervise_group{name, parent, std::make_shared<policy::group_rules>(r)});
  }

  void child(const std::string& name, const std::string& group = {}) {
    auto spec = std::make_shared<child_spec>();
    spec->name = spec->kind = name;
    spec->group = group;
    spec->start = [this, name](bool) {
      events.push_back("+" + name);
      if (refuses == name) throw std::runtime_error("no room");
      const auto made = system.actors.spawn(
          [](idle_actor::stateful_pointer<idle_state> self, const std::string& who,
             std::vector<std::string>* told) -> idle_actor::behavior_type {
            caf_line::die_of_exceptions(self);
            self->state.who = who;
            self->state.told = told;
            if (who.starts_with("stuck")) self->set_exit_handler([](const caf::exit_msg&) {});
            return {
                [](const outcome&) {},
                [](tick) {},
                [self](const wiring&) {
                  if (self->state.who.starts_with("wired ") || self->state.who == "gateway")
                    self->state.told->push_back("=" + self->state.who);
                },
                [](const crash& c) {
                  if (c.why == "work") throw caf_line::died_of_its_work("a row");
                  throw std::runtime_error(c.why);
                },
            };
          },
          name, &events);
      alive[name] = made;
      return caf_line::untyped(made);
    };
    caf_line::post(supervisor, supervise{spec});
  }

  /// What happened since the last call.
  std::string story() {
    std::string out;
    for (const auto& e : events) out += e;
    events.clear();
    return out;
  }

  void kill(const std::string& name, const std::string& why = "boom") {
    caf_line::post_urgent(alive.at(name), crash{why});
    system.run();
  }

  tree_report tree() {
    auto p = std::make_shared<std::promise<tree_report>>();
    auto f = p->get_future();
    caf_line::post(supervisor, report_tree{p});
    system.run();
    return f.get();
  }

  std::string refuses;
  std::vector<std::string> events;
  std::vector<std::string> escalated;
  std::map<std::string, idle_actor> alive;
  std::shared_ptr<observe::metrics> metrics = std::make_shared<observe::metrics>(observe::metrics_options{});
  std::shared_ptr<observe::notices> notices = std::make_shared<observe::notices>();
  deterministic_system system;
  supervisor_actor supervisor;
};

TEST(supervisor, stops_and_starts_a_group_in_order) {
  using policy::restart_strategy;
  for (const auto& [how, told] : {std::pair(restart_strategy::one_for_one, "-b+b"),
                                  {restart_strategy::rest_for_one, "-b-d-c+b+c+d"},
                                  {restart_strategy::one_for_all, "-b-d-c-a+a+b+c+d"}}) {
    hall h;
    h.group("group", "", hall::rules(how));
    for (const char* name : {"a", "b", "c", "d"}) h.child(name, "group");
    h.child("outside");
    h.system.run();
    EXPECT_EQ(h.story(), "+a+b+c+d+outside");
    h.kill("b");
    h.system.advance(1'000 * ms);
    EXPECT_EQ(h.story(), told) << to_string(how);
    const auto t = h.tree();
    ASSERT_EQ(t.groups.size(), 2U);
    EXPECT_EQ(t.groups[1].strategy, to_string(how));
    EXPECT_EQ(t.groups[1].left, 9U);
    for (const auto& c : t.children) EXPECT_TRUE(c.running) << c.name;
    EXPECT_TRUE(h.escalated.empty());
  }
}

TEST(supervisor, who_submits_again_hears_of_a_new_neighbour_last) {
  hall h;
  for (const char* name : {"wired first", "gateway", "wired later", "scheduler"}) h.child(name);
  h.system.run();
  h.story();
  h.kill("scheduler");
  h.system.advance(1'000 * ms);
  EXPECT_EQ(h.story(), "-scheduler+scheduler=wired first=wired later=gateway");
}

TEST(supervisor, a_spent_budget_goes_up_group_by_group_to_the_process) {
  hall h(hall::rules(policy::restart_strategy::one_for_one, 10, 1));
  h.group("outer", "", hall::rules(policy::restart_strategy::one_for_all, 10, 1));
  h.child("first", "outer");
  h.group("inner", "outer", hall::rules(policy::restart_strategy::one_for_one, 2, 1));
  h.child("x", "inner");
  h.child("y", "inner");
  h.child("root's");
  h.system.run();
  (void)h.story();
  // inner tolerates 2 crashes; outer restarts inner once, and with it, by its strategy, all of its own; the
  // root does so once with outer.
  std::vector<std::string> stories;
  for (int i = 1; i <= 12 && h.escalated.empty(); ++i) {
    h.kill("x");
    h.system.advance(15'000 * ms);
    stories.push_back(h.story());
    h.system.advance(1 * ms);
  }
  ASSERT_EQ(stories.size(), 12U);
  EXPECT_EQ(stories[0], "-x+x");
  EXPECT_EQ(stories[2], "-x-y-first+first+x+y") << "inner gave up";
  EXPECT_EQ(stories[5], "-x-y-first+first+x+y") << "outer gave up";
  ASSERT_EQ(h.escalated.size(), 1U);
  EXPECT_NE(h.escalated[0].find("inner, outer, node"), std::string::npos) << h.escalated[0];
  EXPECT_NE(h.escalated[0].find("supervision.group_intensity"), std::string::npos) << h.escalated[0];
}

TEST(supervisor, who_is_down_has_a_notice_with_the_time_of_its_next_start) {
  hall h(hall::rules(policy::restart_strategy::rest_for_one, 3));
  for (const char* name : {"before", "x", "after"}) h.child(name);
  h.system.run();
  h.kill("x");
  h.system.advance(60'000 * ms);
  EXPECT_TRUE(h.notices->all().empty());
  for (const auto& c : h.tree().children) EXPECT_TRUE(c.running);
  h.kill("x");
  h.kill("before");  // goes into one plan with those that are down already
  const auto down = h.notices->all();
  ASSERT_EQ(down.size(), 3U);
  for (const auto& [name, n] : down) {
    EXPECT_EQ(n.what, "is down");
    EXPECT_EQ(n.next, "next start");
    EXPECT_EQ(n.at, down.at("before").at);
  }
  EXPECT_EQ(observe::in_words(down.at("x"), down.at("x").at - 1'500 * ms), "is down; next start in 2 s");
  EXPECT_EQ(observe::in_words(down.at("x"), down.at("x").at), "is down; next start due");
  h.system.advance(60'000 * ms);
  EXPECT_TRUE(h.notices->all().empty());
  h.kill("after");
  h.kill("after");
  EXPECT_EQ(h.notices->all().size(), 1U);
  caf_line::post(h.supervisor, dismiss{"after", nullptr});
  h.system.run();
  EXPECT_TRUE(h.notices->all().empty()) << "nobody waits for it any more";
}

TEST(supervisor, one_whose_budget_is_spent_says_so) {
  hall h(hall::rules(policy::restart_strategy::one_for_one, 0, 0));
  h.child("x");
  h.system.run();
  h.kill("x");
  EXPECT_EQ(observe::in_words(h.notices->all().at("x"), 0), "is down, its budget of restarts is spent");
}

TEST(supervisor, crashes_of_the_work_are_free_and_at_once) {
  hall h(hall::rules(policy::restart_strategy::one_for_one, 0, 0));
  h.child("shard");
  h.system.run();
  for (int i = 0; i < 100; ++i) h.kill("shard", "work");
  EXPECT_TRUE(h.escalated.empty());
  const auto t = h.tree();
  EXPECT_TRUE(t.children.at(0).running) << "no time has passed";
  EXPECT_EQ(t.children.at(0).restarts, 100U);
  EXPECT_EQ(t.children.at(0).last_reason, "a row");
  h.kill("shard");
  EXPECT_EQ(h.escalated.size(), 1U);
}

TEST(supervisor, a_dismissal_that_overtakes_its_child_s_start_ends_it_all_the_same) {
  hall h;
  h.child("consumer");
  h.group("model", "", hall::rules(policy::restart_strategy::one_for_one));
  h.child("breaker", "model");
  h.child("shard", "model");
  caf_line::post_urgent(h.supervisor, dismiss{"consumer", nullptr});
  caf_line::post_urgent(h.supervisor, dismiss{"model", nullptr});
  h.system.run();
  EXPECT_EQ(h.story(), "+consumer+breaker+shard-consumer-shard-breaker");
  const auto t = h.tree();
  EXPECT_TRUE(t.children.empty());
  EXPECT_EQ(t.groups.size(), 1U);
  auto how = std::make_shared<retire>();
  how->done = std::make_shared<std::promise<bool>>();
  auto done = how->done->get_future();
  caf_line::post_urgent(h.supervisor, dismiss{"nobody", how});
  h.system.run();
  ASSERT_EQ(done.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_FALSE(done.get());
}

TEST(supervisor, all_are_stopped_in_reverse_and_it_ends_itself) {
  hall h;
  h.group("one", "", hall::rules(policy::restart_strategy::one_for_one));
  h.child("z");
  h.child("a", "one");
  h.child("b", "one");
  h.system.run();
  (void)h.story();
  auto left = std::make_shared<std::promise<std::vector<std::string>>>();
  auto names = left->get_future();
  caf_line::post_urgent(h.supervisor, stop_all{1'000 * ms, left});
  h.child("late");
  h.system.run();
  EXPECT_EQ(h.story(), "-z-b-a");
  ASSERT_EQ(names.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_TRUE(names.get().empty());
}

TEST(supervisor, the_patience_of_the_end_is_for_all_who_do_not_come_back) {
  hall h;
  for (const char* name : {"a", "stuck 1", "stuck 2", "stuck 3", "b"}) h.child(name);
  h.system.run();
  (void)h.story();
  auto left = std::make_shared<std::promise<std::vector<std::string>>>();
  auto names = left->get_future();
  caf_line::post_urgent(h.supervisor, stop_all{1'000 * ms, left});
  h.system.advance(999 * ms);
  EXPECT_EQ(h.story(), "-b") << "the next may still come back";
  h.system.advance(450 * ms);
  EXPECT_EQ(h.story(), "-a");
  ASSERT_EQ(names.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_EQ(names.get(), (std::vector<std::string>{"stuck 3", "stuck 2", "stuck 1"}));
  for (const char* name : {"stuck 1", "stuck 2", "stuck 3"}) h.kill(name);
}

/// A hundred versions on a machine of many cores are thousands of shards. (Looking at every child for each
/// that still runs, after each end, took a node of 1,700 a minute.)
TEST(supervisor, hundreds_are_stopped_one_after_another) {
  hall h;
  std::string expected;
  for (int g = 0; g < 40; ++g) {
    const std::string group = "group" + std::to_string(g);
    h.group(group, "", hall::rules(policy::restart_strategy::one_for_one));
    for (int i = 0; i < 20; ++i) {
      const std::string name = std::to_string(g) + "." + std::to_string(i) + " ";
      h.child(name, group);
      expected.insert(0, "-" + name);
    }
  }
  h.system.run();
  (void)h.story();
  auto left = std::make_shared<std::promise<std::vector<std::string>>>();
  auto names = left->get_future();
  caf_line::post_urgent(h.supervisor, stop_all{1'000 * ms, left});
  h.system.run();
  EXPECT_EQ(h.story(), expected);
  ASSERT_EQ(names.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_TRUE(names.get().empty());
}

TEST(supervisor, one_that_cannot_be_started_counts_and_takes_its_group_along) {
  hall h(hall::rules(policy::restart_strategy::one_for_one, 10, 0));
  h.group("group", "", hall::rules(policy::restart_strategy::one_for_all, 1));
  h.child("a", "group");
  h.child("b", "group");
  h.system.run();
  (void)h.story();
  h.refuses = "b";
  h.kill("a");
  h.system.advance(30'000 * ms);
  EXPECT_EQ(h.escalated.size(), 1U);
  EXPECT_NE(h.escalated[0].find("could not be started: no room"), std::string::npos) << h.escalated[0];
}

TEST(supervisor, who_answers_is_not_stuck) {
  hall h({}, 1'000 * ms);
  h.child("a");
  h.system.run();
  h.system.advance(20'000 * ms, 100 * ms);
  EXPECT_EQ(h.tree().children.at(0).stuck_seconds, 0);
  EXPECT_EQ(h.metrics->text().find("troupe_actor_stuck{"), std::string::npos);
}

}  // namespace
}  // namespace troupe
