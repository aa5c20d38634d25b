#include "tests/runtime/store/servers.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

namespace troupe::store {
namespace {

constexpr auto patience = std::chrono::seconds(60);

[[nodiscard]] int listen_on(int port, int& bound) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  a.sin_port = htons(static_cast<std::uint16_t>(port));
  const int yes = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  socklen_t n = sizeof a;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&a), n) != 0 || ::listen(fd, 16) != 0)
    throw std::runtime_error("cannot listen");
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&a), &n);
  bound = ntohs(a.sin_port);
  return fd;
}

/// Its process id; its output comes through `output`.
[[nodiscard]] pid_t spawn(const std::vector<std::string>& words, int& output) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  std::vector<char*> argv;
  for (const auto& w : words) argv.push_back(const_cast<char*>(w.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[1], 1);
    ::dup2(ends[1], 2);
    ::close_range(3, ~0U, 0);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  output = ends[0];
  return pid;
}

}  // namespace

nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

temporary_directory::temporary_directory() {
  std::string name = (std::filesystem::temp_directory_path() / "troupe-store-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary directory");
  path_ = name;
}

temporary_directory::~temporary_directory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void run(const std::vector<std::string>& words) {
  int output = -1;
  const pid_t pid = spawn(words, output);
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t n = 0; (n = ::read(output, buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(n));
  ::close(output);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (status != 0) throw std::runtime_error(words[0] + " " + words[1] + ": " + text);
}

bool installed(const std::string& program) {
  try {
    run({"/bin/sh", "-c", "command -v " + program});
    return true;
  } catch (const std::runtime_error&) {
    return false;
  }
}

int free_port() {
  int port = 0;
  ::close(listen_on(0, port));
  return port;
}

redis_server::redis_server(std::vector<std::string> options, bool tls)
    : options_(std::move(options)), tls_(tls) {
  for (int attempt = 0; attempt < 5; ++attempt) {  // someone else may take the port
    port_ = free_port();
    if (launch()) return;
  }
  throw std::runtime_error("redis-server does not start");
}

redis_server::~redis_server() {
  kill();
}

void redis_server::start() {
  if (!launch()) throw std::runtime_error("redis-server does not start again");
}

bool redis_server::launch() {
  const std::string port = std::to_string(port_);
  std::vector<std::string> words = {
      "redis-server", "--bind", "127.0.0.1",    "--port", tls_ ? "0" : port, "--dir", directory_ / ".",
      "--save",       "",       "--appendonly", "no"};
  if (tls_) words.insert(words.end(), {"--tls-port", port});
  words.insert(words.end(), options_.begin(), options_.end());
  pid_ = spawn(words, output_);
  std::string text;
  std::array<char, 4096> buffer{};
  const nanos until = steady_now() + 20 * second;
  while (text.find("Ready to accept connections") == std::string::npos) {
    pollfd p{output_, POLLIN, 0};
    const nanos left = (until - steady_now()) / ms;
    const ssize_t n = left > 0 && ::poll(&p, 1, static_cast<int>(left)) > 0
                          ? ::read(output_, buffer.data(), buffer.size())
                          : 0;
    if (n <= 0) {
      kill();
      return false;
    }
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return true;
}

void redis_server::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  ::close(output_);
  pid_ = -1;
}

void redis_server::freeze() {
  ::kill(pid_, SIGSTOP);
  ::waitpid(pid_, nullptr, WUNTRACED);
}

void redis_server::thaw() {
  ::kill(pid_, SIGCONT);
}

std::string redis_server::command(const std::vector<std::string>& words, const std::string& password) const {
  const std::unique_ptr<redisContext, decltype(&redisFree)> c(redisConnect("127.0.0.1", port_), &redisFree);
  const auto ask = [&](const std::vector<std::string>& w) -> std::string {
    std::vector<const char*> argv;
    std::vector<std::size_t> sizes;
    for (const auto& s : w) argv.push_back(s.data()), sizes.push_back(s.size());
    auto* r = static_cast<redisReply*>(
        redisCommandArgv(c.get(), static_cast<int>(w.size()), argv.data(), sizes.data()));
    if (!r) return std::string("(lost) ") + c->errstr;
    const std::unique_ptr<redisReply, decltype(&freeReplyObject)> held(r, &freeReplyObject);
    if (r->type == REDIS_REPLY_NIL) return "(nil)";
    if (r->type == REDIS_REPLY_INTEGER) return std::to_string(r->integer);
    if (!r->str) return "(array)";
    return (r->type == REDIS_REPLY_ERROR ? "(error) " : "") + std::string(r->str, r->len);
  };
  if (!password.empty()) ask({"AUTH", password});
  return ask(words);
}

scripted_server::scripted_server(std::function<void(int, int)> serve) : serve_(std::move(serve)) {
  listener_ = listen_on(0, port_);
  thread_ = std::thread([this] {
    for (int number = 0;; ++number) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      {
        const std::lock_guard lock(mutex_);
        if (fd < 0 || ending_) {
          if (fd >= 0) ::close(fd);
          return;
        }
        current_ = fd;
        ++connections_;
      }
      changed_.notify_all();
      serve_(fd, number);
      const std::lock_guard lock(mutex_);
      current_ = -1;
      ::close(fd);
    }
  });
}

scripted_server::~scripted_server() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    if (current_ >= 0) ::shutdown(current_, SHUT_RDWR);
    ::shutdown(listener_, SHUT_RDWR);
  }
  thread_.join();
  ::close(listener_);
}

bool scripted_server::wait_connections(int n, nanos within) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::nanoseconds(within), [&] { return connections_ >= n; });
}

std::string scripted_server::receive(int fd) {
  std::array<char, 65536> buffer{};
  const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
  return std::string(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(0, n)));
}

void scripted_server::send(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

client::client(redis_options o) {
  o.log = [s = shared_](int, const std::string& text) {
    {
      const std::lock_guard lock(s->mutex);
      s->log.push_back(text);
    }
    s->changed.notify_all();
  };
  cache_ = make_redis(std::move(o));
}

redis_options client::options(int port) {
  redis_options o;
  o.host = "127.0.0.1";
  o.port = port;
  o.connect_timeout = 60 * second;
  o.budget = 60 * second;
  o.reconnect_min = 10 * ms;
  o.reconnect_max = 50 * ms;
  o.seed = 1;
  return o;
}

void client::ask(std::vector<std::string> keys) {
  cache_->get(std::move(keys), [s = shared_](get_result r) {
    {
      const std::lock_guard lock(s->mutex);
      s->results.push_back(std::move(r));
    }
    s->changed.notify_all();
  });
}

std::vector<get_result> client::take(std::size_t n) {
  std::unique_lock lock(shared_->mutex);
  if (!shared_->changed.wait_for(lock, patience,
                                 [&] { return shared_->results.size() >= shared_->taken + n; }))
    throw std::runtime_error("an answer is missing");
  const auto first = shared_->results.begin() + static_cast<std::ptrdiff_t>(shared_->taken);
  shared_->taken += n;
  return {first, first + static_cast<std::ptrdiff_t>(n)};
}

std::size_t client::answers() {
  const std::lock_guard lock(shared_->mutex);
  return shared_->results.size();
}

get_result client::get(std::vector<std::string> keys) {
  ask(std::move(keys));
  return take(1).front();
}

store_status client::wait_status(const std::function<bool(const store_status&)>& good) {
  std::unique_lock lock(shared_->mutex);
  store_status s;
  shared_->changed.wait_for(lock, patience, [&] {
    s = cache_->status();
    return good(s);
  });
  return s;
}

store_status client::connected() {
  return wait_status([](const auto& s) { return s.connected; });
}

store_status client::not_connected() {
  return wait_status([](const auto& s) { return !s.connected && s.reason != "connecting"; });
}

store_status client::fatal() {
  return wait_status([](const auto& s) { return s.fatal; });
}

bool client::wait_counters(const std::function<bool(const store_counters&)>& good) {
  const auto until = std::chrono::steady_clock::now() + patience;
  std::unique_lock lock(shared_->mutex);
  while (!good(cache_->counters())) {
    if (std::chrono::steady_clock::now() > until) return false;
    shared_->changed.wait_for(lock, std::chrono::milliseconds(1));  // a counter tells nobody
  }
  return true;
}

bool client::wait_logged(const std::string& part) {
  std::unique_lock lock(shared_->mutex);
  return shared_->changed.wait_for(lock, patience, [&] {
    return std::any_of(shared_->log.begin(), shared_->log.end(),
                       [&](const std::string& line) { return line.find(part) != std::string::npos; });
  });
}

std::vector<std::string> client::logged() {
  const std::lock_guard lock(shared_->mutex);
  return shared_->log;
}

}  // namespace troupe::store
