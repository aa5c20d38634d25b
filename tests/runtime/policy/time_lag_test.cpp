#include "runtime/policy/time_lag.hpp"

#include <gtest/gtest.h>

namespace troupe::policy {
namespace {

constexpr std::int64_t now = 1'700'000'000'000;

TEST(TimeLag, IsTheAgeOfTheOldestRecordInWork) {
  time_lag lag;
  EXPECT_EQ(lag.seconds({now, now - 2'500, 10, 0}), 2.5);
  EXPECT_EQ(lag.seconds({now + 1'000, now - 2'500, 10, 100'000}), 3.5);
  EXPECT_EQ(lag.seconds({now, now - 60'000, 10, -1}), 60) << "how many wait behind it does not matter";
}

TEST(TimeLag, IsZeroWhenAllIsAnsweredAndUnknownBeforeAnythingIs) {
  time_lag lag;
  EXPECT_FALSE(lag.seconds({now, {}, 0, -1}));
  EXPECT_EQ(lag.seconds({now, {}, 0, 0}), 0);
  EXPECT_EQ(lag.seconds({now + 3'600'000, {}, 0, 0}), 0) << "an idle partition is not behind";
}

TEST(TimeLag, ATimestampInTheFutureIsNoLag) {
  time_lag lag;
  EXPECT_EQ(lag.seconds({now, now + 5'000, 1, 0}), 0);
}

TEST(TimeLag, UnreadRecordsCountFromWhenNothingWasReadAnyMore) {
  time_lag lag;
  EXPECT_EQ(lag.seconds({now, {}, 7, 3}), 0);
  EXPECT_EQ(lag.seconds({now + 4'000, {}, 7, 3}), 4);
  EXPECT_EQ(lag.seconds({now + 6'000, {}, 7, 90}), 6) << "more of them came meanwhile";
  EXPECT_EQ(lag.seconds({now + 7'000, {}, 8, 89}), 0) << "it reads again";
  EXPECT_EQ(lag.seconds({now + 8'000, {}, 97, 0}), 0);
  EXPECT_EQ(lag.seconds({now + 20'000, {}, 97, 1}), 0) << "a new wait";
  EXPECT_EQ(lag.seconds({now + 21'000, {}, 97, 1}), 1);
}

TEST(TimeLag, AWaitThatBeganInWorkGoesOnFromTheLastRead) {
  time_lag lag;
  EXPECT_EQ(lag.seconds({now, now - 9'000, 7, 3}), 9);
  EXPECT_EQ(lag.seconds({now + 1'000, {}, 7, 3}), 1) << "what was in work is answered, the rest is not read";
}

}  // namespace
}  // namespace troupe::policy
