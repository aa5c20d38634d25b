#include "runtime/policy/transaction_pace.hpp"

#include <gtest/gtest.h>

namespace troupe::policy {
namespace {

TEST(transaction_pace, the_first_is_due_at_once) {
  const transaction_pace pace(1'000);
  EXPECT_EQ(pace.due(5 * second, 1), 5 * second);
}

TEST(transaction_pace, the_next_waits_as_long_as_commits_take) {
  transaction_pace pace(1'000);
  pace.committed(1'000 * millisecond, 1'020 * millisecond);
  EXPECT_EQ(pace.due(1'021 * millisecond, 1), 1'040 * millisecond);
  EXPECT_EQ(pace.due(1'041 * millisecond, 1), 1'041 * millisecond) << "after a silence";
}

TEST(transaction_pace, a_full_one_does_not_wait) {
  transaction_pace pace(1'000);
  pace.committed(1'000 * millisecond, 1'020 * millisecond);
  EXPECT_EQ(pace.due(1'021 * millisecond, 999), 1'040 * millisecond);
  EXPECT_EQ(pace.due(1'021 * millisecond, 1'000), 1'021 * millisecond);
  EXPECT_EQ(pace.room(999), 1u);
  EXPECT_EQ(pace.room(1'000), 0u);
  EXPECT_EQ(pace.room(1'001), 0u);
}

TEST(transaction_pace, the_next_is_opened_when_the_markers_of_the_last_are_written) {
  transaction_pace pace(1'000);
  EXPECT_EQ(pace.opens(5 * second, 1), 5 * second);
  pace.committed(1'000 * millisecond, 1'020 * millisecond);
  EXPECT_EQ(pace.opens(1'021 * millisecond, 999), 1'035 * millisecond);
  EXPECT_EQ(pace.opens(1'021 * millisecond, 1'000), 1'021 * millisecond) << "it is full already";
  EXPECT_EQ(pace.opens(1'036 * millisecond, 1), 1'036 * millisecond);
  pace.committed(2 * second, 12 * second);
  EXPECT_EQ(pace.opens(12 * second, 1), 12'020 * millisecond) << "asking too early costs no more than that";
}

TEST(transaction_pace, one_slow_commit_does_not_hold_up_for_long) {
  transaction_pace pace(1'000, 100 * millisecond);
  pace.committed(0, 20 * second);
  EXPECT_EQ(pace.due(20 * second, 1), 20 * second + 100 * millisecond);
}

TEST(transaction_pace, the_pause_follows_what_commits_take_by_and_by) {
  transaction_pace pace(1'000);
  nanos now = 0;
  for (int i = 0; i < 50; ++i) {
    pace.committed(now, now + 10 * millisecond);
    now += 100 * millisecond;
  }
  EXPECT_EQ(pace.typical(), 10 * millisecond);
  pace.committed(now, now + 90 * millisecond);
  EXPECT_EQ(pace.typical(), 20 * millisecond);
}

}  // namespace
}  // namespace troupe::policy
