#include "runtime/policy/sla_queue.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <stdexcept>

namespace troupe::policy {
namespace {

std::vector<class_config> three_classes() {
  return {{"interactive", 100 * millisecond, 1'000, false, 0},
          {"standard", second, 1'000, false, 0},
          {"bulk", 60 * second, 1'000, false, 0}};
}

/// A machine that takes a microsecond a row; it has seen large batches.
batch_sizer sizer_of(nanos fixed = 0, nanos per_row = microsecond) {
  batch_sizer s;
  for (int i = 0; i < 100; ++i)
    for (std::size_t n = 1; n <= 1024; n *= 4) s.observe(n, fixed + per_row * static_cast<nanos>(n));
  return s;
}

using tags = std::vector<std::uint32_t>;

struct fixture {
  explicit fixture(std::vector<class_config> classes = three_classes(), double late_floor = 0)
      : queue(std::move(classes), late_floor) {
    queue.add_model();
  }

  bool push(std::uint32_t tag, std::size_t cls, nanos target, nanos expiry = never, nanos arrival = 0,
            std::uint32_t weight = 1, std::size_t model = 0) {
    return queue.push(model, cls, {nullptr, tag, weight, arrival, target, expiry});
  }

  tags take(nanos now, std::size_t max_rows = 1024, std::size_t model = 0) {
    std::vector<sla_item> batch;
    ended.clear();
    queue.take(model, now, sizer, {max_rows, 5 * millisecond}, batch, ended);
    tags out;
    for (const auto& i : batch) out.push_back(i.tag);
    return out;
  }

  sla_queue queue;
  batch_sizer sizer = sizer_of();
  std::vector<sla_queue::ended_item> ended;
};

TEST(sla_queue, refuses_classes_that_make_no_sense) {
  EXPECT_THROW(sla_queue({}), std::invalid_argument);
  EXPECT_THROW(sla_queue({{"a", 0, 1, false, 0}}), std::invalid_argument);
  EXPECT_THROW(sla_queue({{"a", 1, 1, false, 1.5}}), std::invalid_argument);
  EXPECT_THROW(sla_queue(three_classes(), -0.1), std::invalid_argument);
}

TEST(sla_queue, class_order_then_earliest_target) {
  fixture f;
  ASSERT_TRUE(f.push(1, 2, 50 * second));
  ASSERT_TRUE(f.push(2, 1, 900 * millisecond));
  ASSERT_TRUE(f.push(3, 0, 90 * millisecond));
  ASSERT_TRUE(f.push(4, 1, 800 * millisecond));
  ASSERT_TRUE(f.push(5, 0, 95 * millisecond));
  EXPECT_EQ(f.take(0, 4), (tags{3, 5, 4, 2}));
  EXPECT_EQ(f.take(0, 4), (tags{1}));
  EXPECT_EQ(f.take(0, 4), (tags{}));
  EXPECT_TRUE(f.queue.empty());
}

TEST(sla_queue, late_rows_yield_to_every_row_that_can_still_make_it) {
  fixture f;
  ASSERT_TRUE(f.push(1, 0, 10 * millisecond));
  ASSERT_TRUE(f.push(2, 1, 20 * millisecond));
  ASSERT_TRUE(f.push(3, 2, 60 * second));
  ASSERT_TRUE(f.push(4, 0, 300 * millisecond));
  EXPECT_EQ(f.take(200 * millisecond, 2), (tags{4, 3}));
  EXPECT_EQ(f.queue.stats(0).late, 1u);
  EXPECT_EQ(f.queue.stats(1).late, 1u);
  EXPECT_EQ(f.take(200 * millisecond, 2), (tags{1, 2})) << "then late ones in class order";
  EXPECT_EQ(f.queue.stats(0).late, 0u);
  EXPECT_EQ(f.queue.stats(0).turned_late, 1u);
  EXPECT_TRUE(f.ended.empty());
}

TEST(sla_queue, a_row_is_late_when_its_batch_would_end_after_its_target) {
  // One row: 1,000 us, and an eighth of it as margin.
  for (const auto& [target, late] :
       {std::pair<nanos, bool>{1'125 * microsecond, false}, {1'120 * microsecond, true}}) {
    fixture f;
    f.sizer = sizer_of(0, millisecond);
    const nanos exact = f.sizer.estimate(1) + f.sizer.estimate(1) / 8;
    ASSERT_NEAR(static_cast<double>(exact), 1'125e3, 2e3);
    ASSERT_TRUE(f.push(1, 0, target == 1'125 * microsecond ? exact : exact - 1));
    EXPECT_EQ(f.take(0), (tags{1}));
    EXPECT_EQ(f.queue.stats(0).turned_late, late ? 1u : 0u);
  }
}

TEST(sla_queue, expired_rows_end_and_are_not_scored) {
  fixture f;
  ASSERT_TRUE(f.push(1, 0, 10, 20));
  ASSERT_TRUE(f.push(2, 0, 90 * millisecond, 100 * millisecond));
  EXPECT_EQ(f.take(20), (tags{2}));
  ASSERT_EQ(f.ended.size(), 1u);
  EXPECT_EQ(f.ended[0].item.tag, 1u);
  EXPECT_TRUE(f.ended[0].expired);
  EXPECT_EQ(f.ended[0].cls, 0u);
  EXPECT_EQ(f.queue.stats(0).expired, 1u);
}

TEST(sla_queue, one_nanosecond_before_its_expiry_a_row_is_scored) {
  fixture f;
  ASSERT_TRUE(f.push(1, 0, 10, 20));
  EXPECT_EQ(f.take(19), (tags{1}));
  EXPECT_TRUE(f.ended.empty());
}

TEST(sla_queue, an_expiry_before_the_target_orders_the_row) {
  fixture f;
  ASSERT_TRUE(f.push(1, 1, 900 * millisecond));
  ASSERT_TRUE(f.push(2, 1, 950 * millisecond, 100 * millisecond));
  EXPECT_EQ(f.take(0), (tags{2, 1}));
}

TEST(sla_queue, a_late_row_that_expires_while_it_waits_ends) {
  fixture f;
  ASSERT_TRUE(f.push(1, 1, 100 * millisecond, 500 * millisecond));
  ASSERT_TRUE(f.push(2, 0, second));
  EXPECT_EQ(f.take(300 * millisecond, 1), (tags{2}));
  EXPECT_EQ(f.queue.stats(1).late, 1u);
  EXPECT_EQ(f.take(500 * millisecond, 1), (tags{}));
  ASSERT_EQ(f.ended.size(), 1u);
  EXPECT_TRUE(f.ended[0].expired);
  EXPECT_EQ(f.queue.stats(1).late, 0u);
  EXPECT_TRUE(f.queue.empty());
}

TEST(sla_queue, a_class_that_sheds_ends_late_rows) {
  auto classes = three_classes();
  classes[0].shed_late = true;
  fixture f(classes);
  ASSERT_TRUE(f.push(1, 0, 10 * millisecond));
  ASSERT_TRUE(f.push(2, 1, 10 * millisecond));
  EXPECT_EQ(f.take(20 * millisecond), (tags{2}));
  ASSERT_EQ(f.ended.size(), 1u);
  EXPECT_EQ(f.ended[0].item.tag, 1u);
  EXPECT_FALSE(f.ended[0].expired);
  EXPECT_EQ(f.queue.stats(0).shed, 1u);
}

TEST(sla_queue, a_class_that_sheds_still_tells_expired_from_shed) {
  auto classes = three_classes();
  classes[0].shed_late = true;
  for (const auto& [now, expired] : {std::pair<nanos, bool>{19, false}, {20, true}}) {
    fixture f(classes);
    ASSERT_TRUE(f.push(1, 0, 10, 20));
    EXPECT_EQ(f.take(now), (tags{}));
    ASSERT_EQ(f.ended.size(), 1u);
    EXPECT_EQ(f.ended[0].expired, expired) << now;
  }
}

TEST(sla_queue, shed_rows_reach_the_caller_when_nothing_else_waits) {
  auto classes = three_classes();
  classes[0].shed_late = true;
  fixture f(classes);
  ASSERT_TRUE(f.push(1, 0, 10));
  EXPECT_EQ(f.queue.next_model(second, {true}), 0u);
  EXPECT_EQ(f.take(second), (tags{}));
  EXPECT_EQ(f.ended.size(), 1u);
  EXPECT_EQ(f.queue.next_model(second, {true}), std::nullopt);
}

TEST(sla_queue, the_limit_is_a_class_over_all_models_and_requeue_ignores_it) {
  auto classes = three_classes();
  classes[1].limit = 3;
  fixture f(classes);
  f.queue.add_model();
  EXPECT_TRUE(f.push(1, 1, second));
  EXPECT_TRUE(f.push(2, 1, second, never, 0, 1, 1));
  EXPECT_TRUE(f.push(3, 1, second, never, 0, 500));
  EXPECT_FALSE(f.push(4, 1, second)) << "requests count, not rows";
  EXPECT_TRUE(f.push(5, 0, second)) << "another class";
  EXPECT_EQ(f.queue.depth(1), 3u);
  EXPECT_EQ(f.queue.stats(1).refused, 1u);
  EXPECT_EQ(f.queue.stats(1).rows, 502u);
  f.queue.requeue(0, 1, {nullptr, 6, 1, 0, 500 * millisecond, never});
  EXPECT_EQ(f.queue.depth(1), 4u);
  EXPECT_EQ(f.take(0), (tags{5, 6, 1, 3})) << "requeued rows go by their target";
  EXPECT_EQ(f.queue.depth(0, 1), 0u);
  EXPECT_EQ(f.queue.depth(1, 1), 1u);
  EXPECT_TRUE(f.push(7, 1, second));
}

TEST(sla_queue, weights_count_as_rows_and_a_giant_goes_alone) {
  fixture f;
  ASSERT_TRUE(f.push(1, 0, 50 * millisecond, never, 0, 6));
  ASSERT_TRUE(f.push(2, 0, 60 * millisecond, never, 0, 4));
  ASSERT_TRUE(f.push(3, 0, 70 * millisecond, never, 0, 1));
  ASSERT_TRUE(f.push(4, 0, 80 * millisecond, never, 0, 500));
  ASSERT_TRUE(f.push(5, 0, 90 * millisecond, never, 0, 1));
  EXPECT_EQ(f.take(0, 10), (tags{1, 2}));
  EXPECT_EQ(f.take(0, 10), (tags{3}));
  EXPECT_EQ(f.take(0, 10), (tags{4}));
  EXPECT_EQ(f.take(0, 10), (tags{5}));
}

TEST(sla_queue, batches_keep_within_the_share_of_the_tightest_target) {
  fixture f;
  f.sizer = sizer_of(0, 100 * microsecond);
  for (std::uint32_t i = 0; i < 200; ++i) ASSERT_TRUE(f.push(i, 2, 60 * second + i));
  EXPECT_NEAR(static_cast<double>(f.take(0).size()), 50, 1) << "max_batch_time: 5 ms";
  auto tight = three_classes();
  tight[0].target = 50 * millisecond;
  fixture g(tight);
  g.sizer = f.sizer;
  ASSERT_TRUE(g.push(999, 0, 50 * millisecond));
  for (std::uint32_t i = 0; i < 200; ++i) ASSERT_TRUE(g.push(i, 2, 60 * second + i));
  EXPECT_NEAR(static_cast<double>(g.take(0).size()), 40, 1) << "8% of 50 ms";
}

TEST(sla_queue, the_model_with_the_most_urgent_row_runs_next) {
  fixture f;
  f.queue.add_model();
  f.queue.add_model();
  ASSERT_TRUE(f.push(1, 2, 50 * second, never, 0, 1, 0));
  ASSERT_TRUE(f.push(2, 1, 900 * millisecond, never, 0, 1, 1));
  ASSERT_TRUE(f.push(3, 1, 800 * millisecond, never, 0, 1, 2));
  EXPECT_EQ(f.queue.next_model(0, {true, true, true}), 2u);
  EXPECT_EQ(f.queue.next_model(0, {true, true, false}), 1u);
  EXPECT_EQ(f.queue.next_model(0, {true, false, false}), 0u);
  EXPECT_EQ(f.queue.next_model(0, {false, false, false}), std::nullopt);
  EXPECT_EQ(f.queue.next_model(0, {}), std::nullopt);
  EXPECT_EQ(f.queue.next_model(2 * second, {true, true, true}), 0u)
      << "bulk can make it, the others are late";
  EXPECT_EQ(f.queue.next_model(120 * second, {true, true, true}), 2u)
      << "all late: class order, earliest target";
}

TEST(sla_queue, what_is_more_urgent_than_what_waits_may_go_beside_it) {
  fixture f;
  f.queue.add_model();
  const auto next = [&](nanos now, const std::vector<bool>& runnable = {true, true}) {
    const auto u = f.queue.next_urgent(now, runnable);
    return u ? std::pair(static_cast<int>(u->model), static_cast<int>(u->classes)) : std::pair(-1, 0);
  };
  using pair = std::pair<int, int>;
  EXPECT_EQ(next(0), pair(-1, 0)) << "nothing waits";
  ASSERT_TRUE(f.push(1, 1, 900 * millisecond, never, 0, 1, 0));
  EXPECT_EQ(next(0), pair(-1, 0)) << "nothing less urgent waits";
  ASSERT_TRUE(f.push(2, 2, 50 * second, never, 0, 1, 1));
  EXPECT_EQ(next(0), pair(0, 2)) << "bulk of another model waits";
  EXPECT_EQ(next(0, {false, true}), pair(-1, 0)) << "bulk itself is not urgent";
  EXPECT_EQ(next(0, {}), pair(-1, 0));
  ASSERT_TRUE(f.push(3, 0, 90 * millisecond, never, 0, 1, 1));
  EXPECT_EQ(next(0), pair(1, 2)) << "class order";
  EXPECT_EQ(next(0, {true, false}), pair(0, 2));
  ASSERT_TRUE(f.push(4, 0, 80 * millisecond, never, 0, 1, 0));
  EXPECT_EQ(next(0), pair(0, 2)) << "earliest target";
  EXPECT_EQ(next(100 * millisecond), pair(0, 2)) << "only the standard row can make it";
  EXPECT_EQ(next(2 * second), pair(-1, 0)) << "late rows are not urgent";
}

TEST(sla_queue, a_batch_of_the_first_classes_leaves_the_others_and_late_rows) {
  fixture f({{"interactive", 100 * millisecond, 100, false, 0},
             {"standard", second, 100, false, 0},
             {"bulk", minute, 100, false, 0.5}});
  ASSERT_TRUE(f.push(1, 2, 50 * second));
  ASSERT_TRUE(f.push(2, 1, 30 * second));
  ASSERT_TRUE(f.push(3, 0, 29 * second, never, 29 * second));
  ASSERT_TRUE(f.push(4, 0, 1 * second));
  const auto take = [&](std::size_t classes) {
    std::vector<sla_item> batch;
    f.queue.take(0, 28 * second, f.sizer, {1024, 5 * millisecond, classes}, batch, f.ended);
    tags out;
    for (const auto& i : batch) out.push_back(i.tag);
    return out;
  };
  EXPECT_EQ(take(1), (tags{3}));
  EXPECT_EQ(take(1), (tags{}));
  EXPECT_EQ(take(2), (tags{2})) << "and no credit of bulk's floor";
  EXPECT_EQ(take(3), (tags{1, 4}));
  EXPECT_TRUE(f.queue.empty());
}

TEST(sla_queue, a_removed_model_hands_back_what_waited) {
  fixture f;
  f.queue.add_model();
  ASSERT_TRUE(f.push(1, 2, 60 * second));
  ASSERT_TRUE(f.push(2, 0, 10));
  ASSERT_TRUE(f.push(3, 0, second, never, 0, 1, 1));
  EXPECT_EQ(f.queue.next_model(second / 2, {true, true}), 1u);  // row 2 turns late
  std::vector<sla_item> left;
  f.queue.remove_model(0, left);
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(left[0].tag, 2u);
  EXPECT_EQ(left[1].tag, 1u);
  EXPECT_EQ(f.queue.size(), 1u);
  EXPECT_EQ(f.queue.stats(0).late, 0u);
  EXPECT_EQ(f.queue.oldest_arrival(2), std::nullopt);
  EXPECT_EQ(f.queue.next_model(0, {true, true}), 1u);
  EXPECT_EQ(f.queue.add_model(), 2u) << "indexes are not used twice";
  EXPECT_THROW(f.queue.requeue(0, 0, {}), std::out_of_range);
}

TEST(sla_queue, end_overdue_reaches_models_that_do_not_run) {
  auto classes = three_classes();
  classes[1].shed_late = true;
  fixture f(classes);
  ASSERT_TRUE(f.push(1, 0, 10, 1'000));
  ASSERT_TRUE(f.push(2, 0, 20, 500));
  ASSERT_TRUE(f.push(3, 0, 30));
  ASSERT_TRUE(f.push(4, 1, 40));
  std::vector<sla_queue::ended_item> ended;
  f.queue.end_overdue(100, ended);
  ASSERT_EQ(ended.size(), 1u) << "shed";
  EXPECT_EQ(ended[0].item.tag, 4u);
  ended.clear();
  f.queue.end_overdue(500, ended);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].item.tag, 2u) << "behind the head of the late rows";
  ended.clear();
  f.queue.end_overdue(1'000, ended);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].item.tag, 1u);
  EXPECT_EQ(f.queue.size(), 1u);
  EXPECT_EQ(f.queue.stats(0).late, 1u);
}

TEST(sla_queue, the_oldest_arrival_includes_late_rows) {
  fixture f;
  EXPECT_EQ(f.queue.oldest_arrival(0), std::nullopt);
  ASSERT_TRUE(f.push(1, 0, 10, never, 5));
  ASSERT_TRUE(f.push(2, 0, second, never, 8));
  (void)f.queue.next_model(100, {true});
  EXPECT_EQ(f.queue.oldest_arrival(0), 5);
}

TEST(sla_queue, the_wait_is_the_work_of_the_class_and_those_above) {
  fixture f;
  EXPECT_EQ(f.queue.estimate_wait(2, 1), 0);
  ASSERT_TRUE(f.push(0, 0, second));
  EXPECT_EQ(f.take(0).size(), 1u);  // what a row costs is known from the last batch
  for (std::uint32_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(f.push(i, 0, second));
    ASSERT_TRUE(f.push(i, 1, second));
  }
  EXPECT_NEAR(static_cast<double>(f.queue.estimate_wait(0, 1)), 100e3, 5e3);
  EXPECT_NEAR(static_cast<double>(f.queue.estimate_wait(1, 1)), 200e3, 10e3);
  EXPECT_NEAR(static_cast<double>(f.queue.estimate_wait(2, 4)), 50e3, 3e3);
}

/// Rows of each class that a saturated queue grants in `batches` batches of 20 rows; `interactive` rows never
/// run out.
std::size_t bulk_granted(double floor, nanos age, int batches) {
  auto classes = three_classes();
  classes[2].floor = floor;
  fixture f(classes);
  for (std::uint32_t i = 0; i < 900; ++i) (void)f.push(2, 2, 60 * second, never, 0);
  std::size_t bulk = 0;
  for (int b = 0; b < batches; ++b) {
    while (f.queue.depth(0) < 40) (void)f.push(0, 0, age + 10 * second);
    EXPECT_EQ(f.queue.next_model(age, {true}), 0u);
    for (const auto tag : f.take(age, 20)) bulk += tag == 2;
  }
  return bulk;
}

TEST(sla_queue, a_floor_grants_its_share_once_its_head_is_old) {
  EXPECT_EQ(bulk_granted(0.05, 20 * second, 500), 0u) << "exactly a third of the target is not older";
  EXPECT_NEAR(static_cast<double>(bulk_granted(0.05, 20 * second + 1, 500)), 500, 2) << "5% of 10,000 rows";
  EXPECT_EQ(bulk_granted(0, 40 * second, 500), 0u);
}

TEST(sla_queue, long_overdue_rows_get_their_share) {
  for (const auto& [late_floor, overdue, expected] :
       {std::tuple{0.05, 1'000 * millisecond, 0.0}, std::tuple{0.05, 1'001 * millisecond, 500.0},
        std::tuple{0.0, 5'000 * millisecond, 0.0}}) {
    fixture f(three_classes(), late_floor);
    for (int i = 0; i < 900; ++i) ASSERT_TRUE(f.push(7, 0, 10 * millisecond));
    const nanos now = 10 * millisecond + overdue;
    std::size_t late = 0;
    for (int b = 0; b < 500; ++b) {
      while (f.queue.depth(1) < 40) (void)f.push(1, 1, 100 * second);
      for (const auto tag : f.take(now, 20)) late += tag == 7;
    }
    EXPECT_NEAR(static_cast<double>(late), expected, 2) << overdue;
  }
}

TEST(sla_queue, a_floor_reaches_rows_of_another_model) {
  auto classes = three_classes();
  classes[2].floor = 0.05;
  fixture f(classes);
  f.queue.add_model();
  for (int i = 0; i < 900; ++i) ASSERT_TRUE(f.push(2, 2, 60 * second, never, 0, 1, 1));
  const nanos now = 30 * second;
  std::size_t bulk = 0;
  std::size_t rows = 0;
  for (int b = 0; b < 500; ++b) {
    while (f.queue.depth(0) < 40) (void)f.push(0, 0, 100 * second);
    const auto model = f.queue.next_model(now, {true, true});
    ASSERT_TRUE(model);
    const auto batch = f.take(now, 20, *model);
    rows += batch.size();
    for (const auto tag : batch) bulk += tag == 2;
  }
  EXPECT_NEAR(static_cast<double>(bulk) / static_cast<double>(rows), 0.05, 0.02);
}

// --- against the obvious implementation: one list, searched anew for every row
// ------------------------------------

struct naive_row {
  sla_item item;
  std::size_t model;
  std::size_t cls;
  bool late = false;
};

class naive_queue {
 public:
  explicit naive_queue(std::vector<class_config> classes) : classes_(std::move(classes)), ahead_(8, 0) {}

  bool push(std::size_t model, std::size_t cls, sla_item item) {
    std::size_t depth = 0;
    for (const auto& r : rows_) depth += r.cls == cls;
    if (depth >= classes_[cls].limit) return false;
    item.target = std::min(item.target, item.expiry);
    rows_.push_back({item, model, cls, false});
    return true;
  }

  std::optional<std::size_t> next_model(nanos now, const std::vector<bool>& runnable) {
    for (std::size_t m = 0; m < runnable.size(); ++m)
      if (runnable[m]) settle(m, now);
    const naive_row* best = nullptr;
    for (const auto& r : rows_)
      if (runnable[r.model] && (!best || before(r, *best))) best = &r;
    if (best) return best->model;
    for (const auto& e : ended_)
      if (runnable[e.first]) return e.first;
    return std::nullopt;
  }

  void take(std::size_t model, nanos now, const batch_sizer& sizer, const take_limits& limits,
            std::vector<std::uint32_t>& batch, std::multiset<std::uint32_t>& ended) {
    nanos budget = limits.max_batch_time;
    std::size_t waiting = 0;
    for (const auto& r : rows_) {
      if (r.model != model) continue;
      waiting += r.item.weight;
      if (!r.late)
        budget = std::min(
            budget, static_cast<nanos>(batch_share_of_target * static_cast<double>(classes_[r.cls].target)));
    }
    const std::size_t cap = sizer.max_rows(budget, limits.max_rows);
    const nanos expected = sizer.estimate(std::min(cap, waiting));
    ahead_[model] = expected + expected / 8;
    settle(model, now);
    std::size_t rows = 0;
    for (;;) {
      std::size_t best = rows_.size();
      for (std::size_t i = 0; i < rows_.size(); ++i)
        if (rows_[i].model == model && (best == rows_.size() || before(rows_[i], rows_[best]))) best = i;
      if (best == rows_.size()) break;
      const auto r = rows_[best];
      if (rows != 0 && rows + r.item.weight > cap) break;
      rows_.erase(rows_.begin() + static_cast<std::ptrdiff_t>(best));
      if (r.item.expiry <= now) {
        ended_.emplace_back(model, r.item.tag);
        continue;
      }
      batch.push_back(r.item.tag);
      rows += r.item.weight;
    }
    for (const auto& e : ended_) ended.insert(e.second);
    ended_.clear();
  }

  [[nodiscard]] std::size_t size() const { return rows_.size(); }

 private:
  static bool before(const naive_row& a, const naive_row& b) {
    return std::tuple(a.late, a.cls, a.item.target) < std::tuple(b.late, b.cls, b.item.target);
  }

  void settle(std::size_t model, nanos now) {
    std::erase_if(rows_, [&](naive_row& r) {
      if (r.model != model || r.late || r.item.target >= now + ahead_[model]) return false;
      if (r.item.expiry > now && !classes_[r.cls].shed_late) {
        r.late = true;
        return false;
      }
      ended_.emplace_back(model, r.item.tag);
      return true;
    });
  }

  std::vector<class_config> classes_;
  std::vector<naive_row> rows_;
  std::vector<std::pair<std::size_t, std::uint32_t>> ended_;
  std::vector<nanos> ahead_;
};

TEST(sla_queue, agrees_with_the_obvious_implementation_on_random_histories) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t n) { return static_cast<nanos>(random() % n); };
    auto classes = three_classes();
    for (auto& c : classes) {
      c.limit = static_cast<std::size_t>(20 + below(100));
      c.shed_late = random() % 4 == 0;
    }
    const std::size_t models = 1 + random() % 3;
    sla_queue queue(classes, 0);
    naive_queue naive(classes);
    std::vector<batch_sizer> sizers;
    for (std::size_t m = 0; m < models; ++m) {
      queue.add_model();
      sizers.push_back(sizer_of(below(1'000'000), below(200'000)));
    }
    const bool in_order = random() % 2 == 0;
    const std::uint32_t weights = random() % 2 ? 1 : 12;
    nanos now = 0;
    std::uint32_t tag = 0;
    for (int step = 0; step < 600; ++step) {
      now += below(5'000'000);
      for (std::uint64_t n = random() % 6; n > 0; --n) {
        const std::size_t cls = random() % 3;
        const std::size_t model = random() % models;
        nanos relative = classes[cls].target;
        if (!in_order) relative = below(static_cast<std::uint64_t>(relative));
        // Distinct to the nanosecond: order between equals is not what is compared here.
        const nanos target = (now + relative) / 10'000 * 10'000 + tag % 10'000;
        const nanos expiry = random() % 3 ? never : target + (below(60) - 10) * 10 * millisecond + 5'000;
        const sla_item item{nullptr, tag++,  1 + static_cast<std::uint32_t>(random() % weights),
                            now,     target, expiry};
        ASSERT_EQ(queue.push(model, cls, item), naive.push(model, cls, item)) << "seed " << seed;
      }
      if (random() % 3 == 0) continue;
      std::vector<bool> runnable(models);
      for (std::size_t m = 0; m < models; ++m) runnable[m] = random() % 4 != 0;
      const auto next = queue.next_model(now, runnable);
      ASSERT_EQ(next, naive.next_model(now, runnable)) << "seed " << seed << " step " << step;
      if (!next) continue;
      const take_limits limits{static_cast<std::size_t>(1 + below(40)), 5 * millisecond};
      std::vector<sla_item> batch;
      std::vector<sla_queue::ended_item> ended;
      queue.take(*next, now, sizers[*next], limits, batch, ended);
      std::vector<std::uint32_t> expected;
      std::multiset<std::uint32_t> expected_ended;
      naive.take(*next, now, sizers[*next], limits, expected, expected_ended);
      std::vector<std::uint32_t> got;
      for (const auto& i : batch) got.push_back(i.tag);
      std::multiset<std::uint32_t> got_ended;
      for (const auto& e : ended) got_ended.insert(e.item.tag);
      ASSERT_EQ(got, expected) << "seed " << seed << " step " << step;
      ASSERT_EQ(got_ended, expected_ended) << "seed " << seed << " step " << step;
      ASSERT_EQ(queue.size(), naive.size());
      ASSERT_TRUE(!got.empty() || !got_ended.empty());
    }
  }
}

TEST(sla_queue, hands_everything_back_exactly_once_with_floors_and_removals) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t n) { return static_cast<nanos>(random() % n); };
    auto classes = three_classes();
    classes[1].shed_late = seed % 2 == 0;
    classes[2].floor = 0.1;
    classes[1].floor = 0.05;
    sla_queue queue(classes, 0.05);
    std::vector<std::size_t> alive = {queue.add_model(), queue.add_model()};
    const auto sizer = sizer_of(0, 100 * microsecond);
    std::set<std::uint32_t> inside;
    const auto leaves = [&](std::uint32_t tag) { ASSERT_EQ(inside.erase(tag), 1u) << "seed " << seed; };
    std::vector<sla_item> batch;
    std::vector<sla_queue::ended_item> ended;
    nanos now = 0;
    std::uint32_t tag = 0;
    for (int step = 0; step < 2'000; ++step) {
      now += below(200'000'000);
      for (std::uint64_t n = random() % 30; n > 0; --n) {
        const std::size_t cls = random() % 3;
        const sla_item item{nullptr,
                            ++tag,
                            static_cast<std::uint32_t>(random() % 4),
                            now,
                            now + below(80'000'000'000),
                            random() % 2 ? never : now + below(90'000'000'000)};
        if (queue.push(alive[random() % alive.size()], cls, item)) inside.insert(tag);
      }
      batch.clear();
      ended.clear();
      if (random() % 50 == 0) {
        queue.remove_model(alive[0], batch);
        alive[0] = alive[1];
        alive[1] = queue.add_model();
      } else if (random() % 20 == 0) {
        queue.end_overdue(now, ended);
      } else {
        std::vector<bool> runnable(alive[1] + 1);
        for (std::size_t m = 0; m < runnable.size(); ++m) runnable[m] = random() % 5 != 0;
        if (const auto next = queue.next_model(now, runnable)) {
          ASSERT_TRUE(runnable[*next]);
          queue.take(*next, now, sizer, {20, 5 * millisecond}, batch, ended);
          ASSERT_TRUE(!batch.empty() || !ended.empty());
        }
      }
      for (const auto& i : batch) leaves(i.tag);
      for (const auto& e : ended) {
        leaves(e.item.tag);
        ASSERT_EQ(e.expired, e.item.expiry <= now);
      }
      std::size_t depth = 0;
      for (std::size_t c = 0; c < 3; ++c) {
        depth += queue.depth(c);
        ASSERT_LE(queue.stats(c).late, queue.depth(c));
        ASSERT_GE(queue.stats(c).rows, queue.depth(c));
      }
      ASSERT_EQ(depth, queue.size());
    }
  }
}

}  // namespace
}  // namespace troupe::policy
