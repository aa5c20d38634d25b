#include "runtime/kafka/listener.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

namespace troupe::kafka {
namespace {

using clock = std::chrono::steady_clock;

constexpr std::size_t longest_answer = 1U << 16;
constexpr std::int16_t api_versions = 18;
constexpr std::int16_t sasl_handshake = 17;
constexpr std::int16_t illegal_sasl_state = 34;  // what a listener without credentials says to a handshake

class connection {
 public:
  connection(int fd, clock::time_point end) : fd_(fd), end_(end) {}
  connection(connection&& other) noexcept : fd_(std::exchange(other.fd_, -1)), end_(other.end_) {}
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;
  ~connection() {
    if (fd_ >= 0) ::close(fd_);
  }

  [[nodiscard]] bool connected() const {
    int error = 0;
    socklen_t size = sizeof error;
    return ready(POLLOUT) && ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
  }

  [[nodiscard]] bool send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) return false;
      if (n < 0 && !ready(POLLOUT)) return false;
      if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  /// Exactly so many bytes; nothing when the connection or the time ends before.
  [[nodiscard]] std::optional<std::string> receive(std::size_t size) const {
    std::string bytes(size, '\0');
    for (std::size_t have = 0; have < size;) {
      if (!ready(POLLIN)) return std::nullopt;
      const auto n = ::recv(fd_, bytes.data() + have, size - have, 0);
      if (n == 0 || (n < 0 && errno != EAGAIN)) return std::nullopt;
      if (n > 0) have += static_cast<std::size_t>(n);
    }
    return bytes;
  }

 private:
  [[nodiscard]] bool ready(short what) const {
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end_ - clock::now()).count();
      if (left <= 0) return false;
      pollfd one{fd_, what, 0};
      const int n = ::poll(&one, 1, static_cast<int>(std::min<std::int64_t>(left, 60'000)));
      if (n > 0) return true;
      if (n == 0 || errno != EINTR) return false;
    }
  }

  int fd_;
  clock::time_point end_;
};

std::optional<connection> connect_to(const std::string& host, const std::string& port,
                                     clock::time_point end) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return std::nullopt;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  for (const auto* at = found; at; at = at->ai_next) {
    const int fd = ::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) continue;
    connection c(fd, end);
    if (::connect(fd, at->ai_addr, at->ai_addrlen) != 0 && errno != EINPROGRESS) continue;
    if (c.connected()) return c;
  }
  return std::nullopt;
}

void append(std::string& to, std::uint64_t value, int bytes) {
  while (bytes-- > 0) to += static_cast<char>(value >> (8 * bytes) & 0xffU);
}

std::uint32_t number(std::string_view bytes) {
  std::uint32_t n = 0;
  for (const char c : bytes) n = n << 8U | static_cast<unsigned char>(c);
  return n;
}

/// The answer's body to one request (Kafka protocol: size, header version 1, body).
std::optional<std::string> ask(const connection& c, std::int16_t key, std::int16_t version, std::uint32_t id,
                               std::string_view body) {
  constexpr std::string_view client = "troupe";
  std::string message;
  append(message, static_cast<std::uint16_t>(key), 2);
  append(message, static_cast<std::uint16_t>(version), 2);
  append(message, id, 4);
  append(message, client.size(), 2);
  message += client;
  message += body;
  std::string framed;
  append(framed, message.size(), 4);
  if (!c.send(framed + message)) return std::nullopt;
  const auto head = c.receive(8);
  if (!head) return std::nullopt;
  const std::size_t size = number(std::string_view(*head).substr(0, 4));
  if (size < 6 || size > longest_answer || number(std::string_view(*head).substr(4)) != id)
    return std::nullopt;
  return c.receive(size - 4);
}

spoken ask_in_the_clear(const connection& c) {
  constexpr std::uint32_t first = 0x74726f75;  // any number
  if (!ask(c, api_versions, 0, first, {})) return spoken::unknown;
  std::string mechanism;
  append(mechanism, 5, 2);
  mechanism += "PLAIN";
  const auto shaken = ask(c, sasl_handshake, 1, first + 1, mechanism);
  if (!shaken) return spoken::plaintext;  // the embedded broker knows no handshake
  return number(std::string_view(*shaken).substr(0, 2)) == illegal_sasl_state ? spoken::plaintext
                                                                              : spoken::sasl_plaintext;
}

std::string client_hello(const std::string& host) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  &SSL_CTX_free);
  const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(context ? SSL_new(context.get()) : nullptr, &SSL_free);
  if (!ssl) return {};
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  if (!in || !out) {
    BIO_free(in), BIO_free(out);
    return {};
  }
  SSL_set_bio(ssl.get(), in, out);
  if (host.find_first_not_of("0123456789.:") != std::string::npos)
    SSL_set_tlsext_host_name(ssl.get(), host.c_str());
  SSL_set_connect_state(ssl.get());
  (void)SSL_do_handshake(ssl.get());  // wants an answer, which it does not get
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(out, &bytes);
  return size > 0 ? std::string(bytes, static_cast<std::size_t>(size)) : std::string();
}

/// A TLS record: an alert or a handshake message of version 3.x.
bool begins_tls(std::string_view bytes) {
  return bytes.size() >= 2 && (bytes[0] == 0x15 || bytes[0] == 0x16) && bytes[1] == 0x03;
}

}  // namespace

spoken spoken_at(const std::string& address, policy::nanos patience) {
  const auto colon = address.rfind(':');
  if (colon == std::string::npos) return spoken::unknown;
  std::string host = address.substr(0, colon);
  const std::string port = address.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const auto begin = clock::now();
  const auto whole = std::chrono::nanoseconds(patience);
  // A TLS listener may wait for the rest of what it takes for a record: half of the time for each question.
  if (const auto c = connect_to(host, port, begin + whole / 2))
    if (const auto found = ask_in_the_clear(*c); found != spoken::unknown) return found;
  const auto c = connect_to(host, port, begin + whole);
  if (!c || !c->send(client_hello(host))) return spoken::unknown;
  const auto head = c->receive(2);
  return head && begins_tls(*head) ? spoken::tls : spoken::unknown;
}

listener_question ask_listeners() {
  return [](const std::string& address) { return spoken_at(address); };
}

}  // namespace troupe::kafka
