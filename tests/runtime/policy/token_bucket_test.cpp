#include "runtime/policy/token_bucket.hpp"

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>

namespace troupe::policy {
namespace {

TEST(token_bucket, gives_the_burst_then_the_rate) {
  token_bucket b(10, 5);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(b.take(1000)) << i;
  EXPECT_FALSE(b.take(1000));
  EXPECT_EQ(b.wait(1000), 100 * millisecond);
  EXPECT_FALSE(b.take(1000 + 100 * millisecond - 1));
  EXPECT_TRUE(b.take(1000 + 100 * millisecond));
}

TEST(token_bucket, saves_up_no_more_than_the_burst) {
  token_bucket b(10, 5);
  ASSERT_TRUE(b.take(0, 5));
  EXPECT_EQ(b.available(3600 * second), 5);
  EXPECT_FALSE(b.take(3600 * second, 6));
  EXPECT_EQ(b.wait(3600 * second, 6), never);
}

TEST(token_bucket, a_refusal_takes_nothing_and_time_never_runs_backwards) {
  token_bucket b(1, 2);
  EXPECT_TRUE(b.take(10 * second, 1.5));
  EXPECT_FALSE(b.take(10 * second, 1));
  EXPECT_DOUBLE_EQ(b.available(10 * second), 0.5);
  EXPECT_FALSE(b.take(5 * second, 1));
  EXPECT_DOUBLE_EQ(b.available(10 * second + 500 * millisecond), 1.0);
}

TEST(token_bucket, rate_zero_is_a_fixed_budget) {
  token_bucket b(0, 1);
  EXPECT_TRUE(b.take(1));
  EXPECT_EQ(b.wait(2), never);
}

TEST(token_bucket, refuses_nonsense) {
  EXPECT_THROW(token_bucket(-1, 1), std::invalid_argument);
  EXPECT_THROW(token_bucket(1, 0), std::invalid_argument);
}

TEST(token_bucket, never_gives_more_than_burst_plus_rate_and_wait_is_true) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    std::mt19937_64 random(seed);
    const double rate = 1 + static_cast<double>(random() % 1000);
    const double burst = 1 + static_cast<double>(random() % 50);
    token_bucket b(rate, burst);
    double taken = 0;
    nanos now = 0;
    for (int i = 0; i < 2'000; ++i) {
      if (b.take(now)) {
        taken += 1;
      } else {
        const nanos wait = b.wait(now);
        ASSERT_GT(wait, 0);
        token_bucket later_on = b;
        ASSERT_TRUE(later_on.take(now + wait));
      }
      ASSERT_LE(taken, burst + rate * static_cast<double>(now) / 1e9 + 1e-6);
      now += static_cast<nanos>(random() % 10'000'000);
    }
  }
}

}  // namespace
}  // namespace troupe::policy
