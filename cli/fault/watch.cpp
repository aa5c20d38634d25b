#include "cli/fault/watch.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

namespace troupe::cli {
namespace {

using std::string_view_literals::operator""sv;

/// What only grows when something goes wrong.
constexpr std::array growing = {
    "inference_errors_total"sv,        "inference_exceptions_total"sv,    "troupe_actor_restarts_total"sv,
    "troupe_breaker_openings_total"sv, "troupe_cache_errors_total"sv,     "troupe_dead_letters_total"sv,
    "troupe_delivery_errors_total"sv,  "troupe_expired_requests_total"sv, "troupe_late_requests_total"sv,
    "troupe_rebalances_total"sv,       "troupe_shed_requests_total"sv};
constexpr double much_memory = 64e6;  // more of it is a sign

std::string label(std::string_view labels, std::string_view name) {
  const std::string key = std::string(name) + "=\"";
  std::size_t at = 0;
  while ((at = labels.find(key, at)) != std::string_view::npos) {
    if (at == 0 || labels[at - 1] == ',') {
      const auto from = at + key.size();
      return std::string(labels.substr(from, labels.find('"', from) - from));
    }
    ++at;
  }
  return {};
}

void read_line(look& l, std::string_view line) {
  if (line.empty() || line[0] == '#') return;
  const auto space = line.rfind(' ');
  if (space == std::string_view::npos) return;
  const double value = std::strtod(std::string(line.substr(space + 1)).c_str(), nullptr);
  const std::string_view series = line.substr(0, space);
  const auto brace = series.find('{');
  const std::string_view name = series.substr(0, brace);
  const std::string_view labels = brace == std::string_view::npos || !series.ends_with('}')
                                      ? ""sv
                                      : series.substr(brace + 1, series.size() - brace - 2);
  const std::string door = label(labels, "door");
  door_counts& of = door == "http" || door == "grpc" ? l.api : l.pipeline;
  if (name == "inference_requests_total") {
    of.requests += value;
    if (label(labels, "status") == "error") of.errors += value;
  } else if (name == "inference_request_duration_seconds_bucket") {
    const std::string le = label(labels, "le");
    of.within[le == "+Inf" ? std::numeric_limits<double>::infinity() : std::strtod(le.c_str(), nullptr)] +=
        value;
  } else if (name == "troupe_credit_oldest_age_seconds") {
    l.lag_s = std::max(l.lag_s, value);
  } else if (name == "troupe_cache_hits_total") {
    l.cached += value;
  } else if (name == "process_resident_memory_bytes") {
    l.memory = value;
  } else if (name == "troupe_registry_up" || name == "troupe_assigned_partitions") {
    l.stands[std::string(series)] = -value;
  } else if (std::find(growing.begin(), growing.end(), name) != growing.end()) {
    l.grows[std::string(series)] = value;
  }
}

double quantile(const std::map<double, double>& before, const std::map<double, double>& after, double q) {
  const auto delta = [&](const std::pair<const double, double>& b) {
    const auto it = before.find(b.first);
    return b.second - (it == before.end() ? 0 : it->second);
  };
  if (after.empty()) return 0;
  const double all = delta(*after.rbegin());
  if (all <= 0) return 0;
  double from = 0, seen = 0;
  for (const auto& b : after) {
    const double now = delta(b);
    if (now >= q * all) {
      if (std::isinf(b.first)) return b.first;
      // As Prometheus does: evenly within the bucket.
      return now > seen ? from + (b.first - from) * (q * all - seen) / (now - seen) : b.first;
    }
    from = b.first;
    seen = now;
  }
  return std::numeric_limits<double>::infinity();
}

measured::side side_of(const door_counts& before, const door_counts& after) {
  measured::side s;
  s.requests = after.requests - before.requests;
  s.errors = after.errors - before.errors;
  s.p95_s = quantile(before.within, after.within, 0.95);
  s.p99_s = quantile(before.within, after.within, 0.99);
  return s;
}

std::string text(const char* format, double a, double b) {
  std::array<char, 96> out{};
  std::snprintf(out.data(), out.size(), format, a, b);
  return out.data();
}

void object(std::vector<std::string>& to, const std::string& side, const latency_objective& o,
            const measured::side& m) {
  if (m.p95_s > o.p95_s) to.push_back(side + text(" p95 %.0f ms > %.0f ms", 1e3 * m.p95_s, 1e3 * o.p95_s));
  if (m.p99_s > o.p99_s) to.push_back(side + text(" p99 %.0f ms > %.0f ms", 1e3 * m.p99_s, 1e3 * o.p99_s));
  if (m.requests > 0 && m.errors / m.requests > o.errors)
    to.push_back(side + text(" errors %.3g %% > %.3g %%", 100 * m.errors / m.requests, 100 * o.errors));
}

/// Who or what a reason of `degraded` is about: how it stands may change, and times count down.
std::string_view subject(std::string_view why) {
  std::size_t end = why.size();
  for (const std::string_view mark : {": ", " is ", " does "}) end = std::min(end, why.find(mark));
  return why.substr(0, end);
}

double value_of(const std::map<std::string, double>& in, const std::string& name, double otherwise) {
  const auto it = in.find(name);
  return it == in.end() ? otherwise : it->second;
}

}  // namespace

look read_look(std::string_view metrics, std::string_view ready, int ready_status) {
  look l;
  l.answers = true;
  while (!metrics.empty()) {
    const auto end = std::min(metrics.find('\n'), metrics.size());
    read_line(l, metrics.substr(0, end));
    metrics.remove_prefix(std::min(end + 1, metrics.size()));
  }
  l.ready = ready_status == 200;
  const auto said = nlohmann::json::parse(ready, nullptr, false);
  for (const char* key : {"degraded", "reasons"})
    if (said.is_object() && said.contains(key) && said[key].is_array())
      for (const auto& why : said[key])
        if (why.is_string() && !why.get<std::string>().starts_with("fault active")) l.degraded.push_back(why);
  return l;
}

measured between(const look& before, const look& after) {
  measured m;
  m.seconds = after.at_s - before.at_s;
  m.pipeline = side_of(before.pipeline, after.pipeline);
  m.api = side_of(before.api, after.api);
  m.lag_s = after.lag_s;
  m.ready = after.ready;
  return m;
}

std::vector<std::string> objections(const steady_state& wanted, const measured& m) {
  std::vector<std::string> all;
  if (wanted.ready && !m.ready) all.emplace_back("not ready");
  object(all, "pipeline", wanted.pipeline, m.pipeline);
  object(all, "api", wanted.api, m.api);
  if (m.lag_s > wanted.lag_s) all.push_back(text("lag %.1f s > %.1f s", m.lag_s, wanted.lag_s));
  const double rate = m.seconds > 0 ? (m.pipeline.requests + m.api.requests) / m.seconds : 0;
  if (rate < wanted.throughput) all.push_back(text("throughput %.0f/s < %.0f/s", rate, wanted.throughput));
  return all;
}

std::vector<std::string> lasting_signs(const look& before, const look& now) {
  if (!now.answers) return {"the node does not answer"};
  std::vector<std::string> all;
  if (before.ready && !now.ready) all.emplace_back("not ready");
  for (const auto& d : now.degraded)
    if (std::none_of(before.degraded.begin(), before.degraded.end(),
                     [&](const std::string& b) { return subject(b) == subject(d); }))
      all.push_back("degraded: " + d);
  for (const auto& [name, value] : now.stands)
    if (value > value_of(before.stands, name, value)) all.push_back(name);
  return all;
}

std::set<std::string> noise(const look& before, const look& after) {
  std::set<std::string> all;
  for (const auto& [name, value] : after.grows)
    if (value > value_of(before.grows, name, 0)) all.insert(name);
  return all;
}

std::vector<std::string> signs(const look& before, const look& now, const std::set<std::string>& noisy) {
  auto all = lasting_signs(before, now);
  if (!now.answers) return all;
  for (const auto& [name, value] : now.grows)
    if (value > value_of(before.grows, name, 0) && !noisy.contains(name)) all.push_back(name);
  if (now.memory > before.memory + much_memory)
    all.push_back(text("process_resident_memory_bytes %.0f MB, before %.0f MB", now.memory * 1e-6,
                       before.memory * 1e-6));
  return all;
}

std::optional<std::string> first_sign(const std::vector<std::string>& found, double over_s) {
  constexpr double most_s = 2;  // what shows later is not the fault's
  if (found.empty() || over_s > most_s) return std::nullopt;
  return over_s < 0 ? found.front() : "after its end: " + found.front();
}

}  // namespace troupe::cli
