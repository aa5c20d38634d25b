#include "runtime/policy/bisection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

namespace troupe::policy {
namespace {

struct trial {
  std::size_t deaths = 0;
  std::size_t most_in_a_row = 0;
  std::set<std::size_t> convicted;
  std::set<std::size_t> scored;
};

/// A batch of `n` rows, then its parts, on a model that the guilty ones end.
trial run(std::size_t n, const std::set<std::size_t>& guilty, bool hung = false, std::size_t most = SIZE_MAX,
          std::size_t first_batch = SIZE_MAX) {
  std::vector<char> rows(n);
  std::vector<bisection::row> all;
  for (const char& r : rows) all.push_back(&r);
  const auto index = [&](bisection::row r) {
    return static_cast<std::size_t>(static_cast<const char*>(r) - rows.data());
  };
  bisection b;
  trial t;
  std::size_t row = 0;
  const auto give = [&](std::span<const bisection::row> some) {
    const bool dies =
        std::any_of(some.begin(), some.end(), [&](auto r) { return guilty.contains(index(r)); });
    if (!dies) {
      row = 0;
      b.scored(some);
      for (auto r : some) EXPECT_TRUE(t.scored.insert(index(r)).second);
      return;
    }
    ++t.deaths;
    t.most_in_a_row = std::max(t.most_in_a_row, ++row);
    std::vector<bisection::row> convicted;
    b.died(some, some.size() == 1, hung, convicted);
    for (auto r : convicted) EXPECT_TRUE(t.convicted.insert(index(r)).second);
  };
  for (std::size_t at = 0; at < n;) {
    const std::size_t some = std::min(first_batch, n - at);
    give(std::span(all).subspan(at, some));
    at += some;
  }
  while (!b.empty()) give(b.next(most));
  EXPECT_EQ(b.known(), 0U);
  return t;
}

TEST(bisection, one_guilty_row_is_found_and_only_that_one) {
  for (const std::size_t n : {1U, 2U, 3U, 16U, 1000U, 1024U, 100'000U})
    for (const std::size_t who : {std::size_t{0}, n / 3, n - 1}) {
      const auto t = run(n, {who});
      EXPECT_EQ(t.convicted, std::set<std::size_t>{who}) << n;
      EXPECT_EQ(t.scored.size(), n - 1);
      const auto halvings = static_cast<std::size_t>(std::ceil(std::log2(static_cast<double>(n))));
      EXPECT_LE(t.deaths, 2 + halvings) << n;
      EXPECT_LT(t.most_in_a_row, 5U) << "a model that works shows it";
    }
}

TEST(bisection, a_hundred_among_a_hundred_thousand) {
  std::set<std::size_t> guilty;
  std::mt19937_64 random(7);
  while (guilty.size() < 100) guilty.insert(random() % 100'000);
  const auto t = run(100'000, guilty, false, SIZE_MAX, 1024);
  EXPECT_EQ(t.convicted, guilty);
  EXPECT_EQ(t.scored.size(), 99'900U);
  EXPECT_LE(t.deaths, 100U * 12);
}

TEST(bisection, hangs_take_few_tries) {
  const auto t = run(1024, {700}, true);
  EXPECT_EQ(t.convicted, std::set<std::size_t>{700});
  EXPECT_LE(t.deaths, 6U);
}

TEST(bisection, any_guilty_set_in_any_portions) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    const std::size_t n = 1 + random() % 200;
    std::set<std::size_t> guilty;
    for (std::size_t k = random() % (n + 1); k > 0; --k) guilty.insert(random() % n);
    const auto t = run(n, guilty, random() % 2 == 0, 1 + random() % 40, 1 + random() % 64);
    EXPECT_EQ(t.convicted, guilty) << seed;
    EXPECT_EQ(t.scored.size(), n - guilty.size()) << seed;
  }
}

TEST(bisection, a_model_that_ends_everything_is_not_the_rows_matter) {
  std::vector<char> rows(1000);
  bisection b;
  std::vector<bisection::row> convicted;
  int deaths = 0;
  for (const char& r : rows) {
    if (!b.trusted()) break;
    const bisection::row one = &r;
    b.died(std::span(&one, 1), false, false, convicted);
    (void)b.next(1);
    ++deaths;
  }
  EXPECT_EQ(deaths, 64);
  EXPECT_FALSE(b.trusted());
  b.scored({});
  EXPECT_TRUE(b.trusted());
}

TEST(bisection, hands_back_what_it_holds) {
  std::vector<char> rows(10);
  std::vector<bisection::row> all, out, convicted;
  for (const char& r : rows) all.push_back(&r);
  bisection b;
  b.died(all, false, false, convicted);
  EXPECT_EQ(b.known(), 10U);
  EXPECT_EQ(b.next(3).size(), 3U);
  EXPECT_EQ(b.known(), 7U);
  b.take_all(out);
  EXPECT_EQ(out.size(), 7U);
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(b.known(), 0U);
  EXPECT_TRUE(b.next(5).empty());
}

TEST(bisection, hands_back_those_that_are_asked_for) {
  std::vector<char> rows(10);
  std::vector<bisection::row> all, out, convicted;
  for (const char& r : rows) all.push_back(&r);
  bisection b;
  b.died(all, false, false, convicted);
  b.died(std::span(all).first(1), true, false, convicted);
  const auto first_half = [&](bisection::row r) { return r < static_cast<bisection::row>(&rows[5]); };
  b.take_if(first_half, out);
  EXPECT_EQ(out.size(), 6U) << "five, and the one that waits a second time";
  EXPECT_EQ(b.known(), 5U) << "with its count";
  EXPECT_EQ(b.next(10), std::vector<bisection::row>(all.begin() + 5, all.end())) << "no group without rows";
  EXPECT_TRUE(b.empty());
}

TEST(bisection, is_told_of_each_end) {
  std::vector<char> rows(3);
  std::vector<bisection::row> convicted;
  bisection b;
  for (const char& r : rows) {
    const bisection::row one = &r;
    b.died(std::span(&one, 1), true, false, convicted);
  }
  EXPECT_EQ(b.known(), 3U) << "each waits, and its death is counted";
  for (const char& r : rows) EXPECT_EQ(b.next(1), std::vector<bisection::row>{&r});
  EXPECT_EQ(b.known(), 3U) << "out, and still counted";
  const std::vector<bisection::row> first{rows.data()};
  b.scored(first);
  b.forget(&rows[1]);
  EXPECT_EQ(b.known(), 1U);
  const bisection::row last = &rows[2];
  b.died(std::span(&last, 1), true, false, convicted);
  EXPECT_EQ(convicted, std::vector<bisection::row>{last});
  EXPECT_EQ(b.known(), 0U);
}

}  // namespace
}  // namespace troupe::policy
