#include "runtime/faults/fault_points.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/faults/fault_json.hpp"

namespace troupe::faults {
namespace {

constexpr nanos second = 1'000'000'000;

fault of(kind what, double probability = 1) {
  fault f;
  f.what = what;
  f.probability = probability;
  return f;
}

TEST(fault_points, nothing_strikes_where_nothing_is_active) {
  fault_points points;
  for (const auto& k : kinds()) EXPECT_FALSE(points.at(k.at));
  EXPECT_FALSE(points.next_end());
  EXPECT_EQ(points.wall_shift_ms(), 0);
}

TEST(fault_points, every_kind_strikes_at_its_point_and_ends_by_itself) {
  for (const auto& k : kinds()) {
    fault_points points;
    fault f = of(k.what);
    f.duration = 3 * second;
    const auto id = points.start(f, 10 * second);
    EXPECT_EQ(points.next_end(), 13 * second);
    for (const auto& other : kinds()) {
      const strike s = points.at(other.at);
      EXPECT_EQ(static_cast<bool>(s), other.at == k.at) << k.name << " at " << name_of(other.at);
      if (s) {
        EXPECT_EQ(s.id, id);
        EXPECT_EQ(s.what, k.what);
      }
    }
    EXPECT_TRUE(points.sweep(13 * second - 1).empty());
    EXPECT_EQ(points.totals_of(k.what).active, 1U);
    const auto strikes = points.totals_of(k.what).strikes;
    EXPECT_GT(strikes, 0U);
    const auto over = points.sweep(13 * second);
    ASSERT_EQ(over.size(), 1U);
    EXPECT_EQ(over[0].ended, "over");
    EXPECT_EQ(over[0].strikes, strikes);
    EXPECT_FALSE(points.at(k.at));
    EXPECT_EQ(points.totals_of(k.what).active, 0U);
    EXPECT_EQ(points.totals_of(k.what).strikes, strikes) << "what was counted stays";
    EXPECT_FALSE(points.next_end());
  }
}

TEST(fault_points, a_fault_of_a_model_leaves_the_others_alone) {
  fault_points points;
  fault f = of(kind::shard_fail);
  f.model = "churn";
  f.version = "3";
  points.start(f, 0);
  EXPECT_TRUE(points.at(point::score, "churn", "3"));
  EXPECT_FALSE(points.at(point::score, "churn", "4"));
  EXPECT_FALSE(points.at(point::score, "fraud", "3"));
  EXPECT_EQ(points.list().front().strikes, 1U);
}

TEST(fault_points, strikes_come_as_often_as_asked_and_the_same_with_the_same_seed) {
  std::vector<bool> first;
  for (int round = 0; round < 2; ++round) {
    fault_points points(7);
    points.start(of(kind::report_drop, 0.1), 0);
    std::vector<bool> seen;
    std::size_t hits = 0;
    for (int i = 0; i < 10'000; ++i) {
      seen.push_back(static_cast<bool>(points.at(point::produce)));
      hits += seen.back();
    }
    EXPECT_NEAR(static_cast<double>(hits), 1000, 100);
    EXPECT_EQ(points.totals_of(kind::report_drop).strikes, hits);
    if (round == 0) first = seen;
    EXPECT_EQ(first, seen);
  }
}

TEST(fault_points, one_that_is_stopped_is_told_once) {
  fault_points points;
  const auto id = points.start(of(kind::shard_delay), 5);
  EXPECT_EQ(points.end(id, 8)->until, 8);
  EXPECT_FALSE(points.end(id, 9));
  EXPECT_FALSE(points.active(id));
  ASSERT_EQ(points.list().size(), 1U);
  EXPECT_EQ(points.list()[0].ended, "stopped");
}

TEST(fault_points, the_clock_stands_off_only_meanwhile) {
  fault_points points;
  fault f = of(kind::clock_jump);
  f.shift = -90 * second;
  points.start(f, 0);
  EXPECT_EQ(points.wall_shift_ms(), -90'000);
  points.sweep(f.duration);
  EXPECT_EQ(points.wall_shift_ms(), 0);
}

TEST(fault_points, whoever_is_held_goes_on_when_the_fault_ends) {
  fault_points points;
  const auto id = points.start(of(kind::shard_hang), 0);
  std::thread held([&] { points.hold(id, -1); });
  points.end(id, 1);
  held.join();
  points.hold(id, -1);  // no longer there
  points.hold(points.start(of(kind::shard_delay), 0), 1'000);
}

TEST(fault_points, the_past_is_bounded) {
  fault_points points;
  for (int i = 0; i < 300; ++i) points.end(points.start(of(kind::redis_cut), i), i);
  EXPECT_EQ(points.list().size(), 100U);
  EXPECT_EQ(points.list().front().id, 300U);
}

TEST(fault_points, are_shown_as_json) {
  fault_points points;
  fault f = of(kind::shard_delay, 0.5);
  f.model = "churn";
  const auto id = points.start(f, 0);
  EXPECT_EQ(reports_json(points.list(), 10 * second),
            R"({"faults":[{"id":1,"fault":"shard_delay","state":"active","point":"score","model":"churn",)"
            R"("probability":0.5,"delay":"200ms","duration":"30s","remaining":"20s","strikes":0}]})");
  points.end(id, 12 * second);
  EXPECT_EQ(
      report_json(points.list()[0], 99 * second),
      R"({"id":1,"fault":"shard_delay","state":"ended","point":"score","model":"churn","probability":0.5,)"
      R"("delay":"200ms","duration":"30s","ended":"stopped","lasted":"12s","strikes":0})");
  EXPECT_EQ(in_words(f), "shard_delay (model churn, probability 0.5, delay 200ms)");
}

}  // namespace
}  // namespace troupe::faults
