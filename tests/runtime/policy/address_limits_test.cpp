#include "runtime/policy/address_limits.hpp"

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>
#include <vector>

#include "runtime/policy/token_bucket.hpp"

namespace {

using namespace troupe::policy;

address numbered(std::uint32_t n) {
  address a;
  a.bytes[10] = a.bytes[11] = 0xff;
  for (int i = 0; i < 4; ++i)
    a.bytes[static_cast<std::size_t>(12 + i)] = static_cast<std::uint8_t>(n >> (24 - 8 * i));
  return a;
}

TEST(address_limits, is_a_token_bucket_for_each_address) {
  std::mt19937 random(3);
  constexpr std::uint32_t addresses = 20;
  constexpr double rate = 1.7;  // no token comes at a whole millisecond: no ties to be rounded away
  address_limits limits(rate, 5, 1024, 7);
  std::vector<token_bucket> buckets(addresses, token_bucket(rate, 5));
  nanos now = 1'000 * second;
  int taken = 0, refused = 0;
  for (int i = 0; i < 50'000; ++i) {
    now += static_cast<nanos>(random() % 50) * millisecond;
    const auto n = static_cast<std::uint32_t>(random() % addresses);
    const nanos expected = buckets[n].wait(now);
    const bool there = buckets[n].take(now);
    const nanos wait = limits.take(numbered(n), now);
    ASSERT_EQ(wait == 0, there) << i << ": " << wait;
    ASSERT_NEAR(static_cast<double>(wait), static_cast<double>(expected), 1e4) << i;
    ++(there ? taken : refused);
  }
  EXPECT_GT(taken, 5'000);
  EXPECT_GT(refused, 5'000);
}

TEST(address_limits, says_when_the_next_token_is_there) {
  address_limits limits(1, 3, 8, 1);
  const auto who = numbered(1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limits.take(who, 10 * second), 0);
  EXPECT_EQ(limits.take(who, 10 * second), second);
  EXPECT_EQ(limits.take(who, 10 * second + second / 2), second / 2);
  EXPECT_EQ(limits.take(who, 11 * second), 0);
  EXPECT_EQ(limits.take(who, 11 * second), second);
  EXPECT_EQ(limits.take(who, 5 * second), 7 * second) << "time that goes backwards gives nothing";
}

TEST(address_limits, a_million_addresses_take_no_more_memory_and_free_nobody) {
  address_limits limits(100.0 / 60, 100, 100'000, 99);
  const std::size_t bytes = limits.bytes();
  EXPECT_LE(bytes, 131'072U * 24);
  const auto greedy = numbered(0xffffffff);
  nanos now = 3600 * second;
  for (int i = 0; i < 100; ++i) ASSERT_EQ(limits.take(greedy, now), 0);
  std::uint64_t let_in = 0;
  for (std::uint32_t i = 0; i < 1'000'000; ++i) {
    now += microsecond;
    EXPECT_EQ(limits.take(numbered(i), now), 0);
    if (i % 100 == 0 && limits.take(greedy, now) == 0) ++let_in;
  }
  EXPECT_EQ(limits.bytes(), bytes);
  EXPECT_LE(let_in, 2U) << "who has used up its tokens is not forgotten by a flood of others";
  EXPECT_GT(limits.forgotten(), 800'000U);
}

TEST(address_limits, forgets_full_buckets_without_loss) {
  address_limits limits(10, 1, 1'000, 5);
  nanos now = second;
  for (std::uint32_t i = 0; i < 1'000'000; ++i) {
    now += second / 1'000;  // within the 0.1 s to a full bucket there are only 100 addresses
    ASSERT_EQ(limits.take(numbered(i), now), 0);
  }
  EXPECT_EQ(limits.forgotten(), 0U);
}

TEST(address_limits, refuses_nonsense) {
  EXPECT_THROW(address_limits(0, 1, 8, 1), std::invalid_argument);
  EXPECT_THROW(address_limits(1, 0.5, 8, 1), std::invalid_argument);
  EXPECT_THROW(address_limits(1e-9, 1e9, 8, 1), std::invalid_argument);
}

}  // namespace
