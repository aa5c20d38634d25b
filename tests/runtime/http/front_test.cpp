#include "runtime/http/front.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/runtime/http/raw_client.hpp"

namespace troupe::http {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;
using testing_support::answer;
using testing_support::post;
using testing_support::raw_client;

constexpr const char* get = "GET /a HTTP/1.1\r\nHost: test\r\n\r\n";

front_options local() {
  front_options o;
  o.bind = "127.0.0.1";
  o.name = "http.port";
  return o;
}

/// What was asked, as the reply.
response echo(const request_view& r) {
  response out;
  out.content_type = "text/plain";
  out.body = std::string(r.method) + ' ' + std::string(r.path) + '?' + std::string(r.query) + ' ' +
             std::to_string(r.headers.size()) + ' ' + std::string(r.body);
  return out;
}

/// A front that echoes at once.
struct echoing {
  explicit echoing(front_options o = local()) : server(o) {
    server.start(
        [](std::size_t, exchange_ptr e) {
          const auto& r = e->request();
          e->reply(echo(r));
        },
        [](std::size_t) {});
  }
  front server;
};

/// A front whose requests wait for the test.
class holding {
 public:
  explicit holding(front_options o = local()) : server(std::make_unique<front>(o)) {
    server->start(
        [this](std::size_t, exchange_ptr e) {
          const std::lock_guard lock(mutex_);
          held_.push_back(std::move(e));
          came_.notify_all();
        },
        [this](std::size_t) { ++turns; });
  }
  ~holding() { server.reset(); }

  exchange_ptr next() {
    std::unique_lock lock(mutex_);
    if (!came_.wait_for(lock, 60s, [this] { return !held_.empty(); })) {
      ADD_FAILURE() << "no request came";
      return nullptr;
    }
    exchange_ptr one = std::move(held_.front());
    held_.pop_front();
    return one;
  }

  std::unique_ptr<front> server;
  std::atomic<int> turns{0};

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<exchange_ptr> held_;
};

/// Until `what` holds; fails the test after a minute.
template <class Condition>
bool eventually(Condition what) {
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (!what()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

response text(std::string body, int status = 200) {
  response r;
  r.status = status;
  r.content_type = "text/plain";
  r.body = std::move(body);
  return r;
}

/// The client's end of gzip and deflate.
std::string packed(const std::string& plain, int window) {
  z_stream z{};
  EXPECT_EQ(::deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(::deflateBound(&z, static_cast<uLong>(plain.size())) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
  z.avail_in = static_cast<uInt>(plain.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  ::deflateEnd(&z);
  return out;
}

std::string unpacked(const std::string& bytes) {
  z_stream z{};
  EXPECT_EQ(::inflateInit2(&z, 15 + 32), Z_OK);
  std::string out(1 << 20, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::inflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  ::inflateEnd(&z);
  return out;
}

constexpr int gzip = 15 + 16;
constexpr int zlib = 15;
constexpr int raw = -15;

TEST(Front, AnswersAndKeepsTheConnection) {
  echoing f;
  raw_client c(f.server.port());
  for (int i = 0; i < 3; ++i) {
    c.send(post("/v2/models/a%20b/infer?x=1&y", "body" + std::to_string(i)));
    const answer a = c.next();
    EXPECT_EQ(a.status, 200);
    EXPECT_EQ(a.body, "POST /v2/models/a%20b/infer?x=1&y 2 body" + std::to_string(i));
    EXPECT_EQ(a.field("content-type"), "text/plain");
    EXPECT_EQ(a.field("connection"), "");
    EXPECT_THAT(a.field("date"), testing::EndsWith(" GMT"));
  }
}

TEST(Front, ARequestViewHasWhatWasSent) {
  holding f;
  raw_client c(f.server->port());
  c.send(
      "PUT http://host:1/p/%2F?q=%20 HTTP/1.1\r\nHost: h\r\nX-Odd:  two words \r\nEmpty:\r\nx-odd: "
      "again\r\n\r\n");
  const exchange_ptr e = f.next();
  ASSERT_TRUE(e);
  const request_view& r = e->request();
  EXPECT_EQ(r.method, "PUT");
  EXPECT_EQ(r.path, "/p/%2F");
  EXPECT_EQ(r.query, "q=%20");
  EXPECT_EQ(r.header("X-ODD"), "two words");
  EXPECT_EQ(r.header("empty"), "");
  EXPECT_EQ(r.header("none"), "");
  EXPECT_EQ(r.headers.size(), 4U);
  EXPECT_EQ(r.client, "127.0.0.1");
  EXPECT_EQ(r.certificate, "");
  EXPECT_EQ(r.body, "");
  EXPECT_GT(r.arrived, 0);
  EXPECT_FALSE(e->gone());
}

TEST(Front, HttpOneDotZeroClosesUnlessAskedNotTo) {
  echoing f;
  raw_client c(f.server.port());
  c.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(c.next().field("connection"), "keep-alive");
  c.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(c.next().field("connection"), "close");
  EXPECT_TRUE(c.closed());
}

TEST(Front, ConnectionCloseClosesAndNothingBehindItIsServed) {
  echoing f;
  raw_client c(f.server.port());
  c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + std::string(get));
  EXPECT_EQ(c.next().field("connection"), "close");
  EXPECT_TRUE(c.closed());
}

TEST(Front, HeadHasALengthAndNoBody) {
  echoing f;
  raw_client c(f.server.port());
  c.send("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n" + std::string(get));
  EXPECT_EQ(c.next(false).field("content-length"), "11");
  EXPECT_EQ(c.next().body, "GET /a? 1 ");
}

TEST(Front, EmptyRepliesHaveNoLength) {
  holding f;
  raw_client c(f.server->port());
  for (const int status : {204, 304}) {
    c.send(get);
    f.next()->reply(text("no one sees this", status));
    const answer a = c.next();
    EXPECT_EQ(a.status, status);
    EXPECT_EQ(a.field("content-length"), "");
  }
  c.send(get);
  f.next()->reply(text("seen"));
  EXPECT_EQ(c.next().body, "seen");
}

TEST(Front, PipelinedRequestsAreAnsweredInTheirOrder) {
  echoing f;
  raw_client c(f.server.port());
  std::string all;
  for (int i = 0; i < 500; ++i)
    all += post("/" + std::to_string(i), std::string(static_cast<std::size_t>(i), 'x'));
  const std::jthread sender([&] { c.send(all); });
  for (int i = 0; i < 500; ++i) {
    const answer a = c.next();
    ASSERT_EQ(a.body, "POST /" + std::to_string(i) + "? 2 " + std::string(static_cast<std::size_t>(i), 'x'));
  }
}

TEST(Front, ABitAtATimeIsTheSame) {
  echoing f;
  raw_client c(f.server.port());
  const std::string request = post("/slow", "hello") +
                              "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n" +
                              get;
  for (const char one : request) c.send({&one, 1});
  EXPECT_EQ(c.next().body, "POST /slow? 2 hello");
  EXPECT_EQ(c.next().body, "POST /c? 2 abcde");
  EXPECT_EQ(c.next().body, "GET /a? 1 ");
}

TEST(Front, RepliesComeLaterAndFromAnotherThread) {
  front_options o = local();
  o.threads = 3;
  holding f(o);
  std::vector<std::unique_ptr<raw_client>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<raw_client>(f.server->port()));
    clients.back()->send(post("/" + std::to_string(i), "b") + post("/second", "c"));
  }
  for (int i = 0; i < 40; ++i) {
    const exchange_ptr e = f.next();
    ASSERT_TRUE(e);
    e->reply(echo(e->request()));
    e->reply(text("a second reply is none", 500));
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(clients[static_cast<std::size_t>(i)]->next().body, "POST /" + std::to_string(i) + "? 2 b");
    EXPECT_EQ(clients[static_cast<std::size_t>(i)]->next().body, "POST /second? 2 c");
  }
  EXPECT_GT(f.turns, 0);
}

TEST(Front, RequestsOfOneTurnAreHandedOverBeforeItsEnd) {
  // Replies only at the end of a turn: they come all the same, and on the same thread.
  std::vector<exchange_ptr> waiting;
  front server(local());
  server.start([&](std::size_t, exchange_ptr e) { waiting.push_back(std::move(e)); },
               [&](std::size_t) {
                 for (auto& e : waiting) e->reply(text("turn"));
                 waiting.clear();
               });
  raw_client one(server.port());
  raw_client two(server.port());
  one.send(std::string(get) + get);
  two.send(get);
  EXPECT_EQ(one.next().body, "turn");
  EXPECT_EQ(one.next().body, "turn");
  EXPECT_EQ(two.next().body, "turn");
  server.stop();
}

TEST(Front, ThreadsGetConnectionsEvenly) {
  front_options o = local();
  o.threads = 2;
  std::array<std::atomic<int>, 2> seen{};
  front server(o);
  server.start(
      [&](std::size_t thread, exchange_ptr e) {
        ++seen[thread];
        e->reply(text("x"));
      },
      [](std::size_t) {});
  std::vector<std::unique_ptr<raw_client>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<raw_client>(server.port()));
    clients.back()->send(get);
    EXPECT_EQ(clients.back()->next().body, "x");
  }
  EXPECT_EQ(seen[0], 4);
  EXPECT_EQ(seen[1], 4);
}

TEST(Front, AnExchangeThatIsDroppedIsAnswered503) {
  holding f;
  raw_client c(f.server->port());
  c.send(get);
  f.next().reset();
  EXPECT_EQ(c.next().status, 503);
  c.send(get);
  f.next()->reply(text("still open"));
  EXPECT_EQ(c.next().body, "still open");
}

TEST(Front, AHandlerThatThrowsIsAnswered503) {
  front server(local());
  server.start([](std::size_t, exchange_ptr) { throw std::runtime_error("no"); }, [](std::size_t) {});
  raw_client c(server.port());
  c.send(get);
  EXPECT_EQ(c.next().status, 503);
}

TEST(Front, ALateReplyIsDroppedAfter504) {
  front_options o = local();
  o.reply_timeout = 1ms;
  holding f(o);
  raw_client c(f.server->port());
  c.send("GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: mine\r\n\r\n");
  const exchange_ptr e = f.next();
  const answer a = c.next();
  EXPECT_EQ(a.status, 504);
  EXPECT_EQ(a.field("x-correlation-id"), "mine");
  EXPECT_TRUE(e->gone());
  e->reply(text("late"));
  c.send(get);
  EXPECT_EQ(c.next().status, 504);
}

// Malformed and hostile requests

struct bad_request {
  const char* name;
  std::string bytes;
  int status;
};

std::string with(std::string_view fields, std::string_view body = {}) {
  return "POST / HTTP/1.1\r\nHost: h\r\n" + std::string(fields) + "\r\n" + std::string(body);
}

std::string chunked(std::string_view body) {
  return with("Transfer-Encoding: chunked\r\n", body);
}

TEST(Front, RefusesWhatIsMalformed) {
  using std::string_literals::operator""s;
  const std::vector<bad_request> table = {
      {"no HTTP", "hello\r\n\r\n", 400},
      {"TLS on a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"s, 400},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", 400},
      {"HTTP/0.9", "GET /\r\n\r\n", 400},
      {"lower-case version", "GET / http/1.1\r\nHost: h\r\n\r\n", 400},
      {"bad method", "GE(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"two spaces", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"tab in the request line", "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"control character in the target", "GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"zero in the target", "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n"s, 400},
      {"target without a slash", "GET a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"asterisk for GET", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"CONNECT", "CONNECT host:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"another scheme", "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"absolute without host", "GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"bare LF in the header", "GET / HTTP/1.1\nHost: h\n\n", 400},
      {"bare LF after a field", "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", 400},
      {"bare CR in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", 400},
      {"zero in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n"s, 400},
      {"control character in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: \x07\r\n\r\n", 400},
      {"DEL in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: \x7f\r\n\r\n", 400},
      {"space before the colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400},
      {"space before Content-Length's colon", with("Content-Length : 3\r\n", "abc"), 400},
      {"space before the first field", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400},
      {"folded line", with("A: b\r\n c\r\n"), 400},
      {"folded line, tab", with("A: b\r\n\tc\r\n"), 400},
      {"folded Transfer-Encoding", with("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), 400},
      {"folded to nothing", with("A: b\r\n \r\n"), 400},
      {"folded length", with("Content-Length: 1\r\n 0\r\n", "0123456789"), 400},
      {"no colon", with("A\r\n"), 400},
      {"empty name", with(": b\r\n"), 400},
      {"Content-Length twice, different", with("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), 400},
      {"Content-Length twice, the same", with("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 400},
      {"Content-Length as a list", with("Content-Length: 3, 3\r\n", "abc"), 400},
      {"Content-Length empty", with("Content-Length:\r\n"), 400},
      {"Content-Length negative", with("Content-Length: -1\r\n"), 400},
      {"Content-Length with a sign", with("Content-Length: +3\r\n", "abc"), 400},
      {"Content-Length in hex", with("Content-Length: 0x3\r\n", "abc"), 400},
      {"Content-Length fractional", with("Content-Length: 3.0\r\n", "abc"), 400},
      {"Content-Length beyond 64 bits", with("Content-Length: 18446744073709551616\r\n"), 400},
      {"Content-Length at 64 bits", with("Content-Length: 18446744073709551615\r\n"), 413},
      {"both framings", with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"both framings, the other way", with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "abc"),
       400},
      {"Transfer-Encoding twice",
       with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"chunked twice", with("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 400},
      {"gzip, chunked", with("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400},
      {"chunked not last", with("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), 400},
      {"xchunked", with("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400},
      {"identity", with("Transfer-Encoding: identity\r\n"), 400},
      {"empty Transfer-Encoding", with("Transfer-Encoding:\r\n"), 400},
      {"vertical tab before chunked",
       with("Transfer-Encoding: \x0b"
            "chunked\r\n",
            "0\r\n\r\n"),
       400},
      {"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"chunk size is no number", chunked("x\r\n\r\n"), 400},
      {"chunk size is empty", chunked("\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size negative", chunked("-1\r\n\r\n"), 400},
      {"chunk size with a sign", chunked("+3\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size 0x3", chunked("0x3\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size beyond 64 bits", chunked("10000000000000003\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk longer than its size", chunked("3\r\nabcd\r\n0\r\n\r\n"), 400},
      {"chunk size ends with LF", chunked("3\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size with spaces in it", chunked("3 3\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk beyond the limit", chunked("7fffffff\r\n"), 413},
      {"bad trailer", chunked("0\r\nA b\r\n\r\n"), 400},
      {"Content-Length as a trailer", chunked("0\r\nContent-Length: 3\r\n\r\n"), 400},
      {"unknown Expect", with("Expect: magic\r\n"), 417},
      {"unknown Content-Encoding", with("Content-Encoding: br\r\nContent-Length: 1\r\n", "x"), 415},
      {"two Content-Encodings", with("Content-Encoding: gzip, gzip\r\nContent-Length: 1\r\n", "x"), 415},
      {"two Content-Encoding lines",
       with("Content-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n", "x"), 415},
  };
  echoing f;
  for (const auto& one : table) {
    SCOPED_TRACE(one.name);
    raw_client c(f.server.port());
    c.send(one.bytes + get);
    const answer a = c.next();
    EXPECT_EQ(a.status, one.status) << a.body;
    EXPECT_EQ(a.field("connection"), "close");
    EXPECT_TRUE(c.closed());
  }
  raw_client c(f.server.port());
  c.send(get);
  EXPECT_EQ(c.next().status, 200);
}

TEST(Front, TakesWhatIsOddButAllowed) {
  echoing f;
  raw_client c(f.server.port());
  c.send("\r\n\r\nGET / HTTP/1.1\r\nHost:\r\n\r\n");
  EXPECT_EQ(c.next().status, 200);
  c.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(c.next().body, "OPTIONS *? 1 ");
  c.send("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(c.next().body, "GET /? 1 ");
  c.send(with("Content-Length: 003\r\n", "abc"));
  EXPECT_EQ(c.next().body, "POST /? 2 abc");
  c.send(with("TRANSFER-ENCODING: Chunked\r\n", "0003;x=\"y\"\r\nabc\r\n000\r\n\r\n"));
  EXPECT_EQ(c.next().body, "POST /? 2 abc");
  c.send(with("Content-Length: 0\r\n"));
  EXPECT_EQ(c.next().body, "POST /? 2 ");
}

TEST(Front, ARequestThatIsCutShortIsNotServed) {
  std::atomic<int> taken{0};
  front server(local());
  server.start([&](std::size_t, exchange_ptr) { ++taken; }, [](std::size_t) {});
  for (const auto& part : {std::string("GET / HT"), post("/", "abc").substr(0, post("/", "abc").size() - 1),
                           chunked("3\r\nab"), chunked("3\r\nabc\r\n")}) {
    raw_client c(server.port());
    c.send(part).finish();
    EXPECT_TRUE(c.closed());
  }
  EXPECT_EQ(taken, 0);
}

TEST(Front, ALineBreakInAReplysHeaderIsLeftOut) {
  holding f;
  raw_client c(f.server->port());
  c.send(get);
  response r = text("x");
  r.headers.emplace_back("Evil", "a\r\nSet-Cookie: b");
  r.headers.emplace_back("Good", "c");
  f.next()->reply(std::move(r));
  const answer a = c.next();
  EXPECT_EQ(a.field("good"), "c");
  EXPECT_EQ(a.field("evil"), "");
  EXPECT_EQ(a.field("set-cookie"), "");
}

// Limits, at and one beyond

TEST(Front, LimitsTheHeader) {
  front_options o = local();
  o.max_header = 200;
  echoing f(o);
  const std::string start = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
  const auto of = [&](std::size_t n) { return start + std::string(n - start.size() - 4, 'a') + "\r\n\r\n"; };
  raw_client c(f.server.port());
  c.send(of(200));
  EXPECT_EQ(c.next().status, 200);
  c.send(of(201));
  EXPECT_EQ(c.next().status, 431);
  EXPECT_TRUE(c.closed());
  // It need not end.
  raw_client endless(f.server.port());
  endless.send(of(300).substr(0, 260));
  EXPECT_EQ(endless.next().status, 431);
}

TEST(Front, LimitsTrailersAndChunkLines) {
  front_options o = local();
  o.max_header = 200;
  echoing f(o);
  for (const auto& body : {"1;" + std::string(300, 'a'), "0\r\nA: " + std::string(300, 'a')}) {
    raw_client c(f.server.port());
    c.send(chunked(body));
    EXPECT_EQ(c.next().status, 431);
  }
}

TEST(Front, LimitsTheBody) {
  front_options o = local();
  o.max_body = 100'000;
  echoing f(o);
  raw_client c(f.server.port());
  c.send(post("/", std::string(100'000, 'b')));
  EXPECT_EQ(c.next().status, 200);
  c.send(chunked("c350\r\n" + std::string(50'000, 'b') + "\r\nC350\r\n" + std::string(50'000, 'b') +
                 "\r\n0\r\n\r\n"));
  const answer all = c.next();
  EXPECT_EQ(all.status, 200);
  EXPECT_THAT(all.body, testing::EndsWith(std::string(100'000, 'b')));
  c.send(chunked("c350\r\n" + std::string(50'000, 'b') + "\r\nC351\r\n"));
  EXPECT_EQ(c.next().status, 413);
  raw_client d(f.server.port());
  d.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\n");
  const answer over = d.next();
  EXPECT_EQ(over.status, 413);
  EXPECT_THAT(over.body, testing::HasSubstr("too large: at most 100000 bytes (http.max_body)"));
  EXPECT_TRUE(d.closed());
}

TEST(Front, ARefusalReachesAClientThatIsStillSending) {
  front_options o = local();
  o.max_body = 10;
  o.name = "http.port";
  o.larger_body = {"/files", "; or a file"};
  echoing f(o);
  raw_client c(f.server.port());
  c.send(post("/", std::string(1 << 20, 'b')));
  const answer plain = c.next();
  EXPECT_EQ(plain.status, 413);
  EXPECT_THAT(plain.body, testing::HasSubstr("at most 10 bytes (http.max_body)\""));
  raw_client d(f.server.port());
  d.send(post("/files", std::string(1 << 20, 'b')));
  EXPECT_THAT(d.next().body, testing::HasSubstr("at most 10 bytes (http.max_body); or a file"));
}

TEST(Front, BoundsTheBodiesInMemory) {
  front_options o = local();
  o.max_body = 100'000;
  o.max_buffered = 250'000;
  holding f(o);
  raw_client a(f.server->port());
  raw_client b(f.server->port());
  raw_client c(f.server->port());
  a.send(post("/", std::string(100'000, 'a')));
  const exchange_ptr first = f.next();
  b.send(post("/", std::string(100'000, 'b')));
  exchange_ptr second = f.next();
  c.send(post("/", std::string(100'000, 'c')));
  const answer refused = c.next();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.field("retry-after"), "1");
  // What was let go of is free again.
  second->reply(text("x"));
  second.reset();
  EXPECT_EQ(b.next().status, 200);
  b.send(post("/", std::string(100'000, 'b')));
  second = f.next();
  second->reply(text("y"));
  EXPECT_EQ(b.next().body, "y");
}

TEST(Front, AnAnnouncementTakesNoRoom) {
  front_options o = local();
  o.max_body = 100'000;
  o.max_buffered = 150'000;
  echoing f(o);
  std::vector<std::unique_ptr<raw_client>> idle;
  for (int i = 0; i < 20; ++i) {
    idle.push_back(std::make_unique<raw_client>(f.server.port()));
    idle.back()->send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nab");
  }
  raw_client c(f.server.port());
  c.send(post("/", "small"));
  EXPECT_EQ(c.next().status, 200);
}

TEST(Front, RefusesConnectionsBeyondTheLimit) {
  front_options o = local();
  o.max_connections = 3;
  o.threads = 2;
  echoing f(o);
  std::vector<std::unique_ptr<raw_client>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<raw_client>(f.server.port()));
    clients.back()->send(get);
    EXPECT_EQ(clients.back()->next().status, 200);
  }
  raw_client one_more(f.server.port());
  one_more.send(get);
  EXPECT_EQ(one_more.next().status, 503);
  EXPECT_TRUE(one_more.closed());
  one_more.close();
  clients.pop_back();
  ASSERT_TRUE(eventually([&] { return f.server.connections() == 2; }));
  raw_client now(f.server.port());
  now.send(get);
  EXPECT_EQ(now.next().status, 200);
}

TEST(Front, SlowRequestsEndWith408) {
  front_options o = local();
  o.read_timeout = 1ms;
  echoing f(o);
  for (const auto& part :
       {std::string("GET / HTTP/1.1\r\nHos"), post("/", "abc").substr(0, post("/", "abc").size() - 1),
        chunked("3\r\nab"), std::string("G")}) {
    raw_client c(f.server.port());
    c.send(part);
    EXPECT_EQ(c.next().status, 408) << part;
    EXPECT_TRUE(c.closed());
  }
}

TEST(Front, IdleConnectionsEndWithoutAnAnswer) {
  front_options o = local();
  o.idle_timeout = 1ms;
  echoing f(o);
  raw_client c(f.server.port());
  EXPECT_TRUE(c.closed());
}

TEST(Front, AThousandIdleConnections) {
  echoing f;
  std::vector<std::unique_ptr<raw_client>> clients;
  for (int i = 0; i < 1000; ++i) clients.push_back(std::make_unique<raw_client>(f.server.port()));
  ASSERT_TRUE(eventually([&] { return f.server.connections() == 1000; }));
  for (auto& c : clients) c->send(get);
  for (auto& c : clients) EXPECT_EQ(c->next().status, 200);
  clients.clear();
  EXPECT_TRUE(eventually([&] { return f.server.connections() == 0; }));
}

TEST(Front, ABigReplyGoesToASlowReader) {
  holding f;
  raw_client c(f.server->port());
  c.send(get);
  const std::string big(30 << 20, 'z');
  f.next()->reply(text(big));
  // Behind it waits the next.
  c.send(get);
  EXPECT_EQ(c.next().body, big);
  f.next()->reply(text("small"));
  EXPECT_EQ(c.next().body, "small");
}

// Expect, codings

TEST(Front, ExpectContinueIsAnswered) {
  echoing f;
  raw_client c(f.server.port());
  c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(c.next().status, 100);
  c.send("abc");
  EXPECT_EQ(c.next().body, "POST /? 3 abc");
  // Not when the body is refused, and not when it is here.
  c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc");
  EXPECT_EQ(c.next().body, "POST /? 3 abc");
  c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(c.next().status, 413);
}

TEST(Front, BodiesComeInflated) {
  echoing f;
  raw_client c(f.server.port());
  const std::string plain = "the same words, the same words, the same words";
  struct one {
    const char* name;
    std::string bytes;
  };
  for (const auto& [name, bytes] :
       {one{"gzip", packed(plain, gzip)}, one{"X-GZIP", packed(plain, gzip)},
        one{"deflate", packed(plain, zlib)}, one{"deflate", packed(plain, raw)}, one{"identity", plain},
        one{"gzip", packed(plain.substr(0, 20), gzip) + packed(plain.substr(20), gzip)}}) {
    c.send(post("/", bytes, "Content-Encoding: " + std::string(name) + "\r\n"));
    EXPECT_EQ(c.next().body, "POST /? 3 " + plain) << name;
  }
  c.send(with("Content-Encoding: gzip\r\nContent-Length: 0\r\n"));
  EXPECT_EQ(c.next().status, 200);
}

TEST(Front, RefusesBodiesThatAreNotWhatTheySay) {
  echoing f;
  const std::string good = packed("some words", gzip);
  std::string flipped = good;
  flipped[good.size() - 6] = static_cast<char>(flipped[good.size() - 6] ^ 1);
  for (const auto& [coding, bytes] :
       std::vector<std::pair<std::string, std::string>>{{"gzip", "no gzip"},
                                                        {"gzip", good.substr(0, good.size() - 1)},
                                                        {"gzip", good + "x"},
                                                        {"gzip", flipped},
                                                        {"deflate", "\xff\xff\xff"},
                                                        {"deflate", packed("some words", zlib) + "x"},
                                                        {"gzip", packed("some words", zlib)}}) {
    raw_client c(f.server.port());
    c.send(post("/", bytes, "Content-Encoding: " + coding + "\r\n"));
    EXPECT_EQ(c.next().status, 400);
    EXPECT_TRUE(c.closed());
  }
}

TEST(Front, LimitsWhatABodyInflatesTo) {
  front_options o = local();
  o.max_body = 100'000;
  echoing f(o);
  for (const int window : {gzip, zlib, raw}) {
    const std::string fields =
        std::string("Content-Encoding: ") + (window == gzip ? "gzip" : "deflate") + "\r\n";
    raw_client c(f.server.port());
    c.send(post("/", packed(std::string(100'000, 'a'), window), fields));
    EXPECT_EQ(c.next().status, 200);
    c.send(post("/", packed(std::string(100'001, 'a'), window), fields));
    EXPECT_EQ(c.next().status, 413);
    raw_client bomb(f.server.port());
    bomb.send(post("/", packed(std::string(50'000'000, 'a'), window), fields));
    EXPECT_EQ(bomb.next().status, 413);
  }
}

TEST(Front, RepliesAreCompressedOnlyWhenTheOptionAndTheClientSaySo) {
  const std::string big(5000, 'r');
  for (const bool option : {false, true}) {
    front_options o = local();
    o.compress_replies = option;
    holding f(o);
    raw_client c(f.server->port());
    const auto ask = [&](std::string_view accept, std::string body) {
      c.send("GET / HTTP/1.1\r\nHost: h\r\n" +
             (accept.empty() ? std::string() : "Accept-Encoding: " + std::string(accept) + "\r\n") + "\r\n");
      f.next()->reply(text(std::move(body)));
      return c.next();
    };
    struct one {
      const char* accept;
      const char* coding;
    };
    for (const auto& [accept, coding] :
         {one{"", ""}, one{"gzip", "gzip"}, one{"deflate", "deflate"}, one{"deflate, gzip;q=0.5", "gzip"},
          one{"gzip;q=0, deflate", "deflate"}, one{"br", ""}, one{"*", "gzip"}, one{"gzip;q=0.000, *", ""},
          one{"identity", ""}}) {
      const answer a = ask(accept, big);
      EXPECT_EQ(a.field("content-encoding"), option ? coding : "") << accept;
      EXPECT_EQ(option && *coding != 0 ? unpacked(a.body) : a.body, big) << accept;
      EXPECT_EQ(a.field("vary"), option ? "Accept-Encoding" : "");
    }
    EXPECT_EQ(ask("gzip", std::string(1024, 's')).field("content-encoding"), "");
  }
}

// Ids, CORS

TEST(Front, CorrelationIdsAreTakenOrMade) {
  holding f;
  raw_client c(f.server->port());
  const auto id_of = [&](const std::string& fields) {
    c.send("GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n");
    const exchange_ptr e = f.next();
    const std::string id(e->request().correlation_id);
    e->reply(text("x"));
    const answer a = c.next();
    EXPECT_EQ(a.field("x-correlation-id"), id);
    EXPECT_EQ(a.field("x-request-id"), id);
    return id;
  };
  EXPECT_EQ(id_of("X-Correlation-ID: one\r\n"), "one");
  EXPECT_EQ(id_of("X-Request-ID: two\r\n"), "two");
  EXPECT_EQ(id_of("X-Request-ID: two\r\nX-Correlation-ID: one\r\n"), "one");
  EXPECT_EQ(id_of("X-Request-ID: " + std::string(128, 'i') + "\r\n"), std::string(128, 'i'));
  const std::string made = id_of("");
  EXPECT_THAT(made, testing::MatchesRegex("[0-9a-f]{32}"));
  EXPECT_NE(id_of(""), made);
  for (const auto& bad : {std::string(129, 'i'), std::string("\xc3\xa9"), std::string("a\tb"), std::string()})
    EXPECT_THAT(id_of("X-Correlation-ID: " + bad + "\r\n"), testing::MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(id_of("X-Correlation-ID: \xff\r\nX-Request-ID: good\r\n"), "good");
}

TEST(Front, CorsIsOffUnlessSet) {
  echoing f;
  raw_client c(f.server.port());
  c.send("OPTIONS /x HTTP/1.1\r\nHost: h\r\nOrigin: http://a\r\nAccess-Control-Request-Method: POST\r\n\r\n");
  const answer a = c.next();
  EXPECT_EQ(a.body, "OPTIONS /x? 3 ");
  EXPECT_EQ(a.field("access-control-allow-origin"), "");
}

TEST(Front, CorsAllowsTheOriginsThatAreSet) {
  front_options o = local();
  o.cors_origins = {"http://a", "https://b:1"};
  echoing f(o);
  raw_client c(f.server.port());
  const auto preflight = [&](const std::string& origin) {
    c.send("OPTIONS /x HTTP/1.1\r\nHost: h\r\nOrigin: " + origin +
           "\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a, x-b\r\n\r\n");
    return c.next();
  };
  const answer yes = preflight("https://b:1");
  EXPECT_EQ(yes.status, 204);
  EXPECT_EQ(yes.field("access-control-allow-origin"), "https://b:1");
  EXPECT_EQ(yes.field("access-control-allow-headers"), "x-a, x-b");
  EXPECT_THAT(yes.field("access-control-allow-methods"), HasSubstr("POST"));
  EXPECT_THAT(yes.field("access-control-allow-methods"), HasSubstr("DELETE"));
  EXPECT_EQ(yes.field("vary"), "Origin");
  const answer no = preflight("https://b");
  EXPECT_EQ(no.status, 403);
  EXPECT_EQ(no.field("access-control-allow-origin"), "");
  c.send("GET / HTTP/1.1\r\nHost: h\r\nOrigin: http://a\r\n\r\n");
  const answer got = c.next();
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.field("access-control-allow-origin"), "http://a");
  for (const char* field : {"X-Correlation-ID", "X-Request-ID", "Retry-After", "Location"})
    EXPECT_THAT(got.field("access-control-expose-headers"), HasSubstr(field));
  c.send("OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(c.next().body, "OPTIONS /? 1 ");
}

TEST(Front, CorsForAnyOrigin) {
  front_options o = local();
  o.cors_origins = {"*"};
  echoing f(o);
  raw_client c(f.server.port());
  c.send("GET / HTTP/1.1\r\nHost: h\r\nOrigin: http://a\r\n\r\n");
  const answer a = c.next();
  EXPECT_EQ(a.field("access-control-allow-origin"), "*");
  EXPECT_EQ(a.field("vary"), "");
}

// Clients that go, and ends

TEST(Front, AClientThatGoesWhileItsRequestWaitsIsSeen) {
  for (const bool hard : {false, true}) {
    holding f;
    auto c = std::make_unique<raw_client>(f.server->port());
    c->send(get);
    const exchange_ptr e = f.next();
    EXPECT_FALSE(e->gone());
    if (hard)
      c->reset();
    else
      c->close();
    EXPECT_TRUE(eventually([&] { return e->gone(); }));
    e->reply(text("nobody reads this"));
    EXPECT_TRUE(eventually([&] { return f.server->connections() == 0; }));
    raw_client next(f.server->port());
    next.send(get);
    f.next()->reply(text("fine"));
    EXPECT_EQ(next.next().body, "fine");
  }
}

TEST(Front, AGoneClientIsSeenBehindAPipelinedRequest) {
  holding f;
  auto c = std::make_unique<raw_client>(f.server->port());
  c->send(get);
  const exchange_ptr e = f.next();
  c->send(get);
  c.reset();
  EXPECT_TRUE(eventually([&] { return e->gone(); }));
}

TEST(Front, HalfClosedClientsAreServed) {
  holding f;
  raw_client c(f.server->port());
  c.send(std::string(get) + post("/last", "x")).finish();
  for (int i = 0; i < 2; ++i) {
    const exchange_ptr e = f.next();
    ASSERT_TRUE(e);
    e->reply(echo(e->request()));
  }
  EXPECT_EQ(c.next().body, "GET /a? 1 ");
  EXPECT_EQ(c.next().body, "POST /last? 2 x");
  EXPECT_TRUE(c.closed());
}

TEST(Front, DrainEndsEachConnectionWithItsNextReply) {
  front_options patient = local();
  patient.last_words = 1h;
  holding f(patient);
  raw_client speaks_again(f.server->port());
  raw_client busy(f.server->port());
  speaks_again.send(get);
  f.next()->reply(text("first"));
  EXPECT_EQ(speaks_again.next().body, "first");
  busy.send(std::string(get) + get);
  const exchange_ptr e = f.next();
  f.server->drain();
  e->reply(text("last"));
  const answer a = busy.next();
  EXPECT_EQ(a.body, "last");
  EXPECT_EQ(a.field("connection"), "close");
  EXPECT_TRUE(busy.closed());
  // Who has a connection does not know.
  speaks_again.send(get);
  f.next()->reply(text("second"));
  const answer b = speaks_again.next();
  EXPECT_EQ(b.body, "second");
  EXPECT_EQ(b.field("connection"), "close");
  EXPECT_TRUE(speaks_again.closed());
}

TEST(Front, DrainEndsIdleConnectionsAfterAMoment) {
  front_options o = local();
  o.last_words = 1ms;
  holding f(o);
  raw_client idle(f.server->port());
  idle.send(get);
  f.next()->reply(text("first"));
  EXPECT_EQ(idle.next().body, "first");
  f.server->drain();
  EXPECT_TRUE(idle.closed());
  // And the port is free.
  front_options again = local();
  again.port = f.server->port();
  EXPECT_NO_THROW(front{again});
}

TEST(Front, DrainAnswersThoseWhoseConnectionWasNotTakenYet) {
  std::promise<void> busy;
  std::promise<void> go_on;
  std::atomic<int> taken{0};
  front_options hasty = local();
  hasty.last_words = 0ms;  // requests that have come are served all the same
  front f(hasty);
  f.start(
      [&](std::size_t, exchange_ptr e) {
        if (taken++ == 0) {
          busy.set_value();
          go_on.get_future().wait();
        }
        e->reply(text("answered"));
      },
      [](std::size_t) {});
  raw_client first(f.port());
  first.send(get);
  busy.get_future().wait();
  // The thread is busy: these are in the kernel's queue, more than it takes, or reads, in one turn.
  std::vector<std::unique_ptr<raw_client>> queued;
  for (int i = 0; i < 600; ++i) {
    queued.push_back(std::make_unique<raw_client>(f.port()));
    queued.back()->send(get);
  }
  f.drain();
  go_on.set_value();
  EXPECT_EQ(first.next().body, "answered");
  for (auto& c : queued) {
    EXPECT_EQ(c->next().body, "answered");
    EXPECT_TRUE(c->closed());
  }
}

TEST(Front, ExchangesOutliveTheFront) {
  exchange_ptr answered;
  exchange_ptr dropped;
  {
    holding f;
    raw_client a(f.server->port());
    raw_client b(f.server->port());
    a.send(post("/x", "body of a"));
    answered = f.next();
    b.send(get);
    dropped = f.next();
    f.server->stop();
    f.server->stop();
    EXPECT_TRUE(a.closed());
  }
  EXPECT_TRUE(answered->gone());
  EXPECT_EQ(answered->request().body, "body of a");
  answered->reply(text("late"));
}

TEST(Front, StopsWhileRepliesComeFromManyThreads) {
  for (int round = 0; round < 20; ++round) {
    front_options o = local();
    o.threads = 2;
    holding f(o);
    std::vector<std::unique_ptr<raw_client>> clients;
    for (int i = 0; i < 8; ++i) {
      clients.push_back(std::make_unique<raw_client>(f.server->port()));
      clients.back()->send(std::string(get) + get + get);
    }
    std::vector<exchange_ptr> held;
    for (int i = 0; i < 8; ++i) held.push_back(f.next());
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (std::size_t i = 2 * t; i < 2 * t + 2; ++i) {
          held[i]->reply(text("x"));
          held[i].reset();
        }
      });
    f.server->stop();
  }
}

TEST(Front, AFrontThatNeverStartsEnds) {
  front server(local());
  EXPECT_GT(server.port(), 0);
  EXPECT_EQ(server.connections(), 0U);
}

TEST(Front, AnOccupiedPortIsOneClearLine) {
  front first(local());
  front_options o = local();
  o.port = first.port();
  try {
    front second(o);
    FAIL();
  } catch (const bind_error& e) {
    EXPECT_THAT(e.what(), StartsWith("http.port " + std::to_string(o.port) + " on 127.0.0.1 is in use"));
  }
}

}  // namespace
}  // namespace troupe::http
