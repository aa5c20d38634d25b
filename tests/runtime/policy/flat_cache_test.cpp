#include "runtime/policy/flat_cache.hpp"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <random>
#include <stdexcept>
#include <vector>

namespace troupe::policy {
namespace {

cache_key key(std::uint64_t n) {
  return {n * 0x9E3779B97F4A7C15u + 1, n * 0xD1B54A32D192ED03u + 7};
}
cache_key key_of_set_zero(std::uint64_t n) {
  return {n, n & 0xffffffff};
}

TEST(flat_cache, gives_back_what_was_put) {
  flat_cache c(1 << 16, 3);
  const std::array<double, 3> in = {1.5, -2, 3e300};
  std::array<double, 3> out{};
  EXPECT_FALSE(c.get(key(1), 10, out.data()));
  c.put(key(1), 10, in.data());
  EXPECT_TRUE(c.get(key(1), 10, out.data()));
  EXPECT_EQ(out, in);
  EXPECT_EQ(c.hits(), 1u);
  EXPECT_EQ(c.misses(), 1u);
}

TEST(flat_cache, both_words_of_the_key_count) {
  flat_cache c(1 << 12, 1);
  const double v = 1;
  double out = 0;
  c.put({1, 2}, 0, &v);
  EXPECT_FALSE(c.get({3, 2}, 0, &out));
  EXPECT_FALSE(c.get({1, 3}, 0, &out));
  EXPECT_FALSE(c.get({0, 0}, 0, &out)) << "an empty entry is no key";
  EXPECT_TRUE(c.get({1, 2}, 0, &out));
}

TEST(flat_cache, the_zero_key_is_a_key) {
  flat_cache c(1 << 12, 1);
  const double v = 4;
  double out = 0;
  c.put({0, 0}, 0, &v);
  EXPECT_TRUE(c.get({0, 0}, 0, &out));
  EXPECT_EQ(out, 4);
}

TEST(flat_cache, a_value_ends_with_its_time_and_a_put_begins_anew) {
  flat_cache c(1 << 12, 1, 100);
  double v = 1;
  double out = 0;
  c.put(key(1), 50, &v);
  EXPECT_TRUE(c.get(key(1), 149, &out));
  EXPECT_FALSE(c.get(key(1), 150, &out));
  c.put(key(1), 150, &v);
  v = 2;
  c.put(key(1), 200, &v);
  EXPECT_TRUE(c.get(key(1), 299, &out));
  EXPECT_EQ(out, 2);
  EXPECT_FALSE(c.get(key(1), 300, &out));
}

TEST(flat_cache, evicts_the_least_recently_used_of_a_set) {
  flat_cache c(1 << 12, 1);
  double out = 0;
  for (std::uint64_t n = 1; n <= 4; ++n) {
    const auto v = static_cast<double>(n);
    c.put(key_of_set_zero(n), 0, &v);
  }
  EXPECT_EQ(c.evictions(), 0u);
  EXPECT_TRUE(c.get(key_of_set_zero(1), 0, &out));
  const double five = 5;
  c.put(key_of_set_zero(5), 0, &five);
  EXPECT_EQ(c.evictions(), 1u);
  EXPECT_FALSE(c.get(key_of_set_zero(2), 0, &out)) << "1 was used after it";
  for (const std::uint64_t n : {1u, 3u, 4u, 5u}) {
    EXPECT_TRUE(c.get(key_of_set_zero(n), 0, &out));
    EXPECT_EQ(out, static_cast<double>(n));
  }
}

TEST(flat_cache, what_is_over_goes_before_what_is_not) {
  flat_cache c(1 << 12, 1, 100);
  const double v = 1;
  double out = 0;
  c.put(key_of_set_zero(1), 0, &v);
  for (std::uint64_t n = 2; n <= 4; ++n) c.put(key_of_set_zero(n), 50, &v);
  EXPECT_TRUE(c.get(key_of_set_zero(1), 60, &out)) << "the most recently used, but soon over";
  c.put(key_of_set_zero(5), 120, &v);
  EXPECT_EQ(c.evictions(), 0u);
  for (std::uint64_t n = 2; n <= 5; ++n) EXPECT_TRUE(c.get(key_of_set_zero(n), 120, &out)) << n;
}

TEST(flat_cache, stays_within_its_bytes_and_uses_them) {
  for (const std::size_t bytes : {std::size_t{1} << 10, std::size_t{100'000}, std::size_t{3} << 20}) {
    for (const std::size_t stride : {1u, 3u, 10u}) {
      const flat_cache c(bytes, stride);
      EXPECT_LE(c.bytes(), bytes);
      EXPECT_GT(c.bytes() + flat_cache::ways * (32 + 8 * stride), bytes);
    }
  }
  EXPECT_EQ(flat_cache(0, 1).capacity(), flat_cache::ways) << "one set at least";
  EXPECT_THROW(flat_cache(100, 0), std::invalid_argument);
  EXPECT_THROW(flat_cache(100, 1, 0), std::invalid_argument);
}

TEST(flat_cache, clear_forgets_all) {
  flat_cache c(1 << 12, 1);
  const double v = 1;
  double out = 0;
  c.put(key(1), 0, &v);
  c.clear();
  EXPECT_FALSE(c.get(key(1), 0, &out));
}

TEST(flat_cache, a_hit_is_always_the_last_value_put) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    std::mt19937_64 random(seed);
    flat_cache c(8 << 10, 2, 500);
    std::map<std::uint64_t, std::pair<std::array<double, 2>, nanos>> reference;
    std::uint64_t hits = 0;
    for (nanos now = 0; now < 20'000; ++now) {
      const std::uint64_t n = random() % 400;
      std::array<double, 2> v = {static_cast<double>(now), static_cast<double>(n)};
      if (random() % 2) {
        c.put(key(n), now, v.data());
        reference[n] = {v, now};
      } else if (c.get(key(n), now, v.data())) {
        ++hits;
        ASSERT_TRUE(reference.contains(n));
        ASSERT_EQ(v, reference[n].first);
        ASSERT_LT(now - reference[n].second, 500);
      }
    }
    EXPECT_EQ(c.hits(), hits);
    EXPECT_GT(hits, 1'000u);
  }
}

TEST(flat_cache, holds_nearly_all_of_a_working_set_of_half_its_size) {
  flat_cache c(1 << 20, 1);
  std::mt19937_64 random(5);
  std::vector<cache_key> keys(c.capacity() / 2);
  for (auto& k : keys) k = {random(), random()};
  const double v = 1;
  double out = 0;
  for (const auto& k : keys) c.put(k, 0, &v);
  std::size_t there = 0;
  for (const auto& k : keys) there += c.get(k, 0, &out);
  EXPECT_GT(static_cast<double>(there), 0.93 * static_cast<double>(keys.size()));
}

}  // namespace
}  // namespace troupe::policy
