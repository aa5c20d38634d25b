#include "runtime/http/server.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace troupe::http {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;
using namespace std::chrono_literals;

/// A bare TCP connection: whatever is sent is sent as it stands. A read that lasts a minute fails the test.
class connection {
 public:
  explicit connection(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{60, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  }
  ~connection() { ::close(socket_); }
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  void send(const std::string& text) const {
    std::size_t sent = 0;
    while (sent < text.size()) {
      const auto n = ::send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<std::size_t>(n);
    }
  }

  void finish() const { ::shutdown(socket_, SHUT_WR); }

  /// One response, header and body; empty when the connection was closed.
  std::string response(bool with_body = true) {
    std::size_t header = std::string::npos;
    while ((header = buffer_.find("\r\n\r\n")) == std::string::npos)
      if (!more()) return std::exchange(buffer_, {});
    std::size_t length = 0;
    const auto at = buffer_.find("Content-Length: ");
    if (with_body && at < header) length = std::stoul(buffer_.substr(at + 16));
    while (buffer_.size() < header + 4 + length)
      if (!more()) break;
    std::string one = buffer_.substr(0, header + 4 + length);
    buffer_.erase(0, one.size());
    return one;
  }

  /// True when the server closes and nothing more came.
  bool closed() { return buffer_.empty() && !more() && !timed_out_; }

 private:
  bool more() {
    char bytes[4096];
    const auto n = ::recv(socket_, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      timed_out_ = true;
      ADD_FAILURE() << "the server neither answers nor closes";
    }
    if (n <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

  int socket_;
  std::string buffer_;
  bool timed_out_ = false;
};

std::vector<route> routes() {
  return {
      {"GET", "/hello",
       [](const request&) {
         return response{200, "hello", "text/plain", {{"X-Own", "1"}}};
       }},
      {"POST", "/echo",
       [](const request& r) {
         return response{
             200,
             r.method + " " + r.path + " " + r.query + " " + std::string(r.header("X-THING")) + " " + r.body,
             "text/plain",
             {}};
       }},
      {"GET", "/throws", [](const request&) -> response { throw std::runtime_error("it broke"); }},
  };
}

server_options local() {
  server_options o;
  o.bind = "127.0.0.1";
  return o;
}

class Server : public testing::Test {
 protected:
  void open(const server_options& o = local()) { server_.emplace(o, routes()); }
  [[nodiscard]] std::string ask(const std::string& text) const {
    connection c(server_->port());
    c.send(text);
    return c.response();
  }
  std::optional<server> server_;
};

TEST_F(Server, AnswersARequest) {
  open();
  const auto r = ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(r, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(r, HasSubstr("Content-Type: text/plain\r\n"));
  EXPECT_THAT(r, HasSubstr("Content-Length: 5\r\n"));
  EXPECT_THAT(r, HasSubstr("X-Own: 1\r\n"));
  EXPECT_THAT(r, EndsWith("\r\n\r\nhello"));
}

TEST_F(Server, HandsOverTheWholeRequest) {
  open();
  EXPECT_THAT(ask("POST /echo?a=1&b=%20 HTTP/1.1\r\nHost: x\r\nx-thing: t\r\nContent-Length: 4\r\n\r\nbody"),
              EndsWith("\r\n\r\nPOST /echo a=1&b=%20 t body"));
  EXPECT_THAT(ask("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
                  "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
              EndsWith("abcde"));
}

TEST_F(Server, RefusesWhatItDoesNotServe) {
  open();
  EXPECT_THAT(ask("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("GET /hello/ HTTP/1.1\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  const auto post = ask("POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  EXPECT_THAT(post, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(post, HasSubstr("Allow: GET, HEAD\r\n"));
  EXPECT_THAT(ask("BREW /echo HTTP/1.1\r\nHost: x\r\n\r\n"), HasSubstr("Allow: POST\r\n"));
  const auto thrown = ask("GET /throws HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(thrown, StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(thrown, EndsWith("{\"error\":\"it broke\"}\n"));
}

TEST_F(Server, HeadHasTheHeaderOfGetAndNoBody) {
  open();
  connection c(server_->port());
  c.send("HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto head = c.response(false);
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(head, HasSubstr("Content-Length: 5\r\n"));
  EXPECT_THAT(head, EndsWith("\r\n\r\n"));
  EXPECT_THAT(c.response(), EndsWith("hello"));
}

TEST_F(Server, KeepsTheConnectionAndAnswersAPipelineInOrder) {
  open();
  connection c(server_->port());
  std::string all;
  for (int i = 0; i < 50; ++i)
    all += "POST /echo?" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxx";
  c.send(all);
  for (int i = 0; i < 50; ++i) EXPECT_THAT(c.response(), HasSubstr("/echo " + std::to_string(i) + "  xx"));
  c.send("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(c.response(), HasSubstr("Connection: close\r\n"));
  c.finish();
  EXPECT_TRUE(c.closed());
}

TEST_F(Server, AnOlderClientIsClosedAfterItsAnswer) {
  open();
  connection c(server_->port());
  c.send("GET /hello HTTP/1.0\r\n\r\n");
  EXPECT_THAT(c.response(), EndsWith("hello"));
  c.finish();
  EXPECT_TRUE(c.closed());
}

TEST_F(Server, MalformedRequestsGet400AndTheConnectionCloses) {
  open();
  for (const char* text :
       {"nonsense\r\n\r\n", "GET\r\n\r\n", "GET /hello\r\n\r\n", "GET /hello HTTP/9.9\r\n\r\n",
        "GET /hello HTTP/1.1\r\nno colon\r\n\r\n", "GET /hello HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "\x16\x03\x01\x02\x00\x01\r\n\r\n"}) {
    connection c(server_->port());
    c.send(text);
    EXPECT_THAT(c.response(), StartsWith("HTTP/1.1 400 ")) << text;
    c.finish();
    EXPECT_TRUE(c.closed()) << text;
  }
  EXPECT_THAT(ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), EndsWith("hello"));
}

TEST_F(Server, LimitsHeaderAndBody) {
  auto o = local();
  o.max_header = 2048;
  o.max_body = 1000;
  open(o);
  EXPECT_THAT(ask("GET /hello HTTP/1.1\r\nHost: x\r\nX-Long: " + std::string(3000, 'a') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(ask("GET /" + std::string(3000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'b')),
              StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n" + std::string(1001, 'b')),
              StartsWith("HTTP/1.1 413 "));
  std::string chunks = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 11; ++i) chunks += "64\r\n" + std::string(100, 'c') + "\r\n";
  EXPECT_THAT(ask(chunks + "0\r\n\r\n"), StartsWith("HTTP/1.1 413 "));
  // The answer arrives although far more was sent than is read.
  EXPECT_THAT(
      ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + std::string(200'000, 'd')),
      StartsWith("HTTP/1.1 413 "));
}

TEST_F(Server, ASlowClientIsDisconnected) {
  auto o = local();
  o.request_timeout = 50ms;
  open(o);
  connection header(server_->port());
  header.send("GET /hello HT");
  EXPECT_TRUE(header.closed());
  connection body(server_->port());
  body.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_TRUE(body.closed());
  EXPECT_THAT(ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), EndsWith("hello"));
}

TEST_F(Server, AnIdleConnectionIsClosed) {
  auto o = local();
  o.idle_timeout = 50ms;
  open(o);
  connection fresh(server_->port());
  EXPECT_TRUE(fresh.closed());
  o.idle_timeout = 2s;  // time for this thread to send
  open(o);
  connection used(server_->port());
  used.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(used.response(), EndsWith("hello"));
  EXPECT_TRUE(used.closed());
}

TEST_F(Server, AClientThatLeavesInTheMiddleHarmsNobody) {
  open();
  for (int i = 0; i < 20; ++i) {
    connection c(server_->port());
    c.send(i % 2 ? "POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc" : "GET /hel");
  }
  EXPECT_THAT(ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), EndsWith("hello"));
}

TEST_F(Server, RefusesMoreConnectionsThanItMayHave) {
  auto o = local();
  o.max_connections = 2;
  open(o);
  const std::string hello = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
  connection one(server_->port());
  one.send(hello);
  EXPECT_THAT(one.response(), EndsWith("hello"));
  {
    connection two(server_->port());
    two.send(hello);
    EXPECT_THAT(two.response(), EndsWith("hello"));
    connection three(server_->port());
    EXPECT_THAT(three.response(), StartsWith("HTTP/1.1 503 "));
    three.finish();
    EXPECT_TRUE(three.closed());
  }
  // A place is free again once the server has seen the other one leave.
  std::string answer;
  for (int tries = 0; tries < 1000 && !answer.ends_with("hello"); ++tries) answer = ask(hello);
  EXPECT_THAT(answer, EndsWith("hello"));
  one.send(hello);
  EXPECT_THAT(one.response(), EndsWith("hello"));
}

TEST_F(Server, AnOccupiedPortIsOneClearLine) {
  open();
  auto o = local();
  o.port = server_->port();
  o.name = "metrics.port";
  try {
    const server second(o, {});
    FAIL() << "bound twice";
  } catch (const bind_error& e) {
    EXPECT_EQ(std::string(e.what()),
              "metrics.port " + std::to_string(o.port) +
                  " on 127.0.0.1 is in use: end the program that listens there, or set metrics.port to "
                  "a free port (0 takes any)");
  }
}

TEST_F(Server, AnAddressThatIsNoneIsOneClearLine) {
  auto o = local();
  o.name = "metrics.port";
  o.bind = "localhost";
  try {
    const server s(o, {});
    FAIL();
  } catch (const bind_error& e) {
    EXPECT_STREQ(
        e.what(),
        "metrics.port 0 on localhost: 'localhost' is no IP address; use for example 0.0.0.0 or 127.0.0.1");
  }
  o.bind = "192.0.2.1";  // of nobody (RFC 5737)
  EXPECT_THROW(server(o, {}), bind_error);
}

TEST_F(Server, StopsWithConnectionsOpenAndFreesThePort) {
  open();
  connection idle(server_->port());
  idle.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(idle.response(), EndsWith("hello"));
  connection half(server_->port());
  half.send("GET /hel");
  const int port = server_->port();
  server_->stop();
  server_->stop();
  EXPECT_TRUE(idle.closed());
  auto o = local();
  o.port = port;
  open(o);
  EXPECT_THAT(ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), EndsWith("hello"));
}

TEST_F(Server, ServesManyClientsAtOnce) {
  open();
  std::atomic<int> good{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 8; ++t)
    clients.emplace_back([this, &good] {
      connection c(server_->port());
      for (int i = 0; i < 200; ++i) {
        c.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
        good += c.response().ends_with("hello");
      }
    });
  for (auto& c : clients) c.join();
  EXPECT_EQ(good, 1600);
}

}  // namespace
}  // namespace troupe::http
