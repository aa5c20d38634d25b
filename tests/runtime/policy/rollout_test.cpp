// Which version answers, when the new one must go, when its share grows.
#include "runtime/policy/rollout.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace troupe::policy {
namespace {

route_subject at(std::int64_t offset, std::string_view key = {}) {
  route_subject s;
  s.key = key;
  s.partition = static_cast<std::int32_t>(offset % 4);
  s.offset = offset / 4;
  return s;
}

TEST(route, shares_are_kept) {
  for (const double share : {0.0, 0.01, 0.05, 0.5, 0.9, 1.0}) {
    const route canary(rollout_strategy::canary, share, "m");
    const route ab(rollout_strategy::ab, share, "m");
    constexpr int n = 100'000;
    int by_place = 0, by_key = 0;
    for (int i = 0; i < n; ++i) {
      by_place += canary.takes_new(at(i));
      by_key += ab.takes_new(at(0, "customer-" + std::to_string(i)));
    }
    const double allowed = 5 * std::sqrt(share * (1 - share) / n) + 1e-9;
    EXPECT_NEAR(by_place / double(n), share, allowed) << share;
    EXPECT_NEAR(by_key / double(n), share, allowed) << share;
  }
}

TEST(route, a_larger_share_takes_nobody_back) {
  const route small(rollout_strategy::ab, 0.1, "m"), large(rollout_strategy::ab, 0.4, "m");
  for (int i = 0; i < 10'000; ++i) {
    const std::string key = "k" + std::to_string(i);
    if (small.takes_new(at(i, key))) {
      EXPECT_TRUE(large.takes_new(at(i, key)));
    }
  }
}

TEST(route, a_key_stays_and_experiments_are_independent) {
  const route a(rollout_strategy::ab, 0.5, "first"), b(rollout_strategy::ab, 0.5, "second");
  int both = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::string key = "k" + std::to_string(i);
    EXPECT_EQ(a.takes_new(at(1, key)), a.takes_new(at(i + 77, key)));
    both += a.takes_new(at(1, key)) && b.takes_new(at(1, key));
  }
  EXPECT_NEAR(both / 10'000.0, 0.25, 0.03);
}

TEST(route, strategies) {
  route_subject marked = at(3);
  marked.has_header = true;
  const route header(rollout_strategy::header, 0, "m");
  EXPECT_TRUE(header.takes_new(marked));
  EXPECT_FALSE(header.takes_new(at(3)));
  EXPECT_TRUE(route(rollout_strategy::blue_green, 0, "m").takes_new(at(3)));
  EXPECT_FALSE(route(rollout_strategy::shadow, 1, "m").takes_new(marked));
  EXPECT_FALSE(route().takes_new(at(3)));
  // Without place, by id: of many, some go each way.
  const route canary(rollout_strategy::canary, 0.5, "m");
  int taken = 0;
  for (int i = 0; i < 1000; ++i) {
    route_subject s;
    const std::string id = "r-" + std::to_string(i);
    s.id = id;
    taken += canary.takes_new(s);
  }
  EXPECT_NEAR(taken, 500, 80);
  for (const auto s : {rollout_strategy::canary, rollout_strategy::header, rollout_strategy::ab,
                       rollout_strategy::shadow, rollout_strategy::blue_green})
    EXPECT_EQ(strategy_of(to_string(s)), s);
  EXPECT_FALSE(strategy_of("rolling"));
}

/// Feeds both sides at the same rate for `seconds` and says when and why the guard spoke.
struct outcome {
  std::optional<verdict> said;
  double after = 0;
};

outcome feed(rollout_guard& g, double old_errors, double new_errors, nanos old_took, nanos new_took,
             double shift, unsigned seed, int seconds = 120, int rate = 100) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> u(0, 1);
  std::normal_distribution<double> value(100, 20);
  for (int i = 0; i < seconds * 10; ++i) {
    const nanos now = i * 100 * millisecond;
    for (int j = 0; j < rate / 10; ++j) {
      g.record(now, arm::old_version, 1, 0, 0);
      const bool bad_old = u(random) < old_errors, bad_new = u(random) < new_errors;
      g.record(now, arm::old_version, !bad_old, bad_old, old_took);
      g.record(now, arm::new_version, !bad_new, bad_new, new_took);
      if (!bad_old) g.predicted(arm::old_version, value(random));
      if (!bad_new) g.predicted(arm::new_version, value(random) + shift);
    }
    if (auto v = g.judge(now)) return {std::move(v), static_cast<double>(now) * 1e-9};
  }
  return {};
}

TEST(rollout_guard, an_equal_version_is_left_alone) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    rollout_guard g({});
    const auto o = feed(g, 0.01, 0.01, millisecond, millisecond, 0, seed);
    EXPECT_FALSE(o.said) << o.said->text;
  }
}

TEST(rollout_guard, each_bound_has_its_reason) {
  struct row {
    double errors;
    nanos took;
    double shift;
    rollback_reason reason;
  };
  for (const row& r : {row{0.08, millisecond, 0, rollback_reason::error_rate},
                       row{0, 31 * millisecond, 0, rollback_reason::latency},
                       row{0, millisecond, 40, rollback_reason::drift}}) {
    rollout_guard g({});
    const auto o = feed(g, 0, r.errors, millisecond, r.took, r.shift, 3);
    ASSERT_TRUE(o.said) << to_string(r.reason);
    EXPECT_EQ(o.said->reason, r.reason) << o.said->text;
    EXPECT_LT(o.after, 15);
    EXPECT_GE(g.new_requests(), 200U);
  }
}

TEST(rollout_guard, says_nothing_below_the_minimum) {
  rollout_guard g({});
  for (int i = 0; i < 199; ++i) {
    g.record(second, arm::new_version, 0, 1, 0);
    g.record(second, arm::old_version, 1, 0, 0);
  }
  EXPECT_FALSE(g.judge(second));
  g.record(second, arm::new_version, 0, 1, 0);
  EXPECT_FALSE(g.judge(second)) << "the old version has too few to compare with";
  g.record(second, arm::old_version, 1, 0, 0);
  ASSERT_TRUE(g.judge(second));
  EXPECT_FALSE(g.judge(second + 2 * minute)) << "out of the window";
}

TEST(rollout_guard, alone_is_judged_by_errors_only) {
  guard_config c;
  c.alone = true;
  rollout_guard good(c), bad(c);
  for (int i = 0; i < 1000; ++i) {
    good.record(second, arm::new_version, 1, 0, second);
    bad.record(second, arm::new_version, i % 10 != 0, i % 10 == 0, millisecond);
  }
  EXPECT_FALSE(good.judge(second));
  ASSERT_TRUE(bad.judge(second));
  EXPECT_EQ(bad.judge(second)->reason, rollback_reason::error_rate);
}

TEST(rollout_guard, small_models_may_be_relatively_slower) {
  rollout_guard g({});
  EXPECT_FALSE(feed(g, 0, 0, 20 * microsecond, 200 * microsecond, 0, 1).said);
}

TEST(rollout_guard, percentile_is_within_an_eighth) {
  for (const nanos took :
       {3 * microsecond, 90 * microsecond, 2 * millisecond, 31 * millisecond, 5 * second}) {
    rollout_guard g({});
    g.record(second, arm::new_version, 100, 0, took);
    const nanos p95 = g.read(second, arm::new_version).p95;
    EXPECT_GE(p95, took);
    EXPECT_LE(p95, took + took / 8 + 125);
  }
}

TEST(wilson, known_values) {
  EXPECT_NEAR(wilson_lower(10, 200, 1.96), 0.0274, 1e-3);
  EXPECT_NEAR(wilson_lower(0, 200), 0, 1e-12);
  EXPECT_EQ(wilson_lower(0, 0), 0);
}

TEST(rollout_steps, hold_for_time_and_samples_and_end_in_promotion) {
  rollout_steps s({0.01, 0.1, 1}, minute, 100);
  s.begin(0, 0);
  EXPECT_EQ(s.share(), 0.01);
  EXPECT_FALSE(s.due(30 * second, 1000));
  EXPECT_FALSE(s.due(minute, 99));
  auto m = s.due(minute, 100);
  ASSERT_TRUE(m);
  EXPECT_EQ(m->share, 0.1);
  EXPECT_FALSE(s.due(2 * minute, 150));
  EXPECT_EQ(s.due(2 * minute, 200)->share, 1);
  EXPECT_TRUE(s.due(3 * minute, 300)->promote);
  EXPECT_FALSE(s.due(9 * minute, 9000));
}

}  // namespace
}  // namespace troupe::policy
