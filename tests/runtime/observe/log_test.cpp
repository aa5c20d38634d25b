#include "runtime/observe/log.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace troupe::observe {
namespace {

using testing::HasSubstr;
using testing::internal::CaptureStderr;
using testing::internal::CaptureStdout;
using testing::internal::GetCapturedStderr;
using testing::internal::GetCapturedStdout;

std::vector<nlohmann::json> lines_of(const std::string& text) {
  std::vector<nlohmann::json> all;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) all.push_back(nlohmann::json::parse(line));
  return all;
}

/// Every digit as 0.
std::string shape_of(std::string text) {
  for (char& c : text)
    if (c >= '0' && c <= '9') c = '0';
  return text;
}

class Log : public testing::Test {
 protected:
  void TearDown() override { open_log({}); }

  template <class F>
  static std::string stdout_of(const log_options& options, F f) {
    CaptureStdout();
    open_log(options);
    f();
    return GetCapturedStdout();
  }
};

TEST_F(Log, WritesOneJsonObjectALine) {
  const auto text = stdout_of({}, [] {
    log(level::warn, "breaker", "breaker_open", "the model \"keeps\"\nfailing",
        {{"model", "m/3"}, {"path", "C:\\x"}});
  });
  const auto lines = lines_of(text);
  ASSERT_EQ(lines.size(), 1U);
  const auto& l = lines[0];
  EXPECT_EQ(l["level"], "warn");
  EXPECT_EQ(l["component"], "breaker");
  EXPECT_EQ(l["event"], "breaker_open");
  EXPECT_EQ(l["msg"], "the model \"keeps\"\nfailing");
  EXPECT_EQ(l["model"], "m/3");
  EXPECT_EQ(l["path"], "C:\\x");
  EXPECT_EQ(text.substr(0, 7), "{\"ts\":\"");
  EXPECT_EQ(shape_of(l["ts"].get<std::string>()), "0000-00-00T00:00:00.000Z");
}

TEST_F(Log, AFieldDoesNotReplaceTheLinesOwn) {
  const auto lines = lines_of(stdout_of({}, [] {
    log(level::info, "node", "x", "text", {{"level", "none"}});
  }));
  EXPECT_EQ(lines.at(0)["level"], "info");
}

TEST_F(Log, InvalidUtf8StaysOneReadableLine) {
  const auto lines = lines_of(stdout_of({}, [] {
    log(level::info, "node", "x", "a\xff\xfe", {{"k", "\xc3"}});
  }));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_THAT(lines[0]["msg"].get<std::string>(), HasSubstr("\xEF\xBF\xBD"));
}

TEST_F(Log, TheLeastLevelHoldsAndChangesLive) {
  log_options options;
  options.least = level::warn;
  const auto text = stdout_of(options, [] {
    log(level::info, "c", "left_out", "");
    log(level::warn, "c", "first", "");
    set_log_level(level::debug);
    log(level::debug, "c", "second", "");
    set_log_level(level::error);
    log_every(level::warn, "c", "left_out", 1, "");
    EXPECT_EQ(log_level(), level::error);
  });
  const auto lines = lines_of(text);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["event"], "first");
  EXPECT_EQ(lines[1]["event"], "second");
  EXPECT_EQ(lines[1]["level"], "debug");
}

TEST_F(Log, DataCommandsLogToStderr) {
  CaptureStdout();
  CaptureStderr();
  log_options options;
  options.to_stderr = true;
  open_log(options);
  log(level::error, "c", "e", "m");
  const auto err = GetCapturedStderr();
  EXPECT_EQ(GetCapturedStdout(), "");
  EXPECT_EQ(lines_of(err).size(), 1U);
}

TEST_F(Log, TextIsOneReadableLine) {
  log_options options;
  options.format = log_format::text;
  const auto text = stdout_of(options, [] {
    log(level::error, "node", "node_failed", "first\nsecond\x1b[31m",
        {{"reason", "two words"}, {"n", "5"}, {"none", ""}});
  });
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_THAT(text, HasSubstr("node: first\\nsecond?[31m [node_failed] reason=\"two words\" n=5 none=\"\""));
  EXPECT_THAT(text, HasSubstr("error"));
}

TEST_F(Log, RepetitionsAreCountedInsteadOfWritten) {
  std::int64_t now = 5'000'000'000;
  log_options options;
  options.clock = [&now] { return now; };
  const auto text = stdout_of(options, [&now] {
    for (int i = 0; i < 4; ++i) log_every(level::warn, "redis", "down", 30, "no answer");
    log_every(level::warn, "kafka", "down", 30, "another component");
    now += 29'999'999'999;
    log_every(level::warn, "redis", "down", 30, "no answer");
    now += 1;
    log_every(level::warn, "redis", "down", 30, "no answer", {{"error", "x"}});
    now += 30'000'000'000;
    log_every(level::warn, "redis", "down", 30, "no answer");
  });
  const auto lines = lines_of(text);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_FALSE(lines[0].contains("suppressed"));
  EXPECT_EQ(lines[1]["component"], "kafka");
  EXPECT_EQ(lines[2]["suppressed"], "4");
  EXPECT_EQ(lines[2]["error"], "x");
  EXPECT_FALSE(lines[3].contains("suppressed"));
}

TEST_F(Log, ThreadsDoNotMixTheirLines) {
  const auto text = stdout_of({}, [] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([t] {
        for (int i = 0; i < 250; ++i) {
          log(level::info, "c", "e", std::string(200, static_cast<char>('a' + t)));
          if (i == 100) open_log({});
        }
      });
    for (auto& t : threads) t.join();
  });
  EXPECT_EQ(lines_of(text).size(), 1000U);
}

}  // namespace
}  // namespace troupe::observe
