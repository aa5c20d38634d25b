#include "runtime/policy/in_order.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <numeric>
#include <random>

namespace troupe::policy {
namespace {

class in_order_test : public testing::Test {
 protected:
  const int* item(std::uint64_t seq) { return &items[seq]; }
  std::vector<int> items = [] {
    std::vector<int> v(10'000);
    std::iota(v.begin(), v.end(), 0);
    return v;
  }();
  in_order<const int*> window;
};

TEST_F(in_order_test, what_is_missing_holds_up_what_is_behind_it) {
  EXPECT_TRUE(window.put(1, item(1)));
  EXPECT_TRUE(window.put(2, item(2)));
  EXPECT_EQ(window.ready(), 0u);
  EXPECT_EQ(window.size(), 2u);
  EXPECT_TRUE(window.put(0, item(0)));
  EXPECT_EQ(window.ready(), 3u);
  for (std::uint64_t i = 0; i < 3; ++i) EXPECT_EQ(window.give(), item(i));
  EXPECT_EQ(window.ready(), 0u);
  EXPECT_EQ(window.given(), 3u);
}

TEST_F(in_order_test, each_number_counts_once) {
  EXPECT_TRUE(window.put(0, item(0)));
  EXPECT_FALSE(window.put(0, item(1)));
  EXPECT_EQ(window.give(), item(0));
  EXPECT_FALSE(window.put(0, item(1)));
  window.settle([](const int*) {});
  EXPECT_FALSE(window.put(0, item(1)));
  EXPECT_EQ(window.size(), 0u);
}

TEST_F(in_order_test, what_is_taken_back_comes_again_in_the_same_order) {
  for (std::uint64_t i = 0; i < 5; ++i) window.put(i, item(i));
  for (int i = 0; i < 4; ++i) (void)window.give();
  window.settle_first([&](const int* i) { EXPECT_EQ(i, item(0)); });
  EXPECT_EQ(window.head(), 1u);
  window.take_back(1);
  EXPECT_EQ(window.give(), item(3));
  window.take_back();
  for (std::uint64_t i = 1; i < 5; ++i) EXPECT_EQ(window.give(), item(i));
}

TEST_F(in_order_test, clear_tells_of_each_that_is_here_once) {
  for (const std::uint64_t i : {0, 1, 3, 70, 200}) window.put(i, item(i));
  (void)window.give();
  window.settle([](const int*) {});
  std::vector<const int*> left;
  window.clear([&](const int* i) { left.push_back(i); });
  EXPECT_EQ(left, (std::vector{item(1), item(3), item(70), item(200)}));
  EXPECT_EQ(window.size(), 0u);
}

TEST_F(in_order_test, a_shuffled_stream_with_aborts_leaves_in_order) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    in_order<const int*> w;
    std::vector<std::uint64_t> arrivals(500);
    std::iota(arrivals.begin(), arrivals.end(), 0);
    for (std::size_t i = 0; i < arrivals.size(); ++i)  // at most 40 places early or late
      std::swap(arrivals[i], arrivals[std::min(arrivals.size() - 1, i + random() % 40)]);
    std::uint64_t expected = 0;  // the next to be settled
    std::uint64_t next = 0;      // the next to be given
    const auto some = [&] {
      for (std::size_t n = random() % 8; n > 0 && w.ready() > 0; --n) ASSERT_EQ(w.give(), item(next++));
      switch (random() % 4) {
        case 0:
          w.take_back();
          next = expected;
          break;
        case 1:
          w.settle([&](const int* i) { ASSERT_EQ(i, item(expected++)); });
          break;
        default:
          break;
      }
    };
    for (const auto seq : arrivals) {
      ASSERT_TRUE(w.put(seq, item(seq)));
      some();
    }
    while (expected < arrivals.size()) some();
    ASSERT_EQ(w.size(), 0u) << seed;
  }
}

}  // namespace
}  // namespace troupe::policy
