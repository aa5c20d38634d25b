#include "runtime/policy/offset_ledger.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace troupe::policy {
namespace {

TEST(offset_ledger, commits_one_past_the_unbroken_run) {
  offset_ledger l;
  l.reset(1);
  std::vector<std::uint64_t> seq;
  for (const std::int64_t o : {100, 101, 104, 105, 106, 110, 111}) seq.push_back(l.add(o));
  EXPECT_EQ(l.committable(), std::nullopt);
  for (const std::size_t i : {4u, 1u, 6u}) EXPECT_TRUE(l.done(1, seq[i]));
  EXPECT_EQ(l.committable(), std::nullopt) << "100 is not done";
  EXPECT_TRUE(l.done(1, seq[0]));
  EXPECT_EQ(l.position(), 102);
  EXPECT_EQ(l.committable(), 102);
  EXPECT_EQ(l.committable(), std::nullopt) << "taken already";
  EXPECT_EQ(l.position(), 102) << "taking is not forgetting";
  EXPECT_TRUE(l.done(1, seq[2]));
  EXPECT_EQ(l.committable(), 105);
  EXPECT_EQ(l.in_flight(), 2u);
  EXPECT_EQ(l.span(), 4u);
  EXPECT_TRUE(l.done(1, seq[5]));
  EXPECT_EQ(l.committable(), std::nullopt);
  EXPECT_TRUE(l.done(1, seq[3]));
  EXPECT_EQ(l.committable(), 112);
  EXPECT_EQ(l.in_flight(), 0u);
  EXPECT_EQ(l.span(), 0u);
}

TEST(offset_ledger, counts_a_record_once) {
  offset_ledger l;
  l.reset(1);
  const auto a = l.add(0);
  const auto b = l.add(1);
  EXPECT_TRUE(l.done(1, b));
  EXPECT_FALSE(l.done(1, b)) << "again, while it waits for a";
  EXPECT_TRUE(l.done(1, a));
  EXPECT_FALSE(l.done(1, a)) << "again, after it left";
  EXPECT_FALSE(l.done(1, b + 1)) << "never added";
  EXPECT_FALSE(l.done(1, UINT64_MAX));
  EXPECT_EQ(l.in_flight(), 0u);
  EXPECT_EQ(l.committable(), 2);
}

TEST(offset_ledger, offset_zero_is_an_offset) {
  offset_ledger l;
  l.reset(1);
  EXPECT_TRUE(l.done(1, l.add(0)));
  EXPECT_EQ(l.committable(), 1);
}

TEST(offset_ledger, an_old_generation_counts_for_nothing) {
  offset_ledger l;
  l.reset(1);
  const auto old = l.add(50);
  l.reset(2);
  EXPECT_EQ(l.in_flight(), 0u);
  const auto fresh = l.add(50);
  EXPECT_NE(old, fresh);
  EXPECT_FALSE(l.done(1, old));
  EXPECT_FALSE(l.done(1, fresh));
  EXPECT_FALSE(l.done(2, old));
  EXPECT_EQ(l.committable(), std::nullopt);
  EXPECT_TRUE(l.done(2, fresh));
  EXPECT_EQ(l.committable(), 51);
}

TEST(offset_ledger, a_rewind_commits_the_same_offset_again) {
  offset_ledger l;
  l.reset(1);
  EXPECT_TRUE(l.done(1, l.add(7)));
  EXPECT_EQ(l.committable(), 8);
  l.reset(2);
  EXPECT_EQ(l.committable(), std::nullopt);
  EXPECT_TRUE(l.done(2, l.add(7)));
  EXPECT_EQ(l.committable(), 8);
}

TEST(offset_ledger, a_fence_stops_everything_until_the_next_assignment) {
  offset_ledger l;
  l.reset(1);
  const auto a = l.add(10);
  const auto b = l.add(11);
  EXPECT_TRUE(l.done(1, a));
  l.fence();
  EXPECT_FALSE(l.done(1, b));
  EXPECT_EQ(l.committable(), std::nullopt);
  EXPECT_EQ(l.position(), std::nullopt);
  l.reset(2);
  EXPECT_FALSE(l.fenced());
  EXPECT_TRUE(l.done(2, l.add(11)));
  EXPECT_EQ(l.committable(), 12);
}

/// The obvious way: every record in a map, the prefix counted each time.
struct naive_ledger {
  struct entry {
    std::int64_t offset;
    bool done;
  };
  std::map<std::uint64_t, entry> records;
  std::optional<std::int64_t> taken;

  bool done(std::uint64_t seq) {
    const auto it = records.find(seq);
    if (it == records.end() || it->second.done) return false;
    return it->second.done = true;
  }
  std::optional<std::int64_t> position() const {
    std::optional<std::int64_t> at;
    for (const auto& [seq, e] : records) {
      if (!e.done) break;
      at = e.offset + 1;
    }
    return at;
  }
  std::optional<std::int64_t> committable() {
    const auto at = position();
    if (at == taken) return std::nullopt;
    return taken = at;
  }
  std::size_t in_flight() const {
    return static_cast<std::size_t>(
        std::count_if(records.begin(), records.end(), [](const auto& r) { return !r.second.done; }));
  }
};

TEST(offset_ledger, agrees_with_the_naive_one_on_random_histories) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    std::mt19937_64 random(seed);
    offset_ledger l;
    naive_ledger naive;
    std::uint32_t generation = 1;
    l.reset(generation);
    std::int64_t offset = static_cast<std::int64_t>(random() % 1000);
    std::uint64_t last = 0;
    const std::size_t window = std::size_t{1} << (random() % 9);
    for (int step = 0; step < 1'500; ++step) {
      switch (random() % 16) {
        case 0:
          ASSERT_EQ(l.committable(), naive.committable()) << "seed " << seed << " step " << step;
          break;
        case 1:
          if (random() % 40 == 0) {
            l.reset(++generation);
            naive = {};
          } else {  // a stale or unknown one
            ASSERT_FALSE(l.done(generation - 1, last));
            ASSERT_FALSE(l.done(generation, last + 1 + random() % 3));
          }
          break;
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
        case 8:
          if (naive.in_flight() < window) {
            offset += 1 + static_cast<std::int64_t>(random() % 8 == 0 ? random() % 50 : 0);
            last = l.add(offset);
            naive.records[last] = {offset, false};
          }
          break;
        default: {
          const std::uint64_t seq = last - std::min<std::uint64_t>(last, random() % (2 * window));
          ASSERT_EQ(l.done(generation, seq), naive.done(seq)) << "seed " << seed << " step " << step;
        }
      }
      ASSERT_EQ(l.in_flight(), naive.in_flight());
      ASSERT_EQ(l.position(), naive.position()) << "seed " << seed << " step " << step;
    }
  }
}

}  // namespace
}  // namespace troupe::policy
