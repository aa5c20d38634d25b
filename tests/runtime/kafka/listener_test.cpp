#include "runtime/kafka/listener.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <string_view>
#include <thread>

#include "runtime/kafka/embedded_broker.hpp"

namespace troupe::kafka::test {
namespace {

using std::string_view_literals::operator""sv;

/// A port of the loopback; each connection to it is handed to `serve`, then closed.
class port {
 public:
  explicit port(std::function<void(int fd)> serve) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size), 0);
    address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
    EXPECT_EQ(::listen(fd_, 5), 0);
    thread_ = std::thread([this, serve = std::move(serve)] {
      for (int one = 0; (one = ::accept(fd_, nullptr, nullptr)) >= 0; ::close(one)) serve(one);
    });
  }
  port(const port&) = delete;
  port& operator=(const port&) = delete;
  ~port() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }

  std::string address;

 private:
  int fd_;
  std::thread thread_;
};

std::string read(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  const auto n = ::recv(fd, bytes.data(), size, MSG_WAITALL);
  bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return bytes;
}

void write(int fd, std::string_view bytes) {
  (void)::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

/// One request, answered under its own correlation id.
bool answer(int fd, std::string_view body) {
  const std::string size = read(fd, 4);
  if (size.size() != 4 || size[0] != 0) return false;  // none of Kafka's
  const std::string request = read(fd, static_cast<unsigned char>(size[3]));
  if (request.size() < 8) return false;
  write(fd,
        std::string{0, 0, 0, static_cast<char>(4 + body.size())} + request.substr(4, 4) + std::string(body));
  return true;
}

constexpr auto patience = 60 * policy::second;
constexpr auto versions = "\0\0\0\0\0\0"sv;

TEST(SpokenAt, TheEmbeddedBrokerIsKafkaInTheClear) {
  const embedded_broker broker({{"t", 1}});
  EXPECT_EQ(spoken_at(broker.bootstrap(), patience), spoken::plaintext);
}

TEST(SpokenAt, KafkaSaysWhetherItWantsCredentials) {
  const std::pair<std::string_view, spoken> table[] = {
      {"\0\x22\0\0\0\0"sv, spoken::plaintext},              // ILLEGAL_SASL_STATE
      {"\0\0\0\0\0\1\0\5PLAIN"sv, spoken::sasl_plaintext},  // take it
      {"\0\x21\0\0\0\0"sv, spoken::sasl_plaintext},         // UNSUPPORTED_SASL_MECHANISM
  };
  for (const auto& [shaken, is] : table) {
    const port p([&, said = shaken](int fd) {
      if (answer(fd, versions)) answer(fd, said);
    });
    EXPECT_EQ(spoken_at(p.address, patience), is);
  }
}

TEST(SpokenAt, ATlsListenerAnswersAHandshakeAndNothingElse) {
  for (const auto hello : {"\x16\x03\x03\0\x7a"sv, "\x15\x03\x01\0\2\2\x28"sv}) {
    const port p([&](int fd) {
      const std::string first = read(fd, 1);
      if (first == "\x16") write(fd, hello);
    });
    EXPECT_EQ(spoken_at(p.address, patience), spoken::tls);
  }
}

TEST(SpokenAt, WhatSaysNothingKnownIsUnknown) {
  std::string closed;
  {
    const port p([](int) {});
    EXPECT_EQ(spoken_at(p.address), spoken::unknown) << "it ends every connection";
    closed = p.address;
  }
  EXPECT_EQ(spoken_at(closed), spoken::unknown) << "nobody listens";
  for (const auto said :
       {"HTTP/1.1 400 Bad Request\r\n\r\n"sv, "\x7f\xff\xff\xff\x74\x72\x6f\x75"sv,
        "\xff\xff\xff\xff\x74\x72\x6f\x75"sv, "\0\0\0\x0aXXXX\0\0\0\0\0\0"sv, "\0\0\0\4trou"sv}) {
    const port p([&](int fd) {
      read(fd, 1);
      write(fd, said);
    });
    EXPECT_EQ(spoken_at(p.address), spoken::unknown) << said;
  }
  for (const char* none : {"", ":", "127.0.0.1", "127.0.0.1:", "[::1]", "127.0.0.1:port"})
    EXPECT_EQ(spoken_at(none), spoken::unknown) << none;
}

TEST(SpokenAt, DoesNotWaitForWhoeverIsSilent) {
  const port p([](int fd) {
    while (!read(fd, 1).empty()) {
    }
  });
  EXPECT_EQ(spoken_at(p.address, 20 * policy::millisecond), spoken::unknown);
}

}  // namespace
}  // namespace troupe::kafka::test
