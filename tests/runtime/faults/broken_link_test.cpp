#include "runtime/faults/broken_link.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

namespace troupe::faults {
namespace {

using mode = broken_link::mode;
using protocol = broken_link::protocol;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  at.sin_port = htons(port);
  return at;
}

/// Answers each piece it is sent with the same bytes, one connection after the other.
class echo_server {
 public:
  echo_server() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at = loopback(0);
    socklen_t size = sizeof at;
    ::bind(fd_, reinterpret_cast<sockaddr*>(&at), size);
    ::listen(fd_, 8);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
    port = ntohs(at.sin_port);
    thread_ = std::thread([this] {
      for (int client = 0; (client = ::accept(fd_, nullptr, nullptr)) >= 0; ::close(client)) {
        char buffer[4096];
        for (ssize_t n = 0; (n = ::recv(client, buffer, sizeof buffer, 0)) > 0;)
          (void)::send(client, buffer, static_cast<std::size_t>(n), MSG_NOSIGNAL);
      }
    });
  }
  ~echo_server() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  std::uint16_t port = 0;

 private:
  int fd_;
  std::thread thread_;
};

/// A client as the real ones are: it asks where to connect to, and tells of its socket.
class client {
 public:
  client(broken_link& link, std::uint16_t port) : link_(link), fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const std::uint16_t instead = link.opening("127.0.0.1", port);
    const timeval patience{60, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const sockaddr_in at = loopback(instead ? instead : port);
    connected = ::connect(fd_, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
    link.opened(fd_, instead != 0);
  }
  ~client() {
    link_.closing(fd_);
    ::close(fd_);
  }
  /// What comes back for it; empty: the connection is gone.
  std::string say(const std::string& text) {
    if (::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) < 0) return {};
    std::string back(text.size(), '\0');
    const auto n = ::recv(fd_, back.data(), back.size(), MSG_WAITALL);
    back.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return back;
  }
  bool connected = false;

 private:
  broken_link& link_;
  int fd_;
};

struct stage {
  std::atomic<int> strikes{0};
  echo_server server;
  broken_link link;
  explicit stage(protocol p = protocol::redis)
      : link(
            p, [this] { ++strikes; }, 1) {}
};

TEST(broken_link, a_whole_one_is_not_on_the_way) {
  stage s;
  EXPECT_EQ(s.link.opening("127.0.0.1", s.server.port), 0);
  client c(s.link, s.server.port);
  EXPECT_EQ(c.say("+OK\r\n"), "+OK\r\n");
  EXPECT_EQ(s.strikes, 0);
}

TEST(broken_link, a_cut_one_loses_its_connections_and_refuses_new_ones) {
  stage s;
  {
    client c(s.link, s.server.port);
    EXPECT_EQ(c.say("+1\r\n"), "+1\r\n");
    s.link.begin(mode::cut, 0, 1);
    EXPECT_EQ(c.say("+2\r\n"), "");
    client other(s.link, s.server.port);
    EXPECT_FALSE(other.connected);
    EXPECT_EQ(s.strikes, 2);
  }
  s.link.end();
  client again(s.link, s.server.port);
  EXPECT_EQ(again.say("+3\r\n"), "+3\r\n");
}

TEST(broken_link, one_that_no_answer_came_over_has_struck_nothing) {
  for (const auto how : {mode::slow, mode::corrupt}) {
    stage s;
    client before(s.link, s.server.port);
    EXPECT_EQ(before.say("+1\r\n"), "+1\r\n");
    s.link.begin(how, 1'000'000, 1);
    EXPECT_EQ(before.say("+2\r\n"), "") << "its connection is made anew, through the relay";
    client idle(s.link, s.server.port);
    s.link.end();
    EXPECT_EQ(s.strikes, 0);
  }
}

TEST(broken_link, answers_of_a_slow_one_are_late_and_whole) {
  stage s;
  s.link.begin(mode::slow, 30'000'000, 1);
  {
    client c(s.link, s.server.port);
    const std::string text(100'000, 'x');
    for (int i = 0; i < 3; ++i) {
      const auto begun = std::chrono::steady_clock::now();
      EXPECT_EQ(c.say("+" + text), "+" + text);
      EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(30));
    }
    EXPECT_GE(s.strikes, 3);
    s.link.end();
    EXPECT_EQ(c.say("+gone"), "") << "the relay ends with the fault";
  }
  client direct(s.link, s.server.port);
  EXPECT_EQ(direct.say("+5"), "+5");
}

TEST(broken_link, what_is_garbled_is_what_the_client_can_notice) {
  const struct {
    protocol speaks;
    std::string sent, got;
  } table[] = {
      {protocol::redis, "+OK\r\n", "!OK\r\n"},
      {protocol::http, "HTTP/1.1 200 OK\r\n", "\x01\x02\x03\x04\x05/1.1 200 OK\r\n"},
      {protocol::kafka,
       std::string("\0\0\0\x02"
                   "ab",
                   6),
       std::string("\xff\0\0\x02"
                   "ab",
                   6)},
      {protocol::redis,
       "\x16\x03\x01"
       "abc",
       "\x16\x03\x01"
       "4bc"},  // TLS: whatever is inside
  };
  for (const auto& row : table) {
    stage s(row.speaks);
    s.link.begin(mode::corrupt, 0, 1);
    client c(s.link, s.server.port);
    std::string want = row.got;
    if (row.speaks == protocol::http) want = "\x01\x02\x03\x04\x05" + row.sent.substr(5);
    EXPECT_EQ(c.say(row.sent), want);
    EXPECT_EQ(s.strikes, 1);
  }
}

TEST(broken_link, contents_of_a_plain_protocol_are_left_alone) {
  stage s(protocol::kafka);
  s.link.begin(mode::corrupt, 0, 1e-12);
  client c(s.link, s.server.port);
  const std::string frames(
      "\0\0\0\x03"
      "abc"
      "\0\0\0\x01"
      "d",
      12);
  EXPECT_EQ(c.say(frames), frames);
  EXPECT_EQ(s.strikes, 0);
}

TEST(broken_link, can_be_broken_again) {
  stage s;
  for (int i = 0; i < 3; ++i)
    for (const auto how : {mode::cut, mode::slow, mode::corrupt}) {
      s.link.begin(how, 1'000'000, 1);
      s.link.end();
      s.link.end();
    }
  client c(s.link, s.server.port);
  EXPECT_EQ(c.say("+x"), "+x");
}

}  // namespace
}  // namespace troupe::faults
