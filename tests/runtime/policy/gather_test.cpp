#include "runtime/policy/gather.hpp"

#include <gtest/gtest.h>

namespace troupe::policy {
namespace {

/// `rate` records/s for two seconds, `at_once` together.
gather fed(double rate, std::size_t at_once = 1, nanos min = 0, nanos max = 10 * millisecond) {
  gather g(min, max);
  const auto gap = static_cast<nanos>(1e9 * static_cast<double>(at_once) / rate);
  for (nanos now = gap; now <= 2 * second; now += gap) g.observe(now, at_once);
  return g;
}

TEST(gather, follows_the_rate) {
  struct row {
    double rate;
    nanos least, most;
  };
  for (const auto& r :
       {row{100, 0, 0}, row{1'000, 0, 0}, row{2'800, 0, 0}, row{5'000, 110 * microsecond, 150 * microsecond},
        row{20'000, microsecond * 1'030, microsecond * 1'130},
        row{81'500, microsecond * 4'900, microsecond * 5'100},
        row{170'000, 10 * millisecond, 10 * millisecond}, row{500'000, 10 * millisecond, 10 * millisecond}}) {
    const nanos hold = fed(r.rate).hold();
    EXPECT_GE(hold, r.least) << r.rate;
    EXPECT_LE(hold, r.most) << r.rate;
  }
}

TEST(gather, the_same_rate_in_batches_is_the_same_rate) {
  EXPECT_NEAR(fed(50'000, 500).rate(2 * second), 50'000, 3'000);
  EXPECT_EQ(fed(180'000, 500).hold(), 10 * millisecond);
  EXPECT_EQ(fed(500, 20).hold(), 0);
}

TEST(gather, starts_without_a_hold_and_loses_it_in_silence) {
  gather g;
  EXPECT_EQ(g.hold(), 0);
  EXPECT_FALSE(g.busy_at(0));
  g = fed(200'000);
  EXPECT_EQ(g.hold(2 * second), 10 * millisecond);
  EXPECT_TRUE(g.busy_at(2 * second));
  EXPECT_EQ(g.hold(3 * second), 0);
  EXPECT_FALSE(g.busy_at(3 * second));
  g.observe(3 * second, 1);
  EXPECT_EQ(g.hold(), 0);
}

TEST(gather, is_busy_from_a_quarter_of_the_way_on) {
  EXPECT_FALSE(fed(20'000).busy_at(2 * second));
  EXPECT_FALSE(fed(39'000).busy_at(2 * second));
  EXPECT_TRUE(fed(46'000).busy_at(2 * second));
  EXPECT_FALSE(fed(500'000, 1, 0, 0).busy_at(2 * second)) << "nothing is to gather";
  EXPECT_FALSE(fed(1'000, 1, 5 * millisecond, 5 * millisecond).busy_at(2 * second)) << "a fixed hold is held";
}

TEST(gather, keeps_within_its_bounds) {
  EXPECT_EQ(fed(100, 1, millisecond, 20 * millisecond).hold(), millisecond);
  EXPECT_EQ(fed(200'000, 1, millisecond, 20 * millisecond).hold(), 20 * millisecond);
  EXPECT_EQ(fed(200'000, 1, 0, 0).hold(), 0);
  EXPECT_EQ(fed(200'000, 1, 3 * millisecond, millisecond).hold(), 3 * millisecond) << "max below min is min";
}

TEST(gather, a_clock_that_stands_still_or_goes_back_only_adds) {
  gather g;
  g.observe(second, 10);
  g.observe(second, 10);
  g.observe(second / 2, 10);
  EXPECT_DOUBLE_EQ(g.rate(second), 150);
}

}  // namespace
}  // namespace troupe::policy
