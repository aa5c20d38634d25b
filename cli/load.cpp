#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.hpp"
#include "cli/raw_records.hpp"

namespace troupe::cli {
namespace {

/// One JSON value a line (list or object of features), or comma-separated numbers.
std::vector<std::string> read_rows(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw usage_error("--features-file " + file + ": can't be read");
  std::vector<std::string> rows;
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const std::string json = line.front() == '[' || line.front() == '{' ? line : "[" + line + "]";
    if (!nlohmann::json::accept(json)) {
      if (number == 1) continue;  // a CSV's header
      throw usage_error("--features-file " + file + ":" + std::to_string(number) +
                        ": neither JSON nor comma-separated numbers");
    }
    rows.push_back(json);
  }
  if (rows.empty()) throw usage_error("--features-file " + file + ": no rows");
  return rows;
}

}  // namespace

int load(const load_command_options& o) {
  if (o.load.interval > 0 && o.load.interval < 0.01) throw usage_error("--interval: at least 10ms");
  if (o.door.wanted())
    return load_door(o, o.rows_file.empty() ? std::vector<std::string>() : read_rows(o.rows_file));
  const auto loaded = settings_of(o.common, true);
  const auto& kafka = loaded.values.kafka;
  load_options load = o.load;
  load.brokers = kafka.brokers;
  load.requests_topic = o.requests_topic.empty() ? kafka.requests_topic : o.requests_topic;
  load.results_topic = o.results_topic.empty() ? kafka.results_topic : o.results_topic;
  load.dead_letter_topic = o.dead_letter_topic.empty() ? kafka.dead_letter_topic : o.dead_letter_topic;
  load.properties = kafka.properties;
  load.wait_for = o.wait_for_s;
  if (load.brokers == "embedded")
    throw usage_error(
        "kafka.brokers is embedded, a broker inside another process: give its address with --brokers; that "
        "process's log has it in the line 'started', as 'brokers'");
  const auto& stop = stop_requested();
  if (!o.raw_file.empty()) {
    const auto sent = send_raw(load, o.raw_file, stop);
    if (o.common.json)
      std::printf("{\"sent\":%lld}\n", static_cast<long long>(sent));
    else
      std::printf("sent %lld record%s to %s\n", static_cast<long long>(sent), sent == 1 ? "" : "s",
                  load.requests_topic.c_str());
    return ok;
  }
  if (!o.rows_file.empty()) load.rows = read_rows(o.rows_file);
  const auto before = o.metrics.empty() ? std::nullopt : std::optional(cache_counts_of(o.metrics));
  progress_line line;
  const load_report r = run_load(load, stop, [&](const load_progress& p) {
    char text[160];
    std::snprintf(text, sizeof text, "%.0f s: sent %lld of %lld, answered %lld", p.seconds,
                  static_cast<long long>(p.sent), static_cast<long long>(load.records),
                  static_cast<long long>(p.answered));
    line.show(text);
  });
  line.clear();
  std::optional<double> hit_ratio;
  try {
    if (before) hit_ratio = cache_counts_of(o.metrics).ratio_since(*before);
  } catch (const std::exception& e) {  // the node went away: the report does not
    std::fprintf(stderr, "troupe: --metrics %s\n", e.what());
  }
  if (r.refused)
    std::fprintf(stderr, "troupe: the broker refused %s: %s\n",
                 count_text(static_cast<std::uint64_t>(r.refused), "request").c_str(), r.refusal.c_str());
  if (o.common.json)
    std::printf("%s\n", report_json(r, hit_ratio).c_str());
  else
    std::printf("%s", report_text(r, load.follow, hit_ratio).c_str());
  if (r.error_codes.contains("invalid_features") && !o.features_given && load.rows.empty())
    std::fprintf(
        stderr,
        "troupe: rows of %zu numbers were sent; --features N sends others, --features-file your own\n",
        load.features);
  const bool all_errors = load.follow && r.sent > 0 && r.predicted == 0;
  const bool errors = o.fail_on_errors && (r.errors > 0 || r.dead_letters > 0);
  return r.lost > 0 || r.refused > 0 || all_errors || errors ? failed : ok;
}

}  // namespace troupe::cli
