#include "runtime/policy/month_count.hpp"

#include <gtest/gtest.h>

#include <random>

namespace {

using namespace troupe::policy;

TEST(month, is_found_for_a_time) {
  struct row {
    std::int64_t at;
    const char* text;
  };
  for (const auto& [at, text] :
       {row{0, "197001"}, row{2'678'399, "197001"}, row{2'678'400, "197002"}, row{951'868'799, "200002"},
        row{951'868'800, "200003"},  // 29 February 2000
        row{1'709'251'199, "202402"}, row{1'709'251'200, "202403"}, row{1'798'761'599, "202612"},
        row{1'798'761'600, "202701"}, row{4'107'542'400, "210003"}, row{4'107'542'399, "210002"},
        row{-5, "197001"}})
    EXPECT_EQ(month_text(month_of(at)), text) << at;
  for (int m = 0; m < 12 * 300; ++m) {
    EXPECT_EQ(month_of(month_end(m)), m + 1);
    EXPECT_EQ(month_of(month_end(m) - 1), m);
  }
}

TEST(month_count, ends_at_its_quota_and_begins_anew) {
  month_count c;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(c.take(10, 3));
  EXPECT_FALSE(c.take(10, 3));
  EXPECT_EQ(c.used(10), 3U);
  EXPECT_TRUE(c.take(10, 0)) << "no quota";
  EXPECT_TRUE(c.take(11, 3));
  EXPECT_EQ(c.used(11), 1U);
  EXPECT_TRUE(c.take(10, 3)) << "a clock set back counts in the month that is known";
  EXPECT_EQ(c.used(11), 2U);
}

TEST(month_count, takes_many_or_none) {
  month_count c;
  EXPECT_FALSE(c.take(7, 10, 11));
  EXPECT_TRUE(c.take(7, 10, 4));
  EXPECT_FALSE(c.take(7, 10, 7));
  EXPECT_FALSE(c.take(7, 10, UINT64_MAX));
  EXPECT_EQ(c.used(7), 4U);
  EXPECT_TRUE(c.take(7, 10, 6));
  EXPECT_FALSE(c.take(7, 10));
  EXPECT_TRUE(c.take(7, 0, 1'000'000));
}

TEST(month_count, nodes_that_share_a_store_agree_about_the_sum) {
  std::mt19937 random(21);
  month_count nodes[3];
  std::uint64_t store = 0, taken = 0;
  constexpr std::uint64_t most = 10'000;
  for (int i = 0; i < 60'000; ++i) {
    auto& n = nodes[random() % 3];
    if (n.take(7, most)) ++taken;
    if (random() % 50 == 0) {
      const auto sent = n.pending();
      store += sent;
      const auto total = store;
      if (n.take(7, most)) ++taken;  // while it was under way
      n.merged(7, sent, total);
    }
  }
  for (auto& n : nodes) {
    store += n.pending();
    n.merged(7, n.pending(), store);
  }
  EXPECT_EQ(store, taken) << "nothing is counted twice or not at all";
  EXPECT_GE(taken, most);
  EXPECT_LE(taken, most + 1'000) << "exceeded only by what was taken between two merges";
  nodes[0].merged(6, 5, 1);
  EXPECT_GE(nodes[0].used(7), most) << "an answer about another month says nothing";
}

}  // namespace
