#pragma once
// A bare TCP connection for tests of servers: whatever is sent is sent as it stands.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace troupe::http::testing_support {

struct answer {
  int status = 0;  ///< 0: the connection ended without one
  std::string head;
  std::string body;

  /// The value of a field; empty: there is none.
  [[nodiscard]] std::string field(std::string name) const {
    const auto low = [](std::string s) {
      std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return std::tolower(c); });
      return s;
    };
    const std::string text = low(head);
    const auto at = text.find("\r\n" + low(std::move(name)) + ": ");
    if (at == std::string::npos) return {};
    const auto from = head.find(": ", at) + 2;
    return head.substr(from, head.find("\r\n", from) - from);
  }
};

/// Reads answers out of what `more` brings. A read that lasts 20 s fails the test.
class answer_reader {
 public:
  virtual ~answer_reader() = default;

  answer next(bool with_body = true) {
    answer one;
    std::size_t end = std::string::npos;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos)
      if (!more()) return one;
    one.head = buffer_.substr(0, end + 2);
    one.status = std::stoi(one.head.substr(9, 3));
    buffer_.erase(0, end + 4);
    const std::string length = one.field("content-length");
    const std::size_t n = with_body && !length.empty() ? std::stoul(length) : 0;
    while (buffer_.size() < n)
      if (!more()) break;
    one.body = buffer_.substr(0, n);
    buffer_.erase(0, n);
    return one;
  }

  /// True when the server closes and nothing more came.
  bool closed() { return buffer_.empty() && !more() && !timed_out_; }

 protected:
  /// More bytes at the end of buffer_; false at the end.
  virtual bool more() = 0;
  std::string buffer_;
  bool timed_out_ = false;
};

class raw_client : public answer_reader {
 public:
  explicit raw_client(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{60, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  }
  ~raw_client() override { close(); }
  raw_client(const raw_client&) = delete;
  raw_client& operator=(const raw_client&) = delete;

  [[nodiscard]] int socket() const { return socket_; }
  raw_client& send(std::string_view text) {
    while (!text.empty()) {
      const auto n = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) break;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return *this;
  }
  void finish() const { ::shutdown(socket_, SHUT_WR); }
  void close() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  /// Closes with a reset.
  void reset() {
    const linger hard{1, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }

 protected:
  bool more() override {
    char bytes[16384];
    const auto n = ::recv(socket_, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      timed_out_ = true;
      ADD_FAILURE() << "the server neither answers nor closes";
    }
    if (n <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

 private:
  int socket_;
};

inline std::string post(std::string_view path, std::string_view body, std::string_view fields = {}) {
  std::string text = "POST ";
  text += path;
  text += " HTTP/1.1\r\nHost: test\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  text += fields;
  text += "\r\n";
  text += body;
  return text;
}

}  // namespace troupe::http::testing_support
