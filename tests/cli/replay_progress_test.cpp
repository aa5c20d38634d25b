#include "cli/replay_progress.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace troupe::cli {
namespace {

TEST(ReplayProgress, KeepsWhatWasSentAboveWhatWasLeftOut) {
  replay_progress p;
  p.add(0, 3);
  EXPECT_EQ(p.next(), 3);
  EXPECT_EQ(p.text(), "");
  p.add(5, 6);
  p.add(6, 8);
  p.add(10, 11);
  EXPECT_EQ(p.next(), 3);
  EXPECT_EQ(p.text(), "r1:2+3,2+1");
  EXPECT_TRUE(p.has(2) && p.has(5) && p.has(7) && p.has(10));
  EXPECT_FALSE(p.has(3) || p.has(4) || p.has(8) || p.has(9) || p.has(11));
  const replay_progress again(p.next(), p.text());
  EXPECT_EQ(again.text(), p.text());
  p.add(3, 5);
  EXPECT_EQ(p.next(), 8);
  EXPECT_EQ(p.text(), "r1:2+1");
}

TEST(ReplayProgress, TextsOfOthersCountAsNone) {
  for (const char* text :
       {"", "x", "r1", "r1:", "r1:1", "r1:1+", "r1:+1", "r1:0+1", "r1:1+0", "r1:1+-1", "r1:1,1", "r1:1+1;1+1",
        "r1:9223372036854775807+1", "r1:1+9223372036854775807", "r2:1+1", "r1:99999999999999999999+1"}) {
    const replay_progress p(7, text);
    EXPECT_EQ(p.next(), 7) << text;
    EXPECT_EQ(p.ranges(), 0U) << text;
  }
  EXPECT_EQ(replay_progress(-1001, "").next(), 0);
}

TEST(ReplayProgress, AgreesWithASet) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    replay_progress p;
    std::set<std::int64_t> done;
    for (int i = 0; i < 60; ++i) {
      const std::int64_t first = static_cast<std::int64_t>(random() % 100);
      const std::int64_t end = first + static_cast<std::int64_t>(random() % 4);
      p.add(first, end);
      for (std::int64_t o = first; o < end; ++o) done.insert(o);
      const replay_progress read(p.next(), p.text());
      for (std::int64_t o = 0; o < 110; ++o) {
        ASSERT_EQ(p.has(o), done.contains(o)) << o;
        ASSERT_EQ(read.has(o), done.contains(o)) << o;
      }
      ASSERT_FALSE(done.contains(p.next()));
    }
  }
}

}  // namespace
}  // namespace troupe::cli
