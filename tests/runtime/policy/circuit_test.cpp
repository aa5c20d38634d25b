#include "runtime/policy/circuit.hpp"

#include <gtest/gtest.h>

#include <random>

namespace troupe::policy {
namespace {

circuit_config in_a_row_only() {
  circuit_config c;
  c.failure_rate = 2;
  return c;
}

TEST(circuit, opens_at_the_threshold_and_not_before) {
  circuit c(in_a_row_only());
  for (int i = 0; i < 4; ++i) c.failure(i);
  EXPECT_TRUE(c.allow(4));
  c.failure(5);
  EXPECT_EQ(c.state(5), circuit_state::open);
  EXPECT_FALSE(c.allow(6));
  EXPECT_EQ(c.next_probe(), 5 + 60 * second);
  EXPECT_EQ(c.transitions(), 1u);
}

TEST(circuit, a_success_breaks_the_row) {
  circuit c(in_a_row_only());
  for (int i = 0; i < 100; ++i) {
    if (i % 5 == 4)
      c.success(i);
    else
      c.failure(i);
    ASSERT_EQ(c.state(), circuit_state::closed) << i;
  }
}

TEST(circuit, half_open_after_its_time_lets_the_probes_through_and_no_more) {
  auto config = in_a_row_only();
  config.probes = 3;
  circuit c(config);
  for (int i = 0; i < 5; ++i) c.failure(0);
  EXPECT_FALSE(c.allow(60 * second - 1));
  EXPECT_EQ(c.state(60 * second), circuit_state::half_open);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(c.allow(60 * second)) << i;
  EXPECT_FALSE(c.allow(60 * second));
  c.success(61 * second);
  EXPECT_EQ(c.state(), circuit_state::closed);
  EXPECT_TRUE(c.allow(61 * second));
  EXPECT_EQ(c.next_probe(), 0);
}

TEST(circuit, a_failed_probe_opens_for_the_whole_time_again) {
  circuit c(in_a_row_only());
  for (int i = 0; i < 5; ++i) c.failure(0);
  EXPECT_TRUE(c.allow(60 * second));
  c.failure(70 * second);
  EXPECT_EQ(c.state(), circuit_state::open);
  EXPECT_FALSE(c.allow(130 * second - 1));
  EXPECT_TRUE(c.allow(130 * second));
}

TEST(circuit, lost_probes_are_given_anew) {
  circuit c(in_a_row_only());
  for (int i = 0; i < 5; ++i) c.failure(0);
  EXPECT_TRUE(c.allow(60 * second));
  EXPECT_FALSE(c.allow(119 * second));
  EXPECT_EQ(c.next_probe(), 120 * second);
  EXPECT_TRUE(c.allow(120 * second));
}

TEST(circuit, what_ends_while_open_changes_nothing) {
  circuit c(in_a_row_only());
  for (int i = 0; i < 5; ++i) c.failure(0);
  c.success(1);
  c.failure(30 * second);
  EXPECT_EQ(c.state(30 * second), circuit_state::open);
  EXPECT_EQ(c.state(60 * second), circuit_state::half_open) << "the failure did not extend it";
}

TEST(circuit, opens_on_the_rate_of_the_window) {
  circuit_config config;
  config.threshold = 0;
  circuit c(config);
  for (int i = 0; i < 10; ++i) c.success(i);
  for (int i = 0; i < 9; ++i) c.failure(10 + i);
  EXPECT_EQ(c.state(), circuit_state::closed) << "19 calls are too few";
  c.failure(20);
  EXPECT_EQ(c.state(), circuit_state::open) << "10 of 20";
}

TEST(circuit, the_window_forgets) {
  circuit_config config;
  config.threshold = 0;
  circuit c(config);
  for (int i = 0; i < 19; ++i) c.failure(0);
  c.failure(11 * second);
  EXPECT_EQ(c.state(), circuit_state::closed);
}

TEST(circuit, a_batch_counts_as_its_calls) {
  circuit whole(in_a_row_only());
  whole.record(0, 0, 64);
  EXPECT_EQ(whole.state(), circuit_state::open);
  circuit mixed(in_a_row_only());
  for (int i = 0; i < 50; ++i) mixed.record(i, 1, 4);
  EXPECT_EQ(mixed.state(), circuit_state::closed) << "never five in a row for sure";
  mixed.record(60, 0, 0);
  EXPECT_EQ(mixed.transitions(), 0u);
}

TEST(circuit, probes_that_end_mixed_are_judged_by_their_majority) {
  for (const auto& [ok, failed, after] :
       {std::tuple{3u, 2u, circuit_state::closed}, std::tuple{2u, 2u, circuit_state::open}}) {
    circuit c(in_a_row_only());
    c.record(0, 0, 5);
    ASSERT_EQ(c.state(60 * second), circuit_state::half_open);
    c.record(61 * second, ok, failed);
    EXPECT_EQ(c.state(), after);
  }
}

TEST(circuit, never_lets_more_than_the_probes_through_until_one_succeeds) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    std::mt19937_64 random(seed);
    auto config = in_a_row_only();
    config.probes = 2;
    circuit c(config);
    c.record(0, 0, 5);
    nanos opened = 0;
    int allowed = 0;
    for (nanos now = 1; now < 600 * second; now += static_cast<nanos>(random() % 3'000'000'000)) {
      if (!c.allow(now)) continue;
      ++allowed;
      ASSERT_GE(now - opened, 60 * second);
      ASSERT_LE(allowed, 2);
      if (random() % 2) {
        c.failure(now);
        opened = now;
        allowed = 0;
      } else if (allowed == 2) {
        opened = now - 60 * second;  // lost: may come again, not before their time
        allowed = 0;
        while (c.next_probe() > now) now = c.next_probe();
      }
    }
  }
}

}  // namespace
}  // namespace troupe::policy
