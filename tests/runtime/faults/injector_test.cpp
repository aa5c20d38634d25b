#include "runtime/faults/injector.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace troupe::faults {
namespace {

constexpr nanos millisecond = 1'000'000;

fault of(kind what, nanos duration = 20 * millisecond) {
  fault f;
  f.what = what;
  f.duration = duration;
  f.delay = millisecond;
  f.shift = 1'000 * millisecond;
  f.size = std::size_t{1} << 20;
  f.actor = "producer";
  if (what == kind::rebalance_storm || what == kind::actor_crash) f.every = millisecond;
  return f;
}

/// An injector whose node only counts.
struct stage {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<report> told;
  std::atomic<int> crashes{0}, rejoins{0};
  std::atomic<bool> member{true};  // of the group
  injector faults;

  stage() : faults(options()) {}
  injector_options options() {
    injector_options o;
    o.kafka = o.reports = o.redis = o.registry = true;
    o.crash = [this](const std::string& name) {
      ++crashes;
      return name == "nobody" ? "" : name.empty() ? "scheduler" : name;
    };
    o.actors = [] { return std::vector<std::string>{"producer", "scheduler"}; };
    o.versions = [] {
      return std::vector<std::pair<std::string, std::string>>{{"churn", "1"}, {"churn", "2"}, {"fraud", "3"}};
    };
    o.rejoin = [this] {
      ++rejoins;
      return member.load();
    };
    o.tell = [this](const report& r) {
      const std::lock_guard lock(mutex);
      told.push_back(r);
      changed.notify_all();
    };
    return o;
  }
  report wait_for_end() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return !told.empty() && !told.back().ended.empty(); });
    return told.back();
  }
};

TEST(injector, every_fault_begins_is_told_and_ends_by_itself) {
  for (const auto& k : kinds()) {
    if (k.what == kind::freeze) continue;  // would stop this program: see the end-to-end test
    stage s;
    const auto begun = s.faults.inject(of(k.what));
    EXPECT_EQ(begun.ended, "") << k.name;
    const auto r = s.wait_for_end();
    EXPECT_EQ(r.id, begun.id);
    EXPECT_EQ(r.ended, "over") << k.name;
    EXPECT_GE(r.until - r.began, 20 * millisecond);
    EXPECT_EQ(s.told.size(), 2U);
    EXPECT_EQ(s.faults.points().totals_of(k.what).active, 0U);
    EXPECT_FALSE(s.faults.points().at(k.at));
  }
}

TEST(injector, some_strike_by_themselves) {
  stage s;
  s.faults.inject(of(kind::rebalance_storm));
  EXPECT_GE(s.wait_for_end().strikes, 1U);
  EXPECT_GE(s.rejoins, 1);
}

/// The others are counted where they meet something: a batch, a report, an answer, a record that is read.
TEST(injector, only_what_was_done_at_once_has_struck_at_once) {
  for (const auto& k : kinds()) {
    if (k.what == kind::freeze || k.what == kind::rebalance_storm) continue;  // by a thread, a moment later
    stage s;
    fault f = of(k.what, 60'000 * millisecond);
    if (k.what == kind::actor_crash) f.every = 0;
    const auto begun = s.faults.inject(f);
    const bool at_once = k.what == kind::memory_pressure || k.what == kind::actor_crash;
    EXPECT_EQ(begun.strikes, at_once ? 1U : 0U) << k.name;
    s.faults.stop();
    EXPECT_EQ(s.faults.list().front().strikes, begun.strikes) << k.name;
  }
}

TEST(injector, a_node_in_no_group_has_no_rebalance_storm) {
  stage s;
  s.member = false;
  s.faults.inject(of(kind::rebalance_storm));
  EXPECT_EQ(s.wait_for_end().strikes, 0U);
  EXPECT_GE(s.rejoins, 1);
}

TEST(injector, a_fault_for_nobody_is_refused_and_told_who_is_there) {
  stage s;
  const struct {
    const char *model, *version, *says;
  } table[] = {
      {"nobody", "", "model: there is no model nobody on this node; it has churn (1, 2), fraud (3)"},
      {"chrun", "", "did you mean churn?"},
      {"churn", "9", "version: there is no version 9 of churn on this node; it has 1, 2"},
      {"churn", "champion", "there is no version champion of churn"},
      {"fraud", "1", "it has 3"},
  };
  for (const auto& row : table) {
    fault f = of(kind::shard_fail);
    f.model = row.model;
    f.version = row.version;
    for (const bool only_check : {true, false}) {
      try {
        if (only_check)
          s.faults.check(f);
        else
          s.faults.inject(f);
        ADD_FAILURE() << row.says;
      } catch (const no_such_target& e) {
        EXPECT_THAT(e.what(), testing::HasSubstr(row.says));
      }
    }
  }
  fault often = of(kind::actor_crash);
  often.actor = "produzer";
  try {
    s.faults.inject(often);
    ADD_FAILURE() << "it would have crashed nobody for its whole duration";
  } catch (const no_such_target& e) {
    EXPECT_THAT(e.what(),
                testing::HasSubstr("there is no actor produzer on this node; did you mean producer?"));
  }
  EXPECT_TRUE(s.faults.list().empty());
  for (const auto& [model, version] : {std::pair("", ""), std::pair("churn", ""), std::pair("churn", "2")}) {
    fault f = of(kind::shard_delay);
    f.model = model;
    f.version = version;
    EXPECT_NO_THROW(s.faults.check(f));
    EXPECT_NO_THROW(s.faults.inject(f));
  }
}

TEST(injector, a_check_says_what_an_injection_would_and_changes_nothing) {
  stage s;
  for (const auto& k : kinds()) EXPECT_NO_THROW(s.faults.check(of(k.what))) << k.name;
  EXPECT_TRUE(s.faults.list().empty());
  EXPECT_EQ(s.crashes, 0);
  s.faults.inject(of(kind::redis_cut, 60'000 * millisecond));
  EXPECT_THROW(s.faults.check(of(kind::redis_slow)), cannot_inject);
  s.faults.stop();
  EXPECT_THROW(s.faults.check(of(kind::shard_fail)), cannot_inject);
}

TEST(injector, an_actor_crashes_once_and_that_is_all) {
  stage s;
  fault f = of(kind::actor_crash);
  f.every = 0;
  f.actor = "random";
  const auto r = s.faults.inject(f);
  EXPECT_EQ(r.what.actor, "scheduler");
  EXPECT_EQ(r.ended, "done");
  EXPECT_EQ(r.strikes, 1U);
  EXPECT_EQ(s.crashes, 1);
  f.actor = "nobody";
  EXPECT_THROW(s.faults.inject(f), no_such_target);
  EXPECT_EQ(s.faults.list().size(), 1U);
}

TEST(injector, a_link_has_one_fault_at_a_time) {
  stage s;
  const auto first = s.faults.inject(of(kind::redis_cut, 60'000 * millisecond));
  EXPECT_THROW(s.faults.inject(of(kind::redis_slow)), cannot_inject);
  EXPECT_NO_THROW(s.faults.inject(of(kind::kafka_cut, 60'000 * millisecond)));
  EXPECT_TRUE(s.faults.end(first.id));
  EXPECT_FALSE(s.faults.end(first.id));
  EXPECT_NO_THROW(s.faults.inject(of(kind::redis_slow, 60'000 * millisecond)));
  EXPECT_EQ(s.faults.end_all(), 2U);
  EXPECT_EQ(s.faults.end_all(), 0U);
}

TEST(injector, what_is_not_there_is_not_broken) {
  injector_options o;
  injector faults(std::move(o));
  for (const auto k : {kind::redis_cut, kind::kafka_slow, kind::registry_corrupt, kind::report_drop,
                       kind::rebalance_storm, kind::clock_jump})
    EXPECT_THROW(faults.inject(of(k)), cannot_inject) << info(k).name;
  EXPECT_TRUE(faults.list().empty());
}

TEST(injector, a_stopped_one_has_ended_everything_and_takes_no_more) {
  stage s;
  s.faults.inject(of(kind::shard_hang, 60'000 * millisecond));
  s.faults.inject(of(kind::memory_pressure, 60'000 * millisecond));
  s.faults.stop();
  for (const auto& r : s.faults.list()) EXPECT_EQ(r.ended, "stopped");
  EXPECT_THROW(s.faults.inject(of(kind::shard_hang)), cannot_inject);
  s.faults.stop();
}

}  // namespace
}  // namespace troupe::faults
