#include <gtest/gtest.h>

#include "cli/commands.hpp"

namespace troupe::cli {
namespace {

TEST(cache_counts, a_look_up_that_level_2_answers_is_one_hit) {
  const cache_counts counts = read_cache_counts(
      "# HELP troupe_cache_hits_total Look-ups answered by a cache level\n"
      "# TYPE troupe_cache_hits_total counter\n"
      "troupe_cache_hits_total{level=\"1\"} 60\n"
      "troupe_cache_hits_total{level=\"2\"} 30\n"
      "troupe_cache_misses_total{level=\"1\"} 40\n"
      "troupe_cache_misses_total{level=\"2\"} 10\n"
      "troupe_cache_errors_total{level=\"2\"} 7\n"
      "troupe_cache_hits_total_more{level=\"1\"} 1000\n");
  EXPECT_DOUBLE_EQ(counts.hits, 90);
  EXPECT_DOUBLE_EQ(counts.lookups, 100);
  EXPECT_DOUBLE_EQ(counts.ratio_since({}).value(), 0.9);
}

TEST(cache_counts, a_ratio_needs_look_ups_and_counts_only_new_ones) {
  EXPECT_FALSE(read_cache_counts("").ratio_since({}).has_value());
  const cache_counts before{50, 100};
  EXPECT_FALSE(before.ratio_since(before).has_value());
  EXPECT_DOUBLE_EQ((cache_counts{140, 200}).ratio_since(before).value(), 0.9);
}

}  // namespace
}  // namespace troupe::cli
