#include "runtime/traffic/http_reply.hpp"

#include <gtest/gtest.h>

#include <string>

namespace troupe::traffic {
namespace {

using state = http_reply::state;

struct reply_case {
  const char* name;
  std::string bytes;
  state then;
  int status;
  bool closes;
  std::string body;
};

class http_reply_test : public testing::TestWithParam<reply_case> {};

TEST_P(http_reply_test, ends_where_the_reply_ends_however_it_is_cut) {
  const auto& c = GetParam();
  for (std::size_t step = 1; step <= c.bytes.size(); ++step) {
    http_reply r;
    state s = state::more;
    for (std::size_t at = 0; at < c.bytes.size() && s == state::more; at += step)
      s = r.take(std::string_view(c.bytes).substr(at, step));
    ASSERT_EQ(s, c.then) << step;
    if (s == state::bad) continue;
    EXPECT_EQ(r.status(), c.status) << step;
    EXPECT_EQ(r.closes(), c.closes) << step;
    EXPECT_EQ(r.body(), c.body) << step;
  }
}

INSTANTIATE_TEST_SUITE_P(
    cases, http_reply_test,
    testing::Values(
        reply_case{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", state::whole, 200, false,
                   "hello"},
        reply_case{"any_case", "HTTP/1.1 503 No\r\nCONTENT-length:\t2 \r\nConnection: Close\r\n\r\nno",
                   state::whole, 503, true, "no"},
        reply_case{"empty", "HTTP/1.1 204 No Content\r\n\r\n", state::whole, 204, false, ""},
        reply_case{"old", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", state::whole, 200, true, ""},
        reply_case{"chunks",
                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: "
                   "chunked\r\n\r\n7;x=1\r\n0\r\n\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                   state::whole, 200, false, "7;x=1\r\n0\r\n\r\nab\r\n1\r\nc\r\n0\r\n\r\n"},
        reply_case{"continued", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
                   state::whole, 200, false, "x"},
        reply_case{"not_yet", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", state::more, 200, false,
                   "hello"},
        reply_case{"no_http", "SSH-2.0-OpenSSH_9.2\r\n\r\n", state::bad, 0, false, ""},
        reply_case{"no_status", "HTTP/1.1 abc Hm\r\n\r\n", state::bad, 0, false, ""},
        reply_case{"huge", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", state::bad, 0,
                   false, ""},
        reply_case{"no_size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", state::bad, 0,
                   false, ""},
        reply_case{"no_colon", "HTTP/1.1 200 OK\r\nhello\r\n\r\n", state::bad, 0, false, ""}),
    [](const auto& one) { return one.param.name; });

TEST(http_reply, without_a_length_ends_with_the_connection) {
  http_reply r;
  EXPECT_EQ(r.take("HTTP/1.1 200 OK\r\n\r\nsome"), state::more);
  EXPECT_EQ(r.take(" more"), state::more);
  EXPECT_EQ(r.end(), state::whole);
  EXPECT_EQ(r.body(), "some more");
  EXPECT_TRUE(r.closes());
}

TEST(http_reply, cut_off_is_no_reply) {
  http_reply r;
  EXPECT_EQ(r.end(), state::bad);
  EXPECT_EQ(r.take("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), state::more);
  EXPECT_EQ(r.end(), state::bad);
  r.reset();
  EXPECT_EQ(r.take("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), state::whole);
}

TEST(http_reply, a_head_without_end_is_not_kept_for_ever) {
  http_reply r;
  EXPECT_EQ(r.take("HTTP/1.1 200 OK\r\nX: " + std::string(70'000, 'x')), state::bad);
}

}  // namespace
}  // namespace troupe::traffic
