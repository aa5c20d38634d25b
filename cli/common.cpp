#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "runtime/kafka/client.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/traffic/http_run.hpp"

namespace troupe::cli {
namespace {

std::atomic<bool> stop{false};

void on_signal(int) {
  if (stop.exchange(true)) _exit(130);
}

constexpr std::string_view properties_prefix = "kafka.properties.";

/// Where each of kafka.properties came from, of the settings that were read last.
struct property_origins {
  std::mutex mutex;
  std::map<std::string, std::string> origins;
};
property_origins& given_properties() {
  static property_origins all;
  return all;
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
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

void tell_error(std::string_view lines) {
  while (!lines.empty()) {
    const std::string one(lines.substr(0, lines.find('\n')));
    lines.remove_prefix(std::min(lines.size(), one.size() + 1));
    std::fprintf(stderr, "troupe: %s\n", one.c_str());
  }
}

void print_error_document(const std::string& lines) {
  const nlohmann::ordered_json document = {{"error", lines}};
  std::printf("%s\n",
              document.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

config::loaded read_settings(const common_options& common, settings_for whom) {
  config::sources from;
  from.node = whom == settings_for::node;
  if (!common.config.empty()) from.file = common.config;
  from.set = common.set;
  if (!common.brokers.empty()) from.flags.push_back({"--brokers", "kafka.brokers", common.brokers});
  if (!common.models.empty()) from.flags.push_back({"--models", "models.directory", common.models});
  from.property_fault = kafka::property_fault;
  from.misfits = kafka_misfits;
  config::loaded l = config::load(from);
  {
    auto& given = given_properties();
    const std::lock_guard lock(given.mutex);
    for (const auto& one : l.effective)
      if (one.key.starts_with(properties_prefix))
        given.origins[one.key.substr(properties_prefix.size())] = one.origin;
  }
  return l;
}

void open_log(const config::settings& settings, bool to_stderr) {
  observe::log_options o;
  o.least = static_cast<observe::level>(settings.log.level);
  o.format = static_cast<observe::log_format>(settings.log.format);
  o.to_stderr = to_stderr;
  observe::open_log(o);
}

std::string located(const kafka::property_error& e) {
  auto& given = given_properties();
  const std::lock_guard lock(given.mutex);
  const auto at = given.origins.find(e.given);
  return at == given.origins.end() ? e.what() : at->second + ": " + e.what();
}

config::loaded settings_of(const common_options& common, bool log_to_stderr, settings_for whom) {
  config::loaded l = read_settings(common, whom);
  open_log(l.values, log_to_stderr);
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

std::string read_text(const std::string& file, const std::string& option) {
  const std::string named = option.empty() ? file : option + " " + file;
  if (file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::error_code error;
  if (std::filesystem::is_directory(file, error))
    throw usage_error(named + ": is a directory, expected a file");
  std::ifstream in(file, std::ios::binary);
  if (!in) throw usage_error(named + ": can't be read: " + std::strerror(errno));
  try {
    return {std::istreambuf_iterator<char>(in), {}};
  } catch (const std::ios_base::failure&) {
    throw usage_error(named + ": can't be read to its end");
  }
}

std::optional<std::int64_t> whole(std::string_view text) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

std::string listed(const std::string& head, const std::vector<std::string>& all) {
  if (all.size() == 1) return head + ": " + all.front();
  std::string text = head;
  for (const auto& one : all) text += (text.size() == head.size() ? ":\n  " : "\n  ") + one;
  return text;
}

std::string count_text(std::uint64_t n, const std::string& of) {
  return std::to_string(n) + " " + of + (n == 1 ? "" : "s");
}

std::string times_text(std::uint64_t n) {
  return n == 1 ? "once" : std::to_string(n) + " times";
}

std::string utc_text(std::int64_t ms) {
  const std::time_t at = ms / 1000;
  std::tm utc{};
  char text[32];
  if (ms < 0 || !gmtime_r(&at, &utc) || std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
    return "?";
  return text;
}

std::string span_text(double seconds) {
  char text[32];
  if (seconds < 120)
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  else if (seconds < 7200)
    std::snprintf(text, sizeof text, "%.0f min", seconds / 60);
  else
    std::snprintf(text, sizeof text, "%.1f h", seconds / 3600);
  return text;
}

std::string node_url(const std::string& text, const std::string& option) {
  std::string url = text.find("://") == std::string::npos ? "http://" + text : text;
  while (url.ends_with('/')) url.pop_back();
  if (!url.starts_with("http://"))
    throw usage_error(option + " " + text + ": expected http://host:port, such as http://node:8000");
  try {
    (void)traffic::read_url(url);
  } catch (const std::invalid_argument& e) {
    throw usage_error(option + " " + e.what());
  }
  return url;
}

http_answer http_call(const std::string& method, const std::string& url, const std::string& token,
                      const std::string& body, int patience_s) {
  const traffic::http_target node = traffic::read_url(url);
  std::vector<std::pair<std::string, std::string>> headers = {{"Connection", "close"}};
  if (!token.empty()) headers.emplace_back("Authorization", "Bearer " + token);
  if (method != "GET") headers.emplace_back("Content-Type", "application/json");
  const std::string ask = traffic::http_request(node, method, body, headers);

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(node.host.c_str(), node.port.c_str(), &hints, &found); error != 0)
    throw std::runtime_error(url + ": " + ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  std::string why = "no address";
  for (const addrinfo* to = found; to; to = to->ai_next) {
    const int fd = ::socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    const timeval limit{patience_s, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    std::string all;
    const bool connected = ::connect(fd, to->ai_addr, to->ai_addrlen) == 0;
    if (connected) {
      if (::send(fd, ask.data(), ask.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(ask.size())) {
        char part[16384];
        for (ssize_t n = 0; (n = ::recv(fd, part, sizeof part, 0)) > 0;)
          all.append(part, static_cast<std::size_t>(n));
      }
    } else {
      why = std::strerror(errno);
    }
    ::close(fd);
    if (!connected) continue;
    const auto head = all.find("\r\n\r\n");
    if (all.starts_with("HTTP/1.1 ") && head != std::string::npos)
      return {std::atoi(all.c_str() + 9), all.substr(9, all.find('\r') - 9), all.substr(head + 4)};
    why = all.empty() ? "no answer" : all.substr(0, all.find('\r'));
  }
  throw std::runtime_error(url + ": " + why);
}

std::string fetch(const std::string& url) {
  http_answer got = http_call("GET", url, {}, {});
  if (got.status != 200) throw std::runtime_error(url + ": HTTP/1.1 " + got.status_line);
  return std::move(got.body);
}

std::optional<double> cache_counts::ratio_since(const cache_counts& before) const {
  const double asked = lookups - before.lookups;
  if (asked <= 0) return std::nullopt;
  return (hits - before.hits) / asked;
}

cache_counts read_cache_counts(const std::string& exposition) {
  cache_counts counts;
  std::istringstream lines(exposition);
  for (std::string line; std::getline(lines, line);) {
    const bool hit = line.starts_with("troupe_cache_hits_total{");
    if (!hit && !line.starts_with("troupe_cache_misses_total{")) continue;
    const double value = std::strtod(line.c_str() + line.rfind(' ') + 1, nullptr);
    if (hit) counts.hits += value;
    if (line.find("level=\"1\"") != std::string::npos) counts.lookups += value;
  }
  return counts;
}

cache_counts cache_counts_of(const std::string& given) {
  const std::string url = node_url(given, "--metrics");
  const bool has_path = url.find('/', std::string_view("http://").size()) != std::string::npos;
  return read_cache_counts(fetch(has_path ? url : url + "/metrics"));
}

}  // namespace troupe::cli
