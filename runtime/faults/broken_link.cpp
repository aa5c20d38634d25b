#include "runtime/faults/broken_link.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace troupe::faults {
namespace {

constexpr std::size_t most_held = std::size_t{8} << 20;  // a direction of a connection: then it is not read
constexpr std::size_t piece = std::size_t{64} << 10;

nanos steady_now() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

/// A file descriptor, closed in the end.
class descriptor {
 public:
  explicit descriptor(int fd = -1) : fd_(fd) {}
  ~descriptor() { reset(); }
  descriptor(descriptor&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  descriptor& operator=(descriptor&& o) noexcept {
    reset();
    fd_ = std::exchange(o.fd_, -1);
    return *this;
  }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

/// A socket on a free port of the loopback. One that does not listen refuses every connection.
std::pair<descriptor, std::uint16_t> on_loopback(bool listens) {
  descriptor s(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  if (s.get() < 0 || ::bind(s.get(), reinterpret_cast<sockaddr*>(&at), size) != 0 ||
      ::getsockname(s.get(), reinterpret_cast<sockaddr*>(&at), &size) != 0 ||
      (listens && ::listen(s.get(), 64) != 0))
    throw std::runtime_error(std::string("no socket on the loopback: ") + std::strerror(errno));
  return {std::move(s), ntohs(at.sin_port)};
}

descriptor connect_to(const std::string& address, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return descriptor();
  descriptor s(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int one = 1;
  (void)::setsockopt(s.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (s.get() >= 0 && ::connect(s.get(), found->ai_addr, found->ai_addrlen) != 0 && errno != EINPROGRESS)
    s.reset();
  ::freeaddrinfo(found);
  return s;
}

/// Finds where Kafka's answers begin, each with its length in four bytes.
class frame_finder {
 public:
  /// Calls `found(index)` for each length that is complete in `bytes`: it lies at index..index+3, or began in
  /// the piece before (then index < 0).
  template <class F>
  void look(std::string& bytes, F found) {
    std::size_t i = 0;
    while (i < bytes.size()) {
      if (left_ > 0) {
        const std::size_t n = std::min<std::size_t>(left_, bytes.size() - i);
        left_ -= n;
        i += n;
        continue;
      }
      length_ = (length_ << 8) | static_cast<unsigned char>(bytes[i]);
      if (++have_ == 4) {
        left_ = length_;
        have_ = 0;
        length_ = 0;
        if (i >= 3) found(i - 3);
      }
      ++i;
    }
  }

 private:
  std::size_t left_ = 0;
  std::uint32_t length_ = 0;
  int have_ = 0;
};

struct held_piece {
  nanos due = 0;
  std::string bytes;
  std::size_t sent = 0;
};

struct direction {
  std::deque<held_piece> pieces;
  std::size_t held = 0;
  bool ended = false;  // nothing more comes
};

struct pair_of_sockets {
  descriptor client, server;
  direction up, down;
  bool asked = false;  // the client said something since the server did
  bool first = true;   // of the client
  bool tls = false;
  bool dead = false;
  frame_finder frames;
};

}  // namespace

struct broken_link::impl {
  protocol speaks;
  std::function<void()> struck;
  std::mt19937_64 random;  // of the relay's thread

  std::mutex mutex;  // down to wake
  mode how = mode::whole;
  nanos delay = 0;
  double probability = 1;
  std::set<int> direct;
  std::map<std::pair<std::string, std::uint16_t>, std::uint16_t> ways;  // destination -> port of the relay
  std::vector<std::pair<descriptor, std::pair<std::string, std::uint16_t>>> fresh;  // for the thread
  descriptor refuses;
  std::uint16_t refuses_port = 0;
  bool ending = false;

  descriptor wake{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  std::thread thread;

  // The thread's own.
  std::vector<std::pair<descriptor, std::pair<std::string, std::uint16_t>>> listeners;
  std::list<pair_of_sockets> pairs;
  mode relays = mode::whole;
  nanos holds = 0;
  double garbles = 1;

  void ring() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = ::write(wake.get(), &one, sizeof one);
  }

  // --- the relay's thread

  void run() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    ::pthread_setname_np(::pthread_self(), "fault-relay");
    while (take()) {
      std::vector<pollfd> fds;
      fds.push_back({wake.get(), POLLIN, 0});
      for (const auto& [s, to] : listeners) fds.push_back({s.get(), POLLIN, 0});
      const std::size_t before_pairs = fds.size();
      nanos due = -1;
      const nanos now = steady_now();
      const auto sends = [&](const direction& d) {
        if (d.pieces.empty()) return false;
        if (d.pieces.front().due <= now) return true;
        due = due < 0 ? d.pieces.front().due : std::min(due, d.pieces.front().due);
        return false;
      };
      // One that nothing is wanted of is left out, or its end would be told again and again.
      const auto watch = [&fds](const descriptor& d, bool read, bool write) {
        const auto events = static_cast<short>((read ? POLLIN : 0) | (write ? POLLOUT : 0));
        fds.push_back({events ? d.get() : -1, events, 0});
      };
      for (auto& p : pairs) {
        watch(p.client, !p.up.ended && p.up.held < most_held, sends(p.down));
        watch(p.server, !p.down.ended && p.down.held < most_held, sends(p.up));
      }
      const nanos wait = due < 0 ? 0 : std::max<nanos>(0, due - now);
      const timespec timeout{static_cast<std::time_t>(wait / 1'000'000'000),
                             static_cast<long>(wait % 1'000'000'000)};
      ::ppoll(fds.data(), fds.size(), due < 0 ? nullptr : &timeout, nullptr);
      if (fds[0].revents & POLLIN) {
        std::uint64_t n = 0;
        [[maybe_unused]] const auto r = ::read(wake.get(), &n, sizeof n);
      }
      std::size_t at = before_pairs;
      for (auto& p : pairs) {
        const short c = fds[at++].revents;
        const short s = fds[at++].revents;
        if (c & (POLLIN | POLLHUP | POLLERR)) read(p, true);
        if (s & (POLLIN | POLLHUP | POLLERR)) read(p, false);
        if (!p.dead) write(p.server.get(), p.up, p);
        if (!p.dead) write(p.client.get(), p.down, p);
        if ((p.up.ended && p.up.pieces.empty()) || (p.down.ended && p.down.pieces.empty())) p.dead = true;
      }
      for (std::size_t i = 1; i < before_pairs; ++i)
        if (fds[i].revents & POLLIN) accept(listeners[i - 1]);
      std::erase_if(pairs, [](const pair_of_sockets& p) { return p.dead; });
    }
  }

  /// False when the thread is to end.
  bool take() {
    const std::lock_guard lock(mutex);
    if (how != relays && relays != mode::whole) {
      pairs.clear();
      listeners.clear();
    }
    relays = how;
    holds = delay;
    garbles = probability;
    for (auto& f : fresh) listeners.push_back(std::move(f));
    fresh.clear();
    return !ending;
  }

  void accept(const std::pair<descriptor, std::pair<std::string, std::uint16_t>>& from) {
    for (;;) {
      descriptor client(::accept4(from.first.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (client.get() < 0) return;
      const int one = 1;
      (void)::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      descriptor server = connect_to(from.second.first, from.second.second);
      if (server.get() < 0) continue;
      pairs.emplace_back();
      pairs.back().client = std::move(client);
      pairs.back().server = std::move(server);
    }
  }

  void read(pair_of_sockets& p, bool of_client) {
    direction& d = of_client ? p.up : p.down;
    if (d.ended || d.held >= most_held) return;
    std::string bytes(piece, '\0');
    const auto n = ::recv((of_client ? p.client : p.server).get(), bytes.data(), bytes.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
      d.ended = true;
      return;
    }
    bytes.resize(static_cast<std::size_t>(n));
    nanos due = 0;
    if (of_client) {
      if (std::exchange(p.first, false)) p.tls = bytes[0] == 0x16;
      p.asked = true;
    } else if (relays == mode::slow) {
      due = steady_now() + holds;
      struck();
    } else if (relays == mode::corrupt) {
      garble(p, bytes);
    }
    d.held += bytes.size();
    d.pieces.push_back({due, std::move(bytes), 0});
  }

  [[nodiscard]] bool strikes() {
    if (garbles < 1 && std::uniform_real_distribution<>(0, 1)(random) >= garbles) return false;
    struck();
    return true;
  }

  void garble(pair_of_sockets& p, std::string& bytes) {
    const bool begins = std::exchange(p.asked, false);
    if (p.tls) {
      // A record's header says 0x14 to 0x17: that of the handshake would only be refused sooner.
      if (begins && strikes()) bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x55);
    } else if (speaks == protocol::kafka) {
      p.frames.look(bytes, [&](std::size_t at) {
        if (strikes()) bytes[at] = static_cast<char>(0xff);  // a negative length
      });
    } else if (speaks == protocol::redis) {
      if (begins && std::string_view("+-:$*").find(bytes[0]) != std::string_view::npos && strikes())
        bytes[0] = '!';
    } else if (begins && bytes.starts_with("HTTP/") && strikes()) {
      bytes.replace(0, 5, "\x01\x02\x03\x04\x05");
    }
  }

  static void write(int to, direction& d, pair_of_sockets& p) {
    const nanos now = steady_now();
    while (!d.pieces.empty() && d.pieces.front().due <= now) {
      held_piece& f = d.pieces.front();
      const auto n =
          ::send(to, f.bytes.data() + f.sent, f.bytes.size() - f.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ENOTCONN) p.dead = true;
        return;
      }
      f.sent += static_cast<std::size_t>(n);
      d.held -= static_cast<std::size_t>(n);
      if (f.sent < f.bytes.size()) return;
      d.pieces.pop_front();
    }
  }
};

broken_link::broken_link(protocol speaks, std::function<void()> struck, std::uint64_t seed)
    : impl_(std::make_unique<impl>()) {
  impl_->speaks = speaks;
  impl_->struck = std::move(struck);
  impl_->random.seed(seed);
}

broken_link::~broken_link() {
  end();
}

void broken_link::begin(mode how, nanos delay, double probability) {
  impl& i = *impl_;
  end();
  std::size_t shut = 0;
  {
    const std::lock_guard lock(i.mutex);
    if (i.wake.get() < 0) throw std::runtime_error("no file descriptor for a wake-up");
    if (how == mode::cut) std::tie(i.refuses, i.refuses_port) = on_loopback(false);
    i.how = how;
    i.delay = delay;
    i.probability = probability;
    i.ending = false;
    for (const int fd : i.direct) shut += ::shutdown(fd, SHUT_RDWR) == 0;
  }
  // Others have a connection made anew, through the relay: what strikes then is an answer.
  for (; how == mode::cut && shut > 0; --shut) i.struck();
  if (how == mode::slow || how == mode::corrupt) i.thread = std::thread([this] { impl_->run(); });
}

void broken_link::end() {
  impl& i = *impl_;
  {
    const std::lock_guard lock(i.mutex);
    i.how = mode::whole;
    i.ending = true;
  }
  i.ring();
  if (i.thread.joinable()) i.thread.join();
  i.pairs.clear();
  i.listeners.clear();
  i.relays = mode::whole;
  const std::lock_guard lock(i.mutex);
  i.fresh.clear();
  i.ways.clear();
  i.refuses.reset();
}

std::uint16_t broken_link::opening(const std::string& address, std::uint16_t port) {
  impl& i = *impl_;
  std::unique_lock lock(i.mutex);
  if (i.how == mode::whole) return 0;
  if (i.how == mode::cut) {
    const std::uint16_t to = i.refuses_port;
    lock.unlock();
    i.struck();
    return to;
  }
  auto& way = i.ways[{address, port}];
  if (way == 0) {
    try {
      auto [socket, on] = on_loopback(true);
      way = on;
      i.fresh.emplace_back(std::move(socket), std::pair{address, port});
    } catch (const std::runtime_error&) {
      return 0;  // no descriptor left: then this connection stays whole
    }
    i.ring();
  }
  return way;
}

void broken_link::opened(int fd, bool redirected) {
  impl& i = *impl_;
  const std::lock_guard lock(i.mutex);
  if (redirected || fd < 0) return;
  i.direct.insert(fd);
  if (i.how != mode::whole) (void)::shutdown(fd, SHUT_RDWR);  // it began while the fault did
}

void broken_link::closing(int fd) {
  const std::lock_guard lock(impl_->mutex);
  impl_->direct.erase(fd);
}

}  // namespace troupe::faults
