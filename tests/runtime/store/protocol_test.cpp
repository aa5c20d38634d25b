// Redis answers as it never should: a scripted server, a table of what it says.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/runtime/store/servers.hpp"

namespace troupe::store {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view good_answer = "*2\r\n$1\r\na\r\n$-1\r\n";

struct answer_case {
  const char* name;
  std::string answer;  ///< to MGET of two keys
  bool closes;         ///< after it
  bool ok;
  const char* error;
  bool reconnects;
};

void PrintTo(const answer_case& c, std::ostream* out) {
  *out << c.name;
}

class Answers : public ::testing::TestWithParam<answer_case> {};

TEST_P(Answers, AreHandled) {
  const auto& c = GetParam();
  scripted_server server([&](int fd, int number) {
    if (scripted_server::receive(fd).find("PING") == std::string::npos) return;
    scripted_server::send(fd, "+PONG\r\n");
    for (bool first = number == 0;; first = false) {
      const auto asked = scripted_server::receive(fd);
      if (asked.empty()) return;
      EXPECT_EQ(asked, "*3\r\n$4\r\nMGET\r\n$1\r\nx\r\n$1\r\ny\r\n");
      scripted_server::send(fd, first ? std::string_view(c.answer) : good_answer);
      if (first && c.closes) return;
    }
  });
  auto o = client::options(server.port());
  o.max_reply_bytes = 1'000'000;
  client redis(o);
  ASSERT_TRUE(redis.connected().connected);
  const auto r = redis.get({"x", "y"});
  EXPECT_EQ(r.ok, c.ok) << r.error;
  EXPECT_FALSE(r.timed_out);
  EXPECT_THAT(r.error, HasSubstr(c.error));
  EXPECT_EQ(r.values.size(), c.ok ? 2U : 0U);
  if (c.reconnects) {
    ASSERT_TRUE(redis.wait_counters([](const auto& n) { return n.connects == 2; })) << redis->status().reason;
  }
  const auto again = redis.get({"x", "y"});
  EXPECT_TRUE(again.ok) << again.error;
  ASSERT_EQ(again.values.size(), 2U);
  EXPECT_EQ(again.values[0], "a");
  EXPECT_EQ(again.values[1], std::nullopt);
  EXPECT_EQ(redis->counters().disconnects, c.reconnects ? 1U : 0U);
}

INSTANTIATE_TEST_SUITE_P(
    Protocol, Answers,
    ::testing::Values(
        answer_case{"good", std::string(good_answer), false, true, "", false},
        answer_case{"garbage", "hello\r\n", false, false, "Protocol error", true},
        answer_case{"zeros", std::string(64, '\0'), false, false, "Protocol error", true},
        answer_case{"status", "+OK\r\n", false, false, "not a value a key", true},
        answer_case{"integer", ":2\r\n", false, false, "not a value a key", true},
        answer_case{"nil", "*-1\r\n", false, false, "not a value a key", true},
        answer_case{"empty_array", "*0\r\n", false, false, "not a value a key", true},
        answer_case{"short_array", "*1\r\n$1\r\na\r\n", false, false, "not a value a key", true},
        answer_case{"long_array", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", false, false, "array of 3",
                    true},
        answer_case{"huge_array", "*1000000000\r\n", false, false, "array of 1000000000", true},
        answer_case{"nested_array", "*2\r\n*1\r\n$1\r\na\r\n$1\r\nb\r\n", false, false, "array of 1", true},
        answer_case{"integers_inside", "*2\r\n:1\r\n:2\r\n", false, false, "not a value a key", true},
        answer_case{"bad_length", "*2\r\n$-5\r\n", false, false, "ulk string length", true},
        answer_case{"no_length", "*2\r\n$x\r\n", false, false, "ulk string length", true},
        answer_case{"endless_value", "*2\r\n$2000000000\r\n" + std::string(1'100'000, 'v'), false, false,
                    "more than 1000000 bytes", true},
        answer_case{"half_an_answer", "*2\r\n$1\r\na\r\n", true, false, "lost", true},
        answer_case{"half_a_value", "*2\r\n$10\r\nabc", true, false, "lost", true},
        answer_case{"no_answer", "", true, false, "closed the connection", true},
        answer_case{"two_answers", std::string(good_answer) + std::string(good_answer), false, true, "",
                    true},
        answer_case{"unasked_status", std::string(good_answer) + "+OK\r\n", false, true, "", true},
        answer_case{"unasked_error", std::string(good_answer) + "-ERR why\r\n", false, true, "", true},
        answer_case{"loading", "-LOADING Redis is loading the dataset in memory\r\n", false, false,
                    "LOADING Redis is loading", false},
        answer_case{"oom", "-OOM command not allowed when used memory > 'maxmemory'.\r\n", false, false,
                    "OOM", false},
        answer_case{"readonly", "-READONLY You can't write against a read only replica.\r\n", false, false,
                    "READONLY", false}),
    ::testing::PrintToStringParamName());

struct greeting_case {
  const char* name;
  std::string greeting;  ///< to PING
  bool closes;
  bool fatal;
  const char* reason;
};

void PrintTo(const greeting_case& c, std::ostream* out) {
  *out << c.name;
}

class Greetings : public ::testing::TestWithParam<greeting_case> {};

TEST_P(Greetings, AreHandled) {
  const auto& c = GetParam();
  std::promise<void> seen;
  auto looked = seen.get_future();
  scripted_server server([&](int fd, int number) {
    scripted_server::receive(fd);
    if (number == 1) looked.wait();
    scripted_server::send(fd, number == 0 ? c.greeting : "+PONG\r\n");
    if (number == 0 && c.closes) return;
    while (!scripted_server::receive(fd).empty()) {
    }
  });
  auto o = client::options(server.port());
  o.reconnect_fatal = o.reconnect_min = o.reconnect_max = 100 * ms;
  client redis(o);
  const auto s = redis.not_connected();
  seen.set_value();
  EXPECT_FALSE(s.connected);
  EXPECT_EQ(s.fatal, c.fatal);
  EXPECT_THAT(s.reason, HasSubstr("127.0.0.1:" + std::to_string(server.port()) + ": "));
  EXPECT_THAT(s.reason, HasSubstr(c.reason));
  EXPECT_TRUE(redis.connected().connected);
}

INSTANTIATE_TEST_SUITE_P(
    Protocol, Greetings,
    ::testing::Values(
        greeting_case{"noauth", "-NOAUTH Authentication required.\r\n", false, true, "redis.password"},
        greeting_case{"noperm", "-NOPERM this user has no permissions to run the 'ping' command\r\n", false,
                      true, "no permissions"},
        greeting_case{"loading", "-LOADING Redis is loading the dataset in memory\r\n", false, false,
                      "LOADING"},
        greeting_case{"too_many_clients", "-ERR max number of clients reached\r\n", true, false,
                      "max number"},
        greeting_case{"http", "HTTP/1.1 400 Bad Request\r\n\r\n", true, false, "rotocol error"},
        greeting_case{"integer", ":1\r\n", false, false, "not how Redis greets"},
        greeting_case{"closed", "", true, false, "closed the connection"}),
    ::testing::PrintToStringParamName());

TEST(Protocol, HalfAnAnswerEndsWithTheBudget) {
  scripted_server server([](int fd, int) {
    scripted_server::receive(fd);
    scripted_server::send(fd, "+PONG\r\n");
    scripted_server::receive(fd);
    scripted_server::send(fd, "*2\r\n$1\r\na\r\n");
    scripted_server::receive(fd);
    scripted_server::send(fd, "$1\r\nb\r\n*2\r\n$1\r\nc\r\n$1\r\nd\r\n");
    scripted_server::receive(fd);
  });
  auto o = client::options(server.port());
  o.budget = second;
  client redis(o);
  ASSERT_TRUE(redis.connected().connected);
  const auto first = redis.get({"x", "y"});
  EXPECT_TRUE(first.timed_out);
  EXPECT_FALSE(first.ok);
  EXPECT_GE(first.took, o.budget);
  // The rest of that answer comes with the next one, and is not taken for it.
  const auto next = redis.get({"x", "y"});
  ASSERT_TRUE(next.ok) << next.error;
  EXPECT_EQ(next.values[0], "c");
  EXPECT_EQ(redis.answers(), 2U);
}

TEST(Protocol, WhatOnlyAPersonCanMendIsTriedRarely) {
  scripted_server server([](int fd, int) {
    EXPECT_THAT(scripted_server::receive(fd), HasSubstr("AUTH"));
    scripted_server::send(fd,
                          "-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH no\r\n");
    scripted_server::receive(fd);
  });
  auto o = client::options(server.port());
  o.password = "wrong";
  o.reconnect_fatal = 3600 * second;
  client redis(o);
  EXPECT_THAT(redis.fatal().reason, HasSubstr("redis.password are refused: WRONGPASS"));
  EXPECT_FALSE(server.wait_connections(2, 300 * ms));
}

TEST(Protocol, ReconnectsWithABackoff) {
  scripted_server server([](int, int) {});  // closes at once
  auto o = client::options(server.port());
  o.reconnect_min = 20 * ms;
  o.reconnect_max = 80 * ms;
  const nanos before = steady_now();
  client redis(o);
  ASSERT_TRUE(server.wait_connections(6, 20 * second));
  // 20, 40, 80, 80, 80 ms, each a fifth shorter at most.
  EXPECT_GE(steady_now() - before, static_cast<nanos>(0.8 * 300) * ms);
}

}  // namespace
}  // namespace troupe::store
