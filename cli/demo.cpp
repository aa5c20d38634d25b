#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <thread>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/http/server.hpp"
#include "runtime/model/repository.hpp"
#include "runtime/model/warm_up.hpp"

namespace troupe::cli {
namespace {

/// ./models, else those of the source tree that the binary was built in, or of the package that installed it.
std::string find_models() {
  std::error_code none;
  if (std::filesystem::is_directory("models", none)) return "models";
  auto dir = std::filesystem::read_symlink("/proc/self/exe", none).parent_path();
  for (int up = 0; up < 4 && !dir.empty(); ++up, dir = dir.parent_path())
    for (const char* name : {"share/troupe/models", "models"})
      if (std::filesystem::is_directory(dir / name, none)) return (dir / name).string();
  return "models";
}

/// The usual port where it is free: what the documentation shows works with the demo too.
std::string metrics_port() {
  try {
    http::server_options usual;
    usual.bind = "127.0.0.1";
    usual.port = 8000;
    const http::server probe(usual, {});
    return "metrics.port=8000";
  } catch (const http::bind_error&) {
    return "metrics.port=0";
  }
}

/// The model that answers requests for none, else the first, and rows that it takes.
void ask_for_a_model(const config::settings& settings, load_options& load) {
  std::shared_ptr<const model::model_table> table;
  try {
    table = model::repository(model_options(settings)).load();
    const model::loaded_model* m = table->default_model();
    if (!m && !table->all().empty()) {  // its production version
      const auto& name = table->all().front()->name();
      m = table->find(name, "").model;
    }
    if (!m) return;  // the node says what is missing
    load.model = m->name();
    const std::size_t width = m->schema().features.size();
    load.features = width;
    const std::vector<double> values = model::probe_rows(m->path().parent_path(), m->schema());
    for (std::size_t at = 0; width > 0 && at + width <= values.size(); at += width) {
      std::string row = "[";
      char number[40];
      for (std::size_t c = 0; c < width; ++c) {
        const double v = values[at + c];
        const auto* rule = m->schema().features[c].rule.get();
        if (rule && v >= 0 && v < static_cast<double>(rule->categories.size())) {
          if (c) row += ',';
          codec::append_quoted(row, rule->categories[static_cast<std::size_t>(v)]);
          continue;
        }
        std::snprintf(number, sizeof number, "%s%.17g", c ? "," : "", v);
        row += std::isfinite(v) ? number : c ? ",null" : "null";
      }
      load.rows.push_back(row + "]");
    }
  } catch (const model::load_error& e) {
    throw usage_error(e.what());
  }
}

void people(const load_report& r, double rate, std::optional<double> hit_ratio) {
  const auto number = [](std::int64_t n) { return static_cast<long long>(n); };
  std::printf(
      "\nEvery record went this way:\n"
      "  generator > Kafka > partition_consumer > cache_client > scheduler > model_shard > producer > Kafka "
      "> reader\n\n"
      "  sent          %12lld\n"
      "  predicted     %12lld\n"
      "  errors        %12lld\n",
      number(r.sent), number(r.predicted), number(r.errors));
  for (const auto& [code, count] : r.error_codes) {
    std::printf("    %-12s%12lld\n", code.c_str(), number(count));
    if (const auto at = r.error_examples.find(code); at != r.error_examples.end() && !at->second.empty())
      std::printf("    such as: %s\n", at->second.c_str());
  }
  std::printf(
      "  lost          %12lld\n"
      "  duplicated    %12lld\n"
      "  throughput    %12.0f records/s, as fast as it goes\n",
      number(r.lost), number(r.duplicated), r.records_per_second);
  if (std::isfinite(r.p50_ms))
    std::printf("  latency       p50 %.2f ms, p95 %.2f ms, p99 %.2f ms at %.0f records/s\n", r.p50_ms,
                r.p95_ms, r.p99_ms, rate);
  if (hit_ratio) std::printf("  cache hits    %12.1f %%\n", *hit_ratio * 100);
  if (r.stopped) std::printf("  interrupted\n");
  std::printf("\n%s\n", r.lost > 0         ? "REQUESTS WERE LOST."
                        : r.predicted == 0 ? "NOTHING WAS PREDICTED."
                                           : "Every request has its answer.");
}

/// The latency is that of the second part; where it did not run there is none.
void without_latency(load_report& r) {
  r.p50_ms = r.p95_ms = r.p99_ms = r.max_ms = r.longest_gap_ms = std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

int demo(const demo_options& o) {
  common_options common = o.common;
  for (const auto& set : common.set)
    if (set.starts_with("kafka.brokers=") && set != "kafka.brokers=embedded")
      throw usage_error(
          "--set kafka.brokers: the demo has a broker of its own; with another one, run a node with `troupe "
          "serve --brokers HOST:PORT` and send with `troupe load --brokers HOST:PORT`");
  common.set.insert(common.set.begin(),
                    {"kafka.eventhub=false", "kafka.brokers=embedded", "http.enabled=false",
                     "grpc.enabled=false", "metrics.bind=127.0.0.1", metrics_port(), "log.level=warn",
                     "models.directory=" + (common.models.empty() ? find_models() : common.models)});
  auto loaded = settings_of(common, true, settings_for::node);
  const auto& stop = stop_requested();
  const std::string directory = loaded.values.models.directory;
  load_options load;
  load.requests_topic = loaded.values.kafka.requests_topic;
  load.results_topic = loaded.values.kafka.results_topic;
  load.dead_letter_topic = loaded.values.kafka.dead_letter_topic;
  std::fprintf(
      stderr,
      "troupe demo: a broker in this process, the models of %s, and requests through the whole road.\n",
      directory.c_str());
  const auto begin = std::chrono::steady_clock::now();
  ask_for_a_model(loaded.values, load);
  node n(std::move(loaded.values));
  while (!n.ready() && !stop && n.failure().empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(30)) {
      std::fprintf(stderr, "troupe: not ready within 30 s\n");
      return failed;
    }
  }
  if (stop || !n.failure().empty()) {
    if (const std::string why = n.failure(); !why.empty())
      std::fprintf(stderr, "troupe: %s\n", why.c_str());
    else
      std::fprintf(stderr, "troupe: interrupted before it was ready\n");
    (void)n.drain();
    load_report nothing;
    nothing.stopped = stop;
    without_latency(nothing);
    if (o.common.json) std::printf("%s\n", report_json(nothing, std::nullopt).c_str());
    return failed;
  }
  const double ready_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  const std::string metrics = "http://127.0.0.1:" + std::to_string(n.metrics_port()) + "/metrics";
  std::fprintf(stderr, "ready after %.0f ms; %s shows it from inside while it runs\n", ready_ms,
               metrics.c_str());

  load.brokers = n.brokers();
  load.records = o.records;
  load.window = 20'000;  // the embedded broker forgets what a reader leaves more than 5 MiB behind
  load.distinct = 2'000;
  load.fetch_wait_ms = 2;
  progress_line line;
  auto progress = [&](const load_progress& p) {
    line.show("sent " + std::to_string(p.sent) + ", answered " + std::to_string(p.answered));
  };
  std::fprintf(stderr, "as fast as it goes: %lld records\n", static_cast<long long>(load.records));
  const load_report fast = run_load(load, stop, progress);
  line.clear();
  load_report both = fast;
  without_latency(both);
  if (!stop) {
    load.rate = o.rate;
    load.records = std::max<std::int64_t>(1, static_cast<std::int64_t>(o.rate * o.seconds));
    std::fprintf(stderr, "at %.0f records/s, for latency: %lld records\n", o.rate,
                 static_cast<long long>(load.records));
    const load_report steady = run_load(load, stop, progress);
    line.clear();
    both = steady;
    if (!(steady.max_ms > 0)) without_latency(both);
    both.records_per_second = fast.records_per_second;
    both.duration_s += fast.duration_s;
    both.sent += fast.sent;
    both.predicted += fast.predicted;
    both.errors += fast.errors;
    both.dead_letters += fast.dead_letters;
    both.lost += fast.lost;
    both.duplicated += fast.duplicated;
    both.refused += fast.refused;
    for (const auto& [code, count] : fast.error_codes) both.error_codes[code] += count;
    both.error_examples.insert(fast.error_examples.begin(), fast.error_examples.end());
  }
  std::optional<double> hit_ratio;
  try {
    hit_ratio = cache_counts_of(metrics).ratio_since({});
  } catch (const std::exception& e) {  // a bind address of one's own, say
    std::fprintf(stderr, "troupe: no cache figures: %s\n", e.what());
  }
  const std::string why = n.failure();
  const bool clean = n.drain();

  if (o.common.json)
    std::printf("%s\n", report_json(both, hit_ratio).c_str());
  else
    people(both, o.rate, hit_ratio);
  if (!why.empty()) std::fprintf(stderr, "troupe: %s\n", why.c_str());
  if (!clean) std::fprintf(stderr, "troupe: not everything came to rest within drain.deadline\n");
  return both.lost == 0 && both.refused == 0 && both.predicted > 0 && clean && why.empty() ? ok : failed;
}

}  // namespace troupe::cli
