#include "runtime/policy/target_queue.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace troupe::policy {
namespace {

sla_item item(nanos target, nanos arrival = 0) {
  return {nullptr, 0, 1, arrival, target, never};
}

TEST(target_queue, equal_targets_leave_in_order_of_arrival) {
  target_queue q;
  for (nanos a = 0; a < 100; ++a) q.push(item(5, a));
  for (nanos a = 0; a < 100; ++a) {
    EXPECT_EQ(q.front().arrival, a);
    q.pop();
  }
  EXPECT_TRUE(q.empty());
}

TEST(target_queue, is_sorted_however_the_targets_come) {
  // The spread of the targets, from none to far beyond what the ring moves by itself.
  for (const std::uint64_t spread : {1u, 4u, 20u, 200u, 100'000u}) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      std::mt19937_64 random(seed);
      target_queue q;
      std::multiset<std::pair<nanos, nanos>> reference;
      for (nanos step = 0; step < 3'000; ++step) {
        if (random() % 8 < (step / 500 % 2 == 0 ? 4u : 5u)) {
          const nanos target = step + static_cast<nanos>(random() % spread);
          q.push(item(target, step));
          reference.emplace(target, step);
        } else if (!reference.empty()) {
          const auto first = *reference.begin();
          ASSERT_EQ(q.front().target, first.first)
              << "spread " << spread << " seed " << seed << " step " << step;
          ASSERT_EQ(q.front().arrival, first.second);
          q.pop();
          reference.erase(reference.begin());
        }
        ASSERT_EQ(q.size(), reference.size());
        ASSERT_EQ(q.empty(), reference.empty());
      }
    }
  }
}

TEST(target_queue, remove_if_keeps_the_order_of_the_rest) {
  std::mt19937_64 random(9);
  target_queue q;
  std::multiset<nanos> kept;
  for (int i = 0; i < 500; ++i) {
    const nanos target = static_cast<nanos>(random() % 10'000);
    q.push(item(target));
    if (target % 3 != 0) kept.insert(target);
  }
  q.remove_if([](const sla_item& i) { return i.target % 3 == 0; });
  EXPECT_EQ(q.size(), kept.size());
  for (const nanos target : kept) {
    ASSERT_EQ(q.front().target, target);
    q.pop();
  }
}

}  // namespace
}  // namespace troupe::policy
