#include "runtime/traffic/run.hpp"

#include <gtest/gtest.h>

namespace troupe::traffic {
namespace {

TEST(pacer, open_loop_allows_what_is_due_until_the_time_is_over) {
  plan p;
  p.rate = 1000;
  p.seconds = 2;
  pacer pace(p);
  EXPECT_EQ(pace.allowed(0, 0, false), 1);
  EXPECT_EQ(pace.allowed(1'000'000, 1, false), 1001);
  EXPECT_FALSE(pace.ended());
  EXPECT_EQ(pace.due(1000, 1'700'000), 1'000'000);
  EXPECT_EQ(pace.pause(1001, 1'000'400, 20'000), 600);
  // A generator that was held up still owes what was due, and no more.
  EXPECT_EQ(pace.allowed(9'000'000, 1500, false), 2000);
  EXPECT_TRUE(pace.ended());
  EXPECT_EQ(pace.allowed(20'000'000, 2000, false), 2000);
}

TEST(pacer, ends_with_the_last_request) {
  plan p;
  p.rate = 1000;
  p.requests = 10;
  pacer pace(p);
  EXPECT_EQ(pace.allowed(1'000'000, 9, false), 10);
  EXPECT_FALSE(pace.ended());
  EXPECT_EQ(pace.allowed(1'000'000, 10, false), 10);
  EXPECT_TRUE(pace.ended());
}

TEST(pacer, closed_loop_sends_what_it_can_until_it_is_stopped) {
  pacer pace{plan{}};
  EXPECT_FALSE(pace.open_loop());
  EXPECT_GT(pace.allowed(5, 1'000'000, false), 1'000'000);
  EXPECT_EQ(pace.due(3, 77), 77);
  EXPECT_EQ(pace.allowed(6, 1'000'000, true), 1'000'000);
  EXPECT_TRUE(pace.ended());
}

TEST(tally, counts_latency_from_when_a_request_was_due) {
  plan p;
  p.target_ms = 10;
  tally t(p);
  for (const std::int64_t due : {0, 1000, 2000, 3000}) t.sent(due);
  t.predicted(0, 5000);
  t.predicted(1000, 11'000);
  t.predicted(2000, 12'001);
  t.failed(3000, 13'000, "503", "too\nmuch");
  EXPECT_EQ(t.out(), 0);
  const report r = t.finish(false);
  EXPECT_EQ(r.sent, 4);
  EXPECT_EQ(r.predicted, 3);
  EXPECT_EQ(r.errors, 1);
  EXPECT_EQ(r.error_codes.at("503"), 1);
  EXPECT_EQ(r.error_examples.at("503"), "too much");
  EXPECT_EQ(r.in_time, 2);
  EXPECT_NEAR(r.max_ms, 10.001, 1e-9);
  EXPECT_NEAR(r.p50_ms, 10, 0.08);
  EXPECT_NEAR(r.duration_s, 0.013, 1e-9);
  EXPECT_NEAR(r.longest_gap_ms, 6, 1e-9);
}

TEST(tally, does_not_count_the_warm_up) {
  plan p;
  p.warmup = 1;
  p.interval = 0.5;
  tally t(p);
  for (const std::int64_t due : {0, 999'999, 1'000'000, 1'600'000, 1'700'000}) t.sent(due);
  t.predicted(0, 900'000);
  t.failed(999'999, 1'000'001, "500", "");
  t.predicted(1'000'000, 1'001'000);
  t.predicted(1'600'000, 1'602'000);
  t.lost(1'700'000);
  const report r = t.finish(true);
  EXPECT_EQ(t.all_sent(), 5);
  EXPECT_EQ(r.sent, 3);
  EXPECT_EQ(r.predicted, 2);
  EXPECT_EQ(r.errors, 0);
  EXPECT_EQ(r.lost, 1);
  ASSERT_EQ(r.intervals.size(), 2U);
  EXPECT_EQ(r.intervals[0].predicted, 1);
  EXPECT_NEAR(r.intervals[1].max_ms, 2, 1e-9);
  EXPECT_NEAR(r.intervals[1].from_s, 0.5, 1e-9);
  EXPECT_TRUE(r.stopped);
}

TEST(tally, keeps_so_many_codes_and_no_more) {
  tally t{plan{}};
  for (int i = 0; i < 1000; ++i) {
    t.sent(i);
    t.failed(i, i, std::to_string(i), "x");
  }
  const report r = t.finish(false);
  EXPECT_EQ(r.errors, 1000);
  EXPECT_LE(r.error_codes.size(), 101U);
  std::int64_t all = 0;
  for (const auto& [code, n] : r.error_codes) all += n;
  EXPECT_EQ(all, 1000);
}

TEST(printable, keeps_what_is_said_short_and_off_the_terminals_controls) {
  EXPECT_EQ(printable("a\x1b[31mb\n"), "a [31mb ");
  EXPECT_EQ(printable(std::string(1000, 'x')).size(), 300U);
}

}  // namespace
}  // namespace troupe::traffic
