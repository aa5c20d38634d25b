#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"

namespace troupe::cli {

std::string report_json(const load_report& r, std::optional<double> cache_hit_ratio) {
  auto rounded = [](double v) { return std::round(v * 1000) / 1000; };
  nlohmann::ordered_json j;
  j["run_id"] = r.run_id;
  j["sent"] = r.sent;
  j["predicted"] = r.predicted;
  j["errors"] = r.errors;
  j["dead_letters"] = r.dead_letters;
  j["lost"] = r.lost;
  j["duplicated"] = r.duplicated;
  j["records_per_second"] = rounded(r.records_per_second);
  j["duration_s"] = rounded(r.duration_s);
  j["p50_ms"] = rounded(r.p50_ms);
  j["p95_ms"] = rounded(r.p95_ms);
  j["p99_ms"] = rounded(r.p99_ms);
  j["max_ms"] = rounded(r.max_ms);
  j["longest_gap_ms"] = rounded(r.longest_gap_ms);
  j["cache_hit_ratio"] = cache_hit_ratio ? nlohmann::ordered_json(rounded(*cache_hit_ratio)) : nlohmann::ordered_json();
  j["error_codes"] = r.error_codes;
  j["interrupted"] = r.stopped;
  return j.dump();
}

std::string report_text(const load_report& r) {
  char text[1024];
  std::snprintf(text, sizeof text,
                "  sent        %12lld\n  predicted   %12lld\n  errors      %12lld\n  dead letters%12lld\n"
                "  lost        %12lld\n  duplicated  %12lld\n  rate        %12.0f records/s over %.1f s\n"
                "  latency     p50 %.2f ms   p95 %.2f ms   p99 %.2f ms   max %.2f ms\n",
                static_cast<long long>(r.sent), static_cast<long long>(r.predicted), static_cast<long long>(r.errors),
                static_cast<long long>(r.dead_letters), static_cast<long long>(r.lost),
                static_cast<long long>(r.duplicated), r.records_per_second, r.duration_s, r.p50_ms, r.p95_ms, r.p99_ms,
                r.max_ms);
  return text;
}

}  // namespace troupe::cli
