#include "runtime/traffic/account.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace troupe::traffic {
namespace {

TEST(schedule, counts_what_is_due) {
  const schedule plan(1000);
  EXPECT_EQ(plan.due(-1), 0);
  EXPECT_EQ(plan.due(0), 1);
  EXPECT_EQ(plan.due(999), 1);
  EXPECT_EQ(plan.due(1000), 2);
  EXPECT_EQ(plan.due(1'000'000), 1001);
  EXPECT_EQ(plan.due_us(0), 0);
  EXPECT_EQ(plan.due_us(1500), 1'500'000);
}

TEST(schedule, a_record_is_due_at_its_time_and_not_before) {
  for (const double rate : {0.1, 1.0, 7.0, 333.3, 20'000.0, 750'000.0, 10'000'000.0}) {
    const schedule plan(rate);
    for (const std::int64_t n : {0, 1, 2, 99, 12'345, 9'999'999}) {
      EXPECT_GE(plan.due(plan.due_us(n) + 1), n + 1) << rate << " " << n;
      EXPECT_LE(plan.due(plan.due_us(n) - 1), n + 1) << rate << " " << n;
      EXPECT_GE(plan.due_us(n + 1), plan.due_us(n));
    }
  }
}

TEST(schedule, keeps_its_rate_over_hours) {
  const schedule plan(3333);
  EXPECT_NEAR(static_cast<double>(plan.due(6LL * 3600 * 1'000'000)), 6.0 * 3600 * 3333, 2);
}

TEST(latency_histogram, is_empty_at_first) {
  const latency_histogram h;
  EXPECT_EQ(h.count(), 0U);
  EXPECT_EQ(h.quantile_ms(0.99), 0);
  EXPECT_EQ(h.max_ms(), 0);
}

TEST(latency_histogram, is_exact_where_it_is_small) {
  latency_histogram h;
  for (int us = 1; us <= 100; ++us) h.add(us);
  EXPECT_DOUBLE_EQ(h.quantile_ms(0.50), 0.050);
  EXPECT_DOUBLE_EQ(h.quantile_ms(0.95), 0.095);
  EXPECT_DOUBLE_EQ(h.quantile_ms(0.99), 0.099);
  EXPECT_DOUBLE_EQ(h.quantile_ms(1), 0.100);
  EXPECT_DOUBLE_EQ(h.quantile_ms(0), 0.001);
}

TEST(latency_histogram, rounds_a_rank_between_two_values_up) {
  latency_histogram h;
  for (const int us : {30, 10, 20}) h.add(us);
  EXPECT_DOUBLE_EQ(h.quantile_ms(0.33), 0.010);
  EXPECT_DOUBLE_EQ(h.quantile_ms(0.34), 0.020);
  EXPECT_DOUBLE_EQ(h.quantile_ms(0.50), 0.020);
  EXPECT_DOUBLE_EQ(h.quantile_ms(0.67), 0.030);
}

TEST(latency_histogram, one_value_is_every_quantile) {
  for (const std::int64_t us : {0LL, 255LL, 256LL, 257LL, 1'234'567LL, 3'600'000'000LL, (1LL << 62)}) {
    latency_histogram h;
    h.add(us);
    for (const double q : {0.0, 0.5, 0.99, 1.0})
      EXPECT_DOUBLE_EQ(h.quantile_ms(q), static_cast<double>(us) / 1000.0);
  }
}

TEST(latency_histogram, takes_a_clock_that_goes_back_as_no_time) {
  latency_histogram h;
  h.add(-5);
  EXPECT_EQ(h.quantile_ms(0.5), 0);
}

TEST(latency_histogram, agrees_with_sorting) {
  std::mt19937_64 random(11);
  std::lognormal_distribution<double> values(8, 2.5);  // microseconds to minutes
  latency_histogram h;
  std::vector<std::int64_t> all;
  for (int i = 0; i < 100'000; ++i) {
    all.push_back(static_cast<std::int64_t>(values(random)));
    h.add(all.back());
  }
  std::sort(all.begin(), all.end());
  for (const double q : {0.001, 0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0}) {
    const auto rank = static_cast<std::size_t>(std::ceil(q * 100'000)) - 1;
    const double exact = static_cast<double>(all[rank]) / 1000.0;
    EXPECT_GE(h.quantile_ms(q), exact) << q;
    EXPECT_LE(h.quantile_ms(q), exact * 1.008 + 0.001) << q;
  }
  EXPECT_DOUBLE_EQ(h.max_ms(), static_cast<double>(all.back()) / 1000.0);
}

}  // namespace
}  // namespace troupe::traffic
