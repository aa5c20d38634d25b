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

TEST(span_text, is_short) {
  EXPECT_EQ(span_text(0.25), "0.2 s");
  EXPECT_EQ(span_text(28.563), "28.6 s");
  EXPECT_EQ(span_text(720), "12 min");
  EXPECT_EQ(span_text(12'600), "3.5 h");
}

TEST(node_url, may_lack_its_scheme) {
  const std::pair<const char*, const char*> good[] = {{"node:8000", "http://node:8000"},
                                                      {"http://node:8000", "http://node:8000"},
                                                      {"http://node:8000//", "http://node:8000"},
                                                      {"127.0.0.1:8000", "http://127.0.0.1:8000"},
                                                      {"[::1]:8000/", "http://[::1]:8000"},
                                                      {"node", "http://node"},
                                                      {"node:8000/metrics", "http://node:8000/metrics"}};
  for (const auto& [given, url] : good) EXPECT_EQ(node_url(given, "--url"), url);
  for (const char* bad :
       {"", "https://node:8000", "ftp://node", "node:eighty", "http://:8000", "node:99999", "a b"}) {
    try {
      ADD_FAILURE() << node_url(bad, "--url") << " of " << bad;
    } catch (const usage_error& e) {
      EXPECT_EQ(std::string(e.what()).find("--url "), 0U) << e.what();
    }
  }
}

TEST(read_text, says_what_can_not_be_read) {
  const std::pair<std::string, const char*> table[] = {
      {testing::TempDir(), "is a directory, expected a file"},
      {"/no/such/file", "No such file or directory"}};
  for (const auto& [file, says] : table) {
    try {
      (void)read_text(file, "--token-file");
      ADD_FAILURE() << file;
    } catch (const usage_error& e) {
      EXPECT_EQ(std::string(e.what()).find("--token-file " + file + ": "), 0U) << e.what();
      EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace troupe::cli
