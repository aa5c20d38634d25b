#include "runtime/policy/restart_policy.hpp"

#include <gtest/gtest.h>

namespace troupe::policy {
namespace {

restart_config no_jitter() {
  restart_config c;
  c.intensity = 3;
  c.period = 10 * second;
  c.first_delay = 100 * millisecond;
  c.max_delay = 300 * millisecond;
  c.jitter = 0;
  c.quiet = 20 * second;
  return c;
}

TEST(restart_policy, tolerates_intensity_crashes_in_a_period_and_not_one_more) {
  restart_policy p(no_jitter());
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(p.on_crash(i * second).escalate) << i;
  const auto fourth = p.on_crash(3 * second);
  EXPECT_TRUE(fourth.escalate);
  EXPECT_EQ(fourth.after, 0);
}

TEST(restart_policy, a_crash_a_period_ago_still_counts_and_an_older_one_does_not) {
  for (const auto& [at, escalates] : {std::pair<nanos, bool>{10 * second, true}, {10 * second + 1, false}}) {
    restart_policy p(no_jitter());
    (void)p.on_crash(0);
    (void)p.on_crash(1 * second);
    (void)p.on_crash(2 * second);
    EXPECT_EQ(p.on_crash(at).escalate, escalates) << at;
  }
}

TEST(restart_policy, intensity_zero_escalates_at_once) {
  auto c = no_jitter();
  c.intensity = 0;
  EXPECT_TRUE(restart_policy(c).on_crash(5).escalate);
}

TEST(restart_policy, delays_double_up_to_the_longest_and_start_again_after_quiet) {
  auto c = no_jitter();
  c.intensity = 100;
  restart_policy p(c);
  EXPECT_EQ(p.on_crash(1).after, 100 * millisecond);
  EXPECT_EQ(p.on_crash(2).after, 200 * millisecond);
  EXPECT_EQ(p.on_crash(3).after, 300 * millisecond);
  EXPECT_EQ(p.on_crash(4).after, 300 * millisecond);
  EXPECT_EQ(p.on_crash(4 + 20 * second - 1).after, 300 * millisecond);
  EXPECT_EQ(p.on_crash(4 + 40 * second - 1).after, 100 * millisecond);
  EXPECT_EQ(p.crashes(), 6u);
}

TEST(restart_policy, jitter_stays_in_bounds_and_a_seed_replays) {
  auto c = no_jitter();
  c.intensity = 1'000;
  c.jitter = 0.5;
  c.factor = 1;
  restart_policy a(c, 42);
  restart_policy b(c, 42);
  restart_policy other(c, 43);
  bool differs = false;
  nanos least = never;
  nanos most = 0;
  for (int i = 0; i < 500; ++i) {
    const nanos d = a.on_crash(i).after;
    EXPECT_EQ(d, b.on_crash(i).after);
    differs = differs || d != other.on_crash(i).after;
    least = std::min(least, d);
    most = std::max(most, d);
  }
  EXPECT_TRUE(differs);
  EXPECT_GE(least, 100 * millisecond);
  EXPECT_LE(most, 150 * millisecond);
  EXPECT_GT(most - least, 40 * millisecond);
}

}  // namespace
}  // namespace troupe::policy
