// A closed-loop HTTP/1.1 load generator: every connection sends its request, reads the reply and sends it
// again. One thread on epoll, so that it costs the server's machine little; README.md says what it reports.
//   bench_http_load http://HOST:PORT/PATH [--connections N] [--seconds S] [--warmup S] [--body FILE]...
//                   [--header "Name: value"]... [--method M] [--pid SERVER] [--json]
// Several --body files are sent in turn. --pid: CPU seconds of that process (and its threads) a request.
// Exit: 0; 1 when any request failed or none was answered; 2 bad usage.

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

struct options {
  std::string host;
  std::string port = "80";
  std::string path = "/";
  int connections = 1;
  double seconds = 5;
  double warmup = 0.5;
  std::vector<std::string> bodies;
  std::vector<std::string> headers;
  std::string method;
  long pid = 0;
  bool json = false;
};

struct bad_usage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string contents(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw bad_usage("--body " + file + " can't be read");
  return {std::istreambuf_iterator<char>(in), {}};
}

void read_url(std::string_view url, options& o) {
  constexpr std::string_view scheme = "http://";
  if (url.substr(0, scheme.size()) != scheme) throw bad_usage("the URL must begin with http://");
  url.remove_prefix(scheme.size());
  const auto slash = std::min(url.find('/'), url.size());
  std::string_view authority = url.substr(0, slash);
  if (slash < url.size()) o.path = url.substr(slash);
  const auto colon = authority.rfind(':');
  if (colon != std::string_view::npos && authority.back() != ']') {
    o.port = authority.substr(colon + 1);
    authority = authority.substr(0, colon);
  }
  if (!authority.empty() && authority.front() == '[') authority = authority.substr(1, authority.size() - 2);
  o.host = authority;
  if (o.host.empty()) throw bad_usage("the URL has no host");
}

options read_arguments(int count, char** arguments) {
  options o;
  bool url = false;
  for (int i = 1; i < count; ++i) {
    const std::string word = arguments[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= count) throw bad_usage(word + " needs a value");
      return arguments[++i];
    };
    const auto number = [&] {
      const std::string text = value();
      char* end = nullptr;
      const double n = std::strtod(text.c_str(), &end);
      if (text.empty() || *end != 0 || !(n >= 0)) throw bad_usage(word + " " + text + " is no number");
      return n;
    };
    if (word == "--connections")
      o.connections = static_cast<int>(number());
    else if (word == "--seconds")
      o.seconds = number();
    else if (word == "--warmup")
      o.warmup = number();
    else if (word == "--body")
      o.bodies.push_back(contents(value()));
    else if (word == "--header")
      o.headers.push_back(value());
    else if (word == "--method")
      o.method = value();
    else if (word == "--pid")
      o.pid = static_cast<long>(number());
    else if (word == "--json")
      o.json = true;
    else if (word.substr(0, 2) == "--" || url)
      throw bad_usage("unknown argument " + word);
    else {
      read_url(word, o);
      url = true;
    }
  }
  if (!url) throw bad_usage("a URL is needed");
  if (o.connections < 1) throw bad_usage("--connections must be at least 1");
  return o;
}

/// User and system time of a process with all its threads, from /proc.
double cpu_seconds(long pid) {
  if (pid == 0) return 0;
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) throw std::runtime_error("no process " + std::to_string(pid));
  unsigned long user = 0;
  unsigned long system = 0;
  std::sscanf(text.c_str() + name_end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
              &system);
  return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

/// Latencies in buckets of 1/64 of their power of two: within 1.6 %.
class histogram {
 public:
  void add(std::uint64_t nanoseconds) {
    ++counts_[slot(nanoseconds)];
    ++total_;
    most_ = std::max(most_, nanoseconds);
  }
  [[nodiscard]] double milliseconds_at(double share) const {
    const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(total_));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen > wanted) return static_cast<double>(value(i)) * 1e-6;
    }
    return static_cast<double>(most_) * 1e-6;
  }
  [[nodiscard]] double most_milliseconds() const { return static_cast<double>(most_) * 1e-6; }

 private:
  static std::size_t slot(std::uint64_t v) {
    if (v < 64) return static_cast<std::size_t>(v);
    const int shift = 57 - __builtin_clzll(v);
    return static_cast<std::size_t>(shift + 1) * 64 + static_cast<std::size_t>((v >> shift) & 63U);
  }
  static std::uint64_t value(std::size_t i) {
    if (i < 64) return i;
    const std::size_t shift = i / 64 - 1;
    return (64ULL + i % 64) << shift;
  }
  std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(64 * 60);
  std::uint64_t total_ = 0;
  std::uint64_t most_ = 0;
};

struct connection {
  int socket = -1;
  std::size_t request = 0;
  std::size_t sent = 0;
  std::string got;
  std::size_t head = 0;   // its length, once it is here
  std::size_t whole = 0;  // with the body
  bool chunked = false;
  bool close = false;
  int status = 0;
  clock_type::time_point began;
};

class load {
 public:
  explicit load(options o) : o_(std::move(o)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    const std::vector<std::string> none = {""};
    const std::string method = !o_.method.empty() ? o_.method : o_.bodies.empty() ? "GET" : "POST";
    bool typed = false;
    for (const auto& h : o_.headers) typed = typed || h.substr(0, 12) == "Content-Type";
    for (const auto& body : o_.bodies.empty() ? none : o_.bodies) {
      std::string r = method + " " + o_.path + " HTTP/1.1\r\nHost: " + o_.host + ":" + o_.port + "\r\n";
      if (!o_.bodies.empty()) {
        r += "Content-Length: " + std::to_string(body.size()) + "\r\n";
        if (!typed) r += "Content-Type: application/json\r\n";
      }
      for (const auto& h : o_.headers) r += h + "\r\n";
      requests_.push_back(r + "\r\n" + body);
    }
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    if (::getaddrinfo(o_.host.c_str(), o_.port.c_str(), &hints, &address_) != 0)
      throw bad_usage(o_.host + ":" + o_.port + " is no address");
  }
  ~load() {
    if (address_ != nullptr) ::freeaddrinfo(address_);
    ::close(epoll_);
  }
  load(const load&) = delete;
  load& operator=(const load&) = delete;

  int run() {
    for (int i = 0; i < o_.connections; ++i) {
      connections_.push_back(std::make_unique<connection>());
      connections_.back()->request = static_cast<std::size_t>(i) % requests_.size();
      if (!open(*connections_.back())) {
        std::fprintf(stderr, "bench_http_load: %s:%s does not answer: %s\n", o_.host.c_str(), o_.port.c_str(),
                     std::strerror(errno));
        return 1;
      }
    }
    const auto start = clock_type::now();
    const auto measured_from = start + seconds(o_.warmup);
    const auto end = measured_from + seconds(o_.seconds);
    auto now = start;
    double cpu = 0;
    auto real_start = measured_from;
    while (now < end) {
      epoll_event events[256];
      const int n = ::epoll_wait(epoll_, events, 256, 100);
      now = clock_type::now();
      if (!measuring_ && now >= measured_from) {
        measuring_ = true;
        real_start = now;
        cpu = cpu_seconds(o_.pid);
      }
      for (int i = 0; i < n; ++i) ready(*static_cast<connection*>(events[i].data.ptr));
    }
    cpu = cpu_seconds(o_.pid) - cpu;
    report(std::chrono::duration<double>(now - real_start).count(), cpu);
    return answered_ > 0 && errors_ == 0 && not_2xx_ == 0 ? 0 : 1;
  }

 private:
  static clock_type::duration seconds(double s) {
    return std::chrono::duration_cast<clock_type::duration>(std::chrono::duration<double>(s));
  }

  bool open(connection& c) {
    c.socket = ::socket(address_->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c.socket < 0 || ::connect(c.socket, address_->ai_addr, address_->ai_addrlen) != 0) {
      if (c.socket >= 0) ::close(c.socket);
      c.socket = -1;
      return false;
    }
    const int on = 1;
    ::setsockopt(c.socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_event e{};
    e.events = EPOLLIN | EPOLLOUT | EPOLLET;
    e.data.ptr = &c;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, c.socket, &e);
    begin(c);
    return true;
  }

  void begin(connection& c) {
    c.sent = 0;
    c.got.clear();
    c.head = c.whole = 0;
    c.chunked = c.close = false;
    c.began = clock_type::now();
    push(c);
  }

  bool push(connection& c) {
    const std::string& r = requests_[c.request];
    while (c.sent < r.size()) {
      const auto n = ::send(c.socket, r.data() + c.sent, r.size() - c.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0) return errno == EAGAIN;
      c.sent += static_cast<std::size_t>(n);
    }
    return true;
  }

  void again(connection& c, bool error) {
    if (error && measuring_) ++errors_;
    ::close(c.socket);
    if (!open(c)) {
      if (measuring_) ++errors_;
      ++lost_;
    }
  }

  void ready(connection& c) {
    if (c.socket < 0) return;
    if (c.sent < requests_[c.request].size() && !push(c)) return again(c, true);
    for (;;) {
      static char bytes[65536];
      const auto n = ::recv(c.socket, bytes, sizeof bytes, MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0) return again(c, true);
      c.got.append(bytes, static_cast<std::size_t>(n));
      if (!whole(c)) {
        if (static_cast<std::size_t>(n) < sizeof bytes) return;
        continue;
      }
      if (measuring_) {
        ++answered_;
        latencies_.add(static_cast<std::uint64_t>((clock_type::now() - c.began).count()));
        if (c.status < 200 || c.status > 299) ++not_2xx_;
        ++statuses_[c.status];
      }
      c.request = (c.request + 1) % requests_.size();
      if (c.close) return again(c, false);
      begin(c);
      return;
    }
  }

  /// The reply is here in full.
  bool whole(connection& c) {
    if (c.head == 0) {
      const auto end = c.got.find("\r\n\r\n");
      if (end == std::string::npos) return false;
      c.head = end + 4;
      c.status = c.got.size() > 12 ? std::atoi(c.got.c_str() + 9) : 0;
      std::string low = c.got.substr(0, end + 2);
      std::transform(low.begin(), low.end(), low.begin(),
                     [](char x) { return x >= 'A' && x <= 'Z' ? static_cast<char>(x + 32) : x; });
      std::size_t length = 0;
      if (const auto at = low.find("\r\ncontent-length:"); at != std::string::npos)
        length = std::strtoull(low.c_str() + at + 17, nullptr, 10);
      c.chunked = low.find("\r\ntransfer-encoding: chunked") != std::string::npos;
      c.close = low.find("\r\nconnection: close") != std::string::npos;
      c.whole = c.head + length;
    }
    if (c.chunked) return c.got.size() >= c.head + 5 && c.got.compare(c.got.size() - 5, 5, "0\r\n\r\n") == 0;
    return c.got.size() >= c.whole;
  }

  void report(double took, double cpu) const {
    const double rate = static_cast<double>(answered_) / took;
    const double us = answered_ > 0 ? cpu * 1e6 / static_cast<double>(answered_) : 0;
    std::string codes;
    for (const auto& [status, n] : statuses_)
      codes += (codes.empty() ? "\"" : ", \"") + std::to_string(status) + "\": " + std::to_string(n);
    if (o_.json)
      std::printf(
          "{\"connections\": %d, \"seconds\": %.3f, \"requests\": %llu, \"requests_per_second\": %.1f, "
          "\"p50_ms\": %.4f, \"p90_ms\": %.4f, \"p99_ms\": %.4f, \"p999_ms\": %.4f, \"max_ms\": %.4f, "
          "\"errors\": %llu, \"not_2xx\": %llu, \"lost_connections\": %llu, \"statuses\": {%s}, "
          "\"server_cpu_us_per_request\": %.3f}\n",
          o_.connections, took, n(answered_), rate, latencies_.milliseconds_at(0.5),
          latencies_.milliseconds_at(0.9), latencies_.milliseconds_at(0.99),
          latencies_.milliseconds_at(0.999), latencies_.most_milliseconds(), n(errors_), n(not_2xx_),
          n(lost_), codes.c_str(), us);
    else
      std::printf(
          "%d connections: %.0f requests/s, p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, max %.3f ms, "
          "%llu errors, %llu not 2xx%s",
          o_.connections, rate, latencies_.milliseconds_at(0.5), latencies_.milliseconds_at(0.99),
          latencies_.milliseconds_at(0.999), latencies_.most_milliseconds(), n(errors_), n(not_2xx_),
          o_.pid == 0 ? "\n" : "");
    if (!o_.json && o_.pid != 0) std::printf(", server CPU %.2f us/request\n", us);
  }
  static unsigned long long n(std::uint64_t v) { return v; }

  options o_;
  int epoll_;
  addrinfo* address_ = nullptr;
  std::vector<std::string> requests_;
  std::vector<std::unique_ptr<connection>> connections_;
  bool measuring_ = false;
  histogram latencies_;
  std::map<int, std::uint64_t> statuses_;
  std::uint64_t answered_ = 0;
  std::uint64_t errors_ = 0;
  std::uint64_t not_2xx_ = 0;
  std::uint64_t lost_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
  try {
    return load(read_arguments(count, arguments)).run();
  } catch (const bad_usage& e) {
    std::fprintf(stderr, "bench_http_load: %s\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_http_load: %s\n", e.what());
    return 1;
  }
}
