#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <sstream>

#include "cli/commands.hpp"
#include "runtime/observe/log.hpp"

namespace troupe::cli {
namespace {

std::atomic<bool> stop{false};

void on_signal(int) {
  if (stop.exchange(true)) _exit(130);
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

const std::atomic<bool>& stop_requested() {
  static std::once_flag once;
  std::call_once(once, [] {
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    std::signal(SIGPIPE, SIG_IGN);
  });
  return stop;
}

config::loaded settings_of(const common_options& common, bool log_to_stderr) {
  config::sources from;
  if (!common.config.empty()) from.file = common.config;
  from.set = common.set;
  config::loaded l = config::load(from);
  observe::log_options o;
  o.least = static_cast<observe::level>(l.values.log.level);
  o.format = static_cast<observe::log_format>(l.values.log.format);
  o.to_stderr = log_to_stderr;
  observe::open_log(o);
  for (const auto& w : l.warnings) observe::log(observe::level::warn, "config", "config_warning", w);
  return l;
}

void progress_line::show(const std::string& text) {
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  const std::int64_t now = now_ms();
  if (last_ == 0) last_ = now;  // nothing in the first moments of a short command
  if (now - last_ < (terminal ? 200 : 5000)) return;
  last_ = now;
  if (terminal) {
    std::fprintf(stderr, "\r\x1b[K%s", text.c_str());
    shown_ = true;
  } else {
    std::fprintf(stderr, "%s\n", text.c_str());
  }
}

void progress_line::clear() {
  if (shown_) std::fprintf(stderr, "\r\x1b[K");
  shown_ = false;
}

std::optional<std::string> fetch(int port, const std::string& path) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::nullopt;
  timeval limit{3, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string all;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
    const std::string ask = "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if (::send(fd, ask.data(), ask.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(ask.size())) {
      char part[16384];
      for (ssize_t n = 0; (n = ::recv(fd, part, sizeof part, 0)) > 0;) all.append(part, static_cast<std::size_t>(n));
    }
  }
  ::close(fd);
  const auto body = all.find("\r\n\r\n");
  if (all.rfind("HTTP/1.1 200", 0) != 0 || body == std::string::npos) return std::nullopt;
  return all.substr(body + 4);
}

double metric(const std::string& exposition, const std::string& name, const std::string& labels) {
  double sum = 0;
  std::istringstream lines(exposition);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(name, 0) != 0 || (line[name.size()] != '{' && line[name.size()] != ' ')) continue;
    if (!labels.empty() && line.find(labels) == std::string::npos) continue;
    sum += std::strtod(line.c_str() + line.rfind(' ') + 1, nullptr);
  }
  return sum;
}

}  // namespace troupe::cli
