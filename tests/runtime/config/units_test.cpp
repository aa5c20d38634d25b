#include "runtime/config/units.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>

namespace troupe::config {
namespace {

constexpr std::int64_t most_time = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t most_bytes = std::numeric_limits<std::size_t>::max();

TEST(Units, ReadsDurations) {
  const std::pair<const char*, std::int64_t> table[] = {
      {"0", 0},
      {"0s", 0},
      {"1ns", 1},
      {"1us", 1'000},
      {"250ms", 250'000'000},
      {"10s", 10'000'000'000},
      {"1m", 60'000'000'000},
      {"1h", 3'600'000'000'000},
      {"2d", 172'800'000'000'000},
      {"1h30m", 5'400'000'000'000},
      {"1.5s", 1'500'000'000},
      {"0.5ms", 500'000},
      {"9223372036854775807ns", most_time},
  };
  for (const auto& [text, ns] : table) EXPECT_EQ(parse_duration(text), ns) << text;
}

TEST(Units, RefusesWhatIsNoDuration) {
  for (const char* text :
       {"", "10", "-1s", "+1s", "s", "1 s", " 1s", "1s ", "1S", "1.s", ".5s", "0.5ns", "1e3s", "ten", "1s2",
        "9223372036854775808ns", "18446744073709551616ns", "200000000000d", "9223372036s9223372036s"})
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
}

TEST(Units, ReadsSizes) {
  const std::pair<const char*, std::size_t> table[] = {
      {"0", 0},
      {"512", 512},
      {"512B", 512},
      {"64KiB", 65'536},
      {"10MiB", 10 << 20},
      {"1GiB", 1U << 30},
      {"1.5MiB", 3U << 19},
      {"1KB", 1'000},
      {"2MB", 2'000'000},
      {"0.5KiB", 512},
      {"18446744073709551615", most_bytes},
      {"15TiB", std::size_t{15} << 40},
  };
  for (const auto& [text, bytes] : table) EXPECT_EQ(parse_size(text), bytes) << text;
}

TEST(Units, RefusesWhatIsNoSize) {
  for (const char* text : {"", "-1", "MiB", "1 MiB", "1mib", "1M", "1.5", "0.3KiB", "1MiB1KiB",
                           "18446744073709551616", "16777216TiB"})
    EXPECT_EQ(parse_size(text), std::nullopt) << text;
}

TEST(Units, WritesTheShortForm) {
  EXPECT_EQ(format_duration(0), "0");
  EXPECT_EQ(format_duration(250'000'000), "250ms");
  EXPECT_EQ(format_duration(5'400'000'000'000), "1h30m");
  EXPECT_EQ(format_duration(1'000'000'001), "1s1ns");
  EXPECT_EQ(format_duration(36 * 3'600'000'000'000), "36h");
  EXPECT_EQ(format_duration(48 * 3'600'000'000'000), "2d");
  EXPECT_EQ(format_size(0), "0");
  EXPECT_EQ(format_size(1000), "1000");
  EXPECT_EQ(format_size(1536), "1536");
  EXPECT_EQ(format_size(1536 * 1024), "1536KiB");
  EXPECT_EQ(format_size(std::size_t{16} << 20), "16MiB");
  EXPECT_EQ(format_size(std::size_t{1} << 40), "1TiB");
}

TEST(Units, WhatIsWrittenReadsBackTheSame) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t n = random() >> (random() % 64);
    const auto ns = static_cast<std::int64_t>(n >> 1);
    ASSERT_EQ(parse_duration(format_duration(ns)), ns) << format_duration(ns);
    ASSERT_EQ(parse_size(format_size(n)), n) << format_size(n);
  }
  EXPECT_EQ(parse_duration(format_duration(most_time)), most_time);
  EXPECT_EQ(parse_size(format_size(most_bytes)), most_bytes);
}

}  // namespace
}  // namespace troupe::config
