#include "cli/command_line.hpp"

#include <gtest/gtest.h>

namespace troupe::cli {
namespace {

TEST(whole_number_complaint, says_what_is_allowed) {
  for (const char* good : {"1", "7", "100"}) EXPECT_EQ(whole_number_complaint(good, 1, 100), "") << good;
  for (const char* bad : {"", "0", "101", "abc", "1.5", "1e3", "7 ", "nan", "99999999999999999999"})
    EXPECT_EQ(whole_number_complaint(bad, 1, 100), "a whole number from 1 to 100") << bad;
}

TEST(number_complaint, takes_only_finite_numbers) {
  for (const char* good : {"0.1", "5000", "1e7"}) EXPECT_EQ(number_complaint(good, 0.1, 1e7), "") << good;
  for (const char* bad : {"", "nan", "-nan", "inf", "-1", "0", "1e8", "5x"})
    EXPECT_EQ(number_complaint(bad, 0.1, 1e7), "a number from 0.1 to 10000000") << bad;
}

TEST(seconds_of, reads_units) {
  EXPECT_DOUBLE_EQ(seconds_of("500ms"), 0.5);
  EXPECT_DOUBLE_EQ(seconds_of("30s"), 30);
  EXPECT_DOUBLE_EQ(seconds_of("2m"), 120);
  EXPECT_DOUBLE_EQ(seconds_of("1.5h"), 5400);
  EXPECT_DOUBLE_EQ(seconds_of("3"), 3);
  for (const char* bad : {"", "s", "soon", "-1s", "nan", "inf", "1d", "1 s", "1.2.3s"})
    EXPECT_LT(seconds_of(bad), 0) << bad;
}

}  // namespace
}  // namespace troupe::cli
