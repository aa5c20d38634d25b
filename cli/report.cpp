#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"

namespace troupe::cli {
namespace {

double rounded(double v) {
  return std::round(v * 1000) / 1000;
}

std::string line(const char* name, std::int64_t value) {
  char text[64];
  std::snprintf(text, sizeof text, "  %-14s%12lld\n", name, static_cast<long long>(value));
  return text;
}

}  // namespace

std::string report_json(const load_report& r, std::optional<double> cache_hit_ratio) {
  nlohmann::ordered_json j;
  j["run_id"] = r.run_id;
  j["sent"] = r.sent;
  j["predicted"] = r.predicted;
  j["errors"] = r.errors;
  j["dead_letters"] = r.dead_letters;
  j["lost"] = r.lost;
  j["duplicated"] = r.duplicated;
  j["refused"] = r.refused;
  j["records_per_second"] = rounded(r.records_per_second);
  j["duration_s"] = rounded(r.duration_s);
  j["p50_ms"] = rounded(r.p50_ms);
  j["p95_ms"] = rounded(r.p95_ms);
  j["p99_ms"] = rounded(r.p99_ms);
  j["max_ms"] = rounded(r.max_ms);
  j["longest_gap_ms"] = rounded(r.longest_gap_ms);
  j["cache_hit_ratio"] =
      cache_hit_ratio ? nlohmann::ordered_json(rounded(*cache_hit_ratio)) : nlohmann::ordered_json();
  j["error_codes"] = r.error_codes;
  j["error_examples"] = r.error_examples;
  if (!r.intervals.empty()) {
    auto& list = j["intervals"] = nlohmann::ordered_json::array();
    for (const auto& i : r.intervals)
      list.push_back({{"from_s", rounded(i.from_s)},
                      {"answered", i.answered},
                      {"p50_ms", rounded(i.p50_ms)},
                      {"p99_ms", rounded(i.p99_ms)},
                      {"max_ms", rounded(i.max_ms)}});
  }
  j["interrupted"] = r.stopped;
  return j.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string report_text(const load_report& r, bool followed, std::optional<double> cache_hit_ratio) {
  std::string text = line("sent", r.sent);
  char more[256];
  if (followed) {
    text += line("predicted", r.predicted);
    text += line("errors", r.errors);
    for (const auto& [code, count] : r.error_codes) {
      text += line(("  " + code).c_str(), count);
      if (const auto at = r.error_examples.find(code); at != r.error_examples.end() && !at->second.empty())
        text += "    such as: " + at->second + "\n";
    }
    text += line("dead letters", r.dead_letters);
    text += line("lost", r.lost);
    text += line("duplicated", r.duplicated);
  }
  std::snprintf(more, sizeof more, "  rate          %12.0f records/s over %.1f s\n", r.records_per_second,
                r.duration_s);
  text += more;
  if (followed && r.max_ms > 0) {
    std::snprintf(more, sizeof more,
                  "  latency       p50 %.2f ms, p95 %.2f ms, p99 %.2f ms, max %.2f ms\n  longest gap   "
                  "%12.0f ms without an answer\n",
                  r.p50_ms, r.p95_ms, r.p99_ms, r.max_ms, r.longest_gap_ms);
    text += more;
  }
  for (const auto& i : r.intervals) {
    std::snprintf(more, sizeof more,
                  "  from %8.1f s %10lld answered, p50 %.2f ms, p99 %.2f ms, max %.2f ms\n", i.from_s,
                  static_cast<long long>(i.answered), i.p50_ms, i.p99_ms, i.max_ms);
    text += more;
  }
  if (cache_hit_ratio) {
    std::snprintf(more, sizeof more, "  cache hits    %12.1f %%\n", *cache_hit_ratio * 100);
    text += more;
  }
  if (r.stopped) text += "  interrupted\n";
  return text;
}

std::string report_json(const traffic::report& r, const traffic::plan& p,
                        std::optional<double> cache_hit_ratio) {
  nlohmann::ordered_json j;
  j["sent"] = r.sent;
  j["answered"] = r.predicted + r.errors;
  j["predicted"] = r.predicted;
  j["errors"] = r.errors;
  j["lost"] = r.lost;
  j["requests_per_second"] = rounded(r.requests_per_second);
  j["duration_s"] = rounded(r.duration_s);
  j["p50_ms"] = rounded(r.p50_ms);
  j["p90_ms"] = rounded(r.p90_ms);
  j["p95_ms"] = rounded(r.p95_ms);
  j["p99_ms"] = rounded(r.p99_ms);
  j["p999_ms"] = rounded(r.p999_ms);
  j["max_ms"] = rounded(r.max_ms);
  j["target_ms"] = rounded(p.target_ms);
  j["in_time"] = r.in_time;
  j["in_time_ratio"] =
      r.sent > 0 ? nlohmann::ordered_json(static_cast<double>(r.in_time) / static_cast<double>(r.sent))
                 : nlohmann::ordered_json();
  j["longest_gap_ms"] = rounded(r.longest_gap_ms);
  j["cache_hit_ratio"] =
      cache_hit_ratio ? nlohmann::ordered_json(rounded(*cache_hit_ratio)) : nlohmann::ordered_json();
  j["error_codes"] = r.error_codes;
  j["error_examples"] = r.error_examples;
  if (!r.intervals.empty()) {
    auto& list = j["intervals"] = nlohmann::ordered_json::array();
    for (const auto& i : r.intervals)
      list.push_back({{"from_s", rounded(i.from_s)},
                      {"predicted", i.predicted},
                      {"p50_ms", rounded(i.p50_ms)},
                      {"p99_ms", rounded(i.p99_ms)},
                      {"max_ms", rounded(i.max_ms)}});
  }
  j["interrupted"] = r.stopped;
  return j.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string report_text(const traffic::report& r, const traffic::plan& p,
                        std::optional<double> cache_hit_ratio) {
  std::string text = line("sent", r.sent) + line("answered", r.predicted + r.errors) +
                     line("predicted", r.predicted) + line("errors", r.errors);
  for (const auto& [code, count] : r.error_codes) {
    text += line(("  " + code).c_str(), count);
    if (const auto at = r.error_examples.find(code); at != r.error_examples.end())
      text += "    such as: " + at->second + "\n";
  }
  text += line("lost", r.lost);
  char more[256];
  std::snprintf(more, sizeof more, "  rate          %12.0f predictions/s over %.1f s\n",
                r.requests_per_second, r.duration_s);
  text += more;
  if (r.predicted > 0) {
    std::snprintf(more, sizeof more,
                  "  latency       p50 %.2f ms, p95 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms\n",
                  r.p50_ms, r.p95_ms, r.p99_ms, r.p999_ms, r.max_ms);
    text += more;
  }
  if (r.sent > 0 && p.target_ms > 0) {
    std::snprintf(more, sizeof more, "  in time       %12.3f %% within %g ms\n",
                  100.0 * static_cast<double>(r.in_time) / static_cast<double>(r.sent), p.target_ms);
    text += more;
  }
  for (const auto& i : r.intervals) {
    std::snprintf(more, sizeof more,
                  "  from %8.1f s %10lld predicted, p50 %.2f ms, p99 %.2f ms, max %.2f ms\n", i.from_s,
                  static_cast<long long>(i.predicted), i.p50_ms, i.p99_ms, i.max_ms);
    text += more;
  }
  if (cache_hit_ratio) {
    std::snprintf(more, sizeof more, "  cache hits    %12.1f %%\n", *cache_hit_ratio * 100);
    text += more;
  }
  if (r.stopped) text += "  interrupted\n";
  return text;
}

}  // namespace troupe::cli
