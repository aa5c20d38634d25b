#include "runtime/policy/batch_sizer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>

namespace troupe::policy {
namespace {

nanos cost(double fixed, double per_row, std::size_t n) {
  return static_cast<nanos>(fixed + per_row * static_cast<double>(n));
}

TEST(batch_sizer, knows_nothing_at_first_and_starts_small) {
  const batch_sizer s;
  EXPECT_EQ(s.estimate(64), 0);
  EXPECT_EQ(s.max_rows(5 * millisecond, 1024), 16u);
  EXPECT_EQ(s.max_rows(5 * millisecond, 4), 4u);
  EXPECT_EQ(s.max_rows(0, 0), 1u);
}

TEST(batch_sizer, learns_the_line_from_batches_of_many_sizes) {
  struct row {
    double fixed, per_row;
  };
  for (const auto& truth : {row{100'000, 50'000}, row{5'000'000, 200'000}, row{2'000, 600}, row{0, 10'000}}) {
    std::mt19937_64 random(3);
    batch_sizer s;
    for (int i = 0; i < 500; ++i) {
      const std::size_t n = 1 + random() % 64;
      const double noise = 1 + 0.05 * static_cast<double>(random() % 100) / 100;
      s.observe(n, cost(truth.fixed * noise, truth.per_row * noise, n));
    }
    for (const std::size_t n : {8u, 32u, 64u}) {
      const auto expected = static_cast<double>(cost(truth.fixed, truth.per_row, n));
      EXPECT_NEAR(static_cast<double>(s.estimate(n)) / expected, 1.025, 0.08) << truth.fixed << " " << n;
    }
  }
}

TEST(batch_sizer, ignores_what_is_no_batch) {
  batch_sizer s;
  s.observe(0, 1000);
  s.observe(5, -1);
  EXPECT_EQ(s.observed(), 0u);
}

TEST(batch_sizer, a_stall_hardly_moves_the_estimate) {
  batch_sizer s;
  for (int i = 0; i < 200; ++i)
    s.observe(static_cast<std::size_t>(1 + i % 64),
              cost(100'000, 50'000, static_cast<std::size_t>(1 + i % 64)));
  const nanos before = s.estimate(64);
  s.observe(10, 2 * second);
  EXPECT_LT(s.estimate(64), before * 5 / 4);
  for (int i = 0; i < 100; ++i)
    s.observe(static_cast<std::size_t>(1 + i % 64),
              cost(100'000, 50'000, static_cast<std::size_t>(1 + i % 64)));
  EXPECT_NEAR(static_cast<double>(s.estimate(64)), static_cast<double>(before),
              0.03 * static_cast<double>(before));
}

TEST(batch_sizer, follows_a_lasting_change_even_with_one_size) {
  batch_sizer s;
  for (std::size_t n = 1; n <= 64; ++n) s.observe(n, cost(100'000, 50'000, n));
  for (int i = 0; i < 100; ++i) s.observe(64, cost(100'000, 50'000, 64));
  for (int i = 0; i < 200; ++i) s.observe(64, cost(1'000'000, 500'000, 64));
  const auto now = static_cast<double>(cost(1'000'000, 500'000, 64));
  EXPECT_NEAR(static_cast<double>(s.estimate(64)), now, 0.02 * now);
  EXPECT_LT(s.max_rows(millisecond, 1024), 64u);
}

TEST(batch_sizer, batches_stay_within_the_budget) {
  batch_sizer s;
  for (std::size_t n = 1; n <= 64; ++n) s.observe(n, cost(100'000, 50'000, n));
  for (const nanos budget : {200 * microsecond, millisecond, 3 * millisecond, 10 * millisecond}) {
    const std::size_t n = s.max_rows(budget, 1024);
    EXPECT_LE(s.estimate(n), budget);
    if (n < 4 * 64) {
      EXPECT_GT(s.estimate(n + 1), budget);
    }
  }
  EXPECT_EQ(s.max_rows(never, 1024), 256u) << "four times the largest seen";
  EXPECT_EQ(s.max_rows(never, 100), 100u) << "the hard cap";
  EXPECT_EQ(s.max_rows(120 * microsecond, 1024), 1u) << "a row does not fit, but one runs";
}

TEST(batch_sizer, a_fixed_cost_over_the_budget_does_not_mean_single_rows) {
  batch_sizer s;
  for (std::size_t n = 1; n <= 64; ++n) s.observe(n, cost(5'000'000, 200'000, n));
  const std::size_t n = s.max_rows(3 * millisecond, 1024);
  EXPECT_GE(n, 20u);
  EXPECT_LE(n, 30u) << "the fixed cost is half of the batch";
}

TEST(batch_sizer, finds_out_from_single_rows_that_more_are_cheap) {
  batch_sizer s;
  std::size_t n = 1;
  for (int i = 0; i < 50; ++i) {
    s.observe(n, cost(5'000'000, 20'000, n));
    n = s.max_rows(3 * millisecond, 1024);
  }
  EXPECT_GE(n, 150u);
}

TEST(batch_sizer, one_dear_batch_is_followed_by_at_most_twice_as_many_rows) {
  batch_sizer s;
  s.observe(16, 80 * millisecond);  // 5 ms a row, but that is not known yet
  EXPECT_LE(s.max_rows(3 * millisecond, 1024), 32u);
  s.observe(32, 160 * millisecond);
  EXPECT_LE(s.max_rows(3 * millisecond, 1024), 4u);
}

TEST(batch_sizer, parts_are_never_negative) {
  std::mt19937_64 random(11);
  batch_sizer s;
  for (int i = 0; i < 5'000; ++i) {
    s.observe(1 + random() % 512, static_cast<nanos>(random() % 10'000'000));
    ASSERT_GE(s.fixed(), -1e-6);
    ASSERT_GE(s.per_row(), 0);
    ASSERT_TRUE(std::isfinite(s.fixed()) && std::isfinite(s.per_row()));
    ASSERT_GE(s.max_rows(static_cast<nanos>(random() % 1'000'000), 1024), 1u);
  }
}

}  // namespace
}  // namespace troupe::policy
