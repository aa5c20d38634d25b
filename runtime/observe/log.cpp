#include "runtime/observe/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

namespace troupe::observe {
namespace {

constexpr std::array<std::string_view, 4> names = {"debug", "info", "warn", "error"};
constexpr std::array<spdlog::level::level_enum, 4> spdlog_levels = {spdlog::level::debug, spdlog::level::info,
                                                                    spdlog::level::warn, spdlog::level::err};

struct output {
  std::unique_ptr<spdlog::logger> logger;
  bool json = true;
  std::function<std::int64_t()> clock;
};

struct silence {
  std::int64_t until = 0;
  std::size_t suppressed = 0;
};

struct state {
  std::atomic<level> least{level::info};
  std::mutex mutex;  // guards the rest
  std::shared_ptr<const output> out;
  std::map<std::string, silence, std::less<>>
      silences;  // component + event: both are the program's own, so few
};

std::int64_t steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::shared_ptr<const output> make_output(const log_options& options) {
  auto made = std::make_shared<output>();
  std::FILE* file = options.to_stderr ? stderr : stdout;
  const bool terminal = ::isatty(::fileno(file)) == 1;
  made->json = options.format == log_format::json || (options.format == log_format::automatic && !terminal);
  made->clock = options.clock ? options.clock : steady_now;

  const auto colour = terminal && !made->json ? spdlog::color_mode::always : spdlog::color_mode::never;
  std::shared_ptr<spdlog::sinks::sink> sink;
  if (options.to_stderr)
    sink = std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>(colour);
  else
    sink = std::make_shared<spdlog::sinks::ansicolor_stdout_sink_mt>(colour);
  made->logger = std::make_unique<spdlog::logger>("troupe", std::move(sink));
  made->logger->set_level(spdlog::level::trace);
  made->logger->flush_on(spdlog::level::trace);
  made->logger->set_pattern(made->json ? "%v" : "%H:%M:%S.%e %^%-5!l%$ %v");
  return made;
}

state& the_state() {
  static state& s = *[] {  // never destroyed: threads may log until the process is gone
    auto* made = new state;
    made->out = make_output({});
    return made;
  }();
  return s;
}

std::string utc_now() {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  const auto seconds = static_cast<std::time_t>(now / 1000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const std::size_t n = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  const auto ms = std::to_string(1000 + now % 1000);
  return std::string(text.data(), n) + "." + ms.substr(1) + "Z";
}

std::string json_line(level l, std::string_view component, std::string_view event, std::string_view message,
                      const fields& more) {
  nlohmann::ordered_json line;
  line["ts"] = utc_now();
  line["level"] = names[static_cast<std::size_t>(l)];
  line["component"] = component;
  line["event"] = event;
  line["msg"] = message;
  for (const auto& [name, value] : more) line.emplace(name, value);  // a taken name is left as it is
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

/// One line whatever the text holds: a line break in a value must not look like another entry.
void append_text(std::string& to, std::string_view text) {
  for (const char c : text) {
    if (c == '\n')
      to += "\\n";
    else if (c == '\r')
      to += "\\r";
    else if (static_cast<unsigned char>(c) < 0x20 && c != '\t')
      to += '?';
    else
      to += c;
  }
}

std::string text_line(std::string_view component, std::string_view event, std::string_view message,
                      const fields& more) {
  std::string line(component);
  line += ": ";
  append_text(line, message);
  line += " [";
  line += event;
  line += ']';
  for (const auto& [name, value] : more) {
    line += ' ';
    line += name;
    line += '=';
    const bool quotes = value.empty() || value.find(' ') != std::string::npos;
    if (quotes) line += '"';
    append_text(line, value);
    if (quotes) line += '"';
  }
  return line;
}

void write(const output& out, level l, std::string_view component, std::string_view event,
           std::string_view message, const fields& more) {
  const std::string line =
      out.json ? json_line(l, component, event, message, more) : text_line(component, event, message, more);
  out.logger->log(spdlog_levels[static_cast<std::size_t>(l)],
                  spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace

void open_log(const log_options& options) {
  auto made = make_output(options);
  state& s = the_state();
  const std::lock_guard lock(s.mutex);
  s.out = std::move(made);
  s.silences.clear();
  s.least = options.least;
}

void set_log_level(level least) {
  the_state().least = least;
}
level log_level() {
  return the_state().least;
}

void log(level l, std::string_view component, std::string_view event, std::string_view message,
         const fields& more) {
  state& s = the_state();
  if (l < s.least.load(std::memory_order_relaxed)) return;
  std::shared_ptr<const output> out;
  {
    const std::lock_guard lock(s.mutex);
    out = s.out;
  }
  write(*out, l, component, event, message, more);
}

void log_every(level l, std::string_view component, std::string_view event, int seconds,
               std::string_view message, const fields& more) {
  state& s = the_state();
  if (l < s.least.load(std::memory_order_relaxed)) return;
  std::string key(component);
  key += '/';
  key += event;
  std::shared_ptr<const output> out;
  std::size_t suppressed = 0;
  {
    const std::lock_guard lock(s.mutex);
    out = s.out;
    const std::int64_t now = out->clock();
    const auto [it, first] = s.silences.try_emplace(std::move(key));
    if (!first && now < it->second.until) {
      ++it->second.suppressed;
      return;
    }
    suppressed = std::exchange(it->second.suppressed, 0);
    it->second.until = now + std::int64_t{seconds} * 1'000'000'000;
  }
  if (suppressed == 0) {
    write(*out, l, component, event, message, more);
    return;
  }
  fields with = more;
  with.emplace_back("suppressed", std::to_string(suppressed));
  write(*out, l, component, event, message, with);
}

}  // namespace troupe::observe
