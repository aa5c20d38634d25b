// A closed-loop HTTP/1.1 load: every connection sends its request, reads the reply and sends again.
// README.md says what it reports.
//   bench_http_load http://HOST:PORT/PATH [--connections N] [--seconds S] [--warmup S] [--body FILE]...
//                   [--header "Name: value"]... [--method M] [--pid SERVER] [--json]
// Several --body files are sent in turn. --pid: CPU seconds of that process (and its threads) a request.
// Exit: 0; 1 when any request failed or none was answered; 2 bad usage.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "runtime/traffic/http_run.hpp"

namespace {

using namespace troupe;

struct options {
  traffic::http_target to;
  traffic::plan plan;
  std::vector<std::string> bodies;
  std::vector<std::pair<std::string, std::string>> headers;
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

std::pair<std::string, std::string> header(const std::string& text) {
  const auto colon = text.find(':');
  if (colon == std::string::npos || colon == 0) throw bad_usage("--header " + text + ": \"Name: value\"");
  const auto value = text.find_first_not_of(' ', colon + 1);
  return {text.substr(0, colon), value == std::string::npos ? "" : text.substr(value)};
}

options read_arguments(int count, char** arguments) {
  options o;
  o.plan.connections = 1;
  o.plan.wait_for = 10;
  double seconds = 5;
  o.plan.warmup = 0.5;
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
      o.plan.connections = static_cast<int>(number());
    else if (word == "--seconds")
      seconds = number();
    else if (word == "--warmup")
      o.plan.warmup = number();
    else if (word == "--body")
      o.bodies.push_back(contents(value()));
    else if (word == "--header")
      o.headers.push_back(header(value()));
    else if (word == "--method")
      o.method = value();
    else if (word == "--pid")
      o.pid = static_cast<long>(number());
    else if (word == "--json")
      o.json = true;
    else if (word.substr(0, 2) == "--" || url)
      throw bad_usage("unknown argument " + word);
    else {
      try {
        o.to = traffic::read_url(word);
      } catch (const std::invalid_argument& e) {
        throw bad_usage(e.what());
      }
      url = true;
    }
  }
  if (!url) throw bad_usage("a URL is needed");
  if (o.plan.connections < 1) throw bad_usage("--connections must be at least 1");
  o.plan.seconds = o.plan.warmup + seconds;
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

std::vector<std::string> requests_of(const options& o) {
  auto headers = o.headers;
  bool typed = false;
  for (const auto& [name, value] : headers) typed = typed || name == "Content-Type";
  if (!o.bodies.empty() && !typed) headers.emplace_back("Content-Type", "application/json");
  const std::string method = !o.method.empty() ? o.method : o.bodies.empty() ? "GET" : "POST";
  std::vector<std::string> out;
  for (const auto& body : o.bodies) out.push_back(traffic::http_request(o.to, method, body, headers));
  if (out.empty()) out.push_back(traffic::http_request(o.to, method, "", headers));
  return out;
}

int run(const options& o) {
  double cpu = 0;
  traffic::observer who;
  who.on_measuring = [&] { cpu = cpu_seconds(o.pid); };
  const traffic::report r = traffic::run_http(o.to, requests_of(o), o.plan, who);
  cpu = cpu_seconds(o.pid) - cpu;
  const long long answered = r.predicted;
  const long long errors = r.errors + r.lost;
  const double us = answered > 0 ? cpu * 1e6 / static_cast<double>(answered) : 0;
  std::string codes;
  for (const auto& [code, n] : r.error_codes)
    codes += (codes.empty() ? "\"" : ", \"") + code + "\": " + std::to_string(n);
  if (o.json) {
    std::printf(
        "{\"connections\": %d, \"seconds\": %.3f, \"requests\": %lld, \"requests_per_second\": %.1f, "
        "\"p50_ms\": %.4f, \"p90_ms\": %.4f, \"p99_ms\": %.4f, \"p999_ms\": %.4f, \"max_ms\": %.4f, "
        "\"errors\": %lld, \"error_codes\": {%s}, \"server_cpu_us_per_request\": %.3f}\n",
        o.plan.connections, r.duration_s, answered, r.requests_per_second, r.p50_ms, r.p90_ms, r.p99_ms,
        r.p999_ms, r.max_ms, errors, codes.c_str(), us);
  } else {
    std::printf(
        "%d connections: %.0f requests/s, p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, max %.3f ms, %lld errors",
        o.plan.connections, r.requests_per_second, r.p50_ms, r.p99_ms, r.p999_ms, r.max_ms, errors);
    if (o.pid != 0) std::printf(", server CPU %.2f us/request", us);
    std::printf("\n");
  }
  return answered > 0 && errors == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run(read_arguments(count, arguments));
  } catch (const bad_usage& e) {
    std::fprintf(stderr, "bench_http_load: %s\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_http_load: %s\n", e.what());
    return 1;
  }
}
