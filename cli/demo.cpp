#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>
#include <thread>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "runtime/http/server.hpp"

namespace troupe::cli {
namespace {

/// ./models, else beside the source tree that the binary was built in.
std::string find_models() {
  std::error_code none;
  if (std::filesystem::is_directory("models", none)) return "models";
  auto dir = std::filesystem::read_symlink("/proc/self/exe", none).parent_path();
  for (int up = 0; up < 4 && !dir.empty(); ++up, dir = dir.parent_path())
    if (std::filesystem::is_directory(dir / "models", none)) return (dir / "models").string();
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

void people(const load_report& r, double rate, std::optional<double> hit_ratio) {
  std::printf(
      "\nEvery record went this way:\n"
      "  generator > Kafka > partition_consumer > cache_client > scheduler > model_shard > producer > Kafka "
      "> reader\n\n"
      "  sent          %12lld\n"
      "  predicted     %12lld\n"
      "  errors        %12lld\n"
      "  lost          %12lld\n"
      "  duplicated    %12lld\n"
      "  throughput    %12.0f records/s, as fast as it goes\n"
      "  latency       p50 %.2f ms, p95 %.2f ms, p99 %.2f ms at %.0f records/s\n",
      static_cast<long long>(r.sent), static_cast<long long>(r.predicted), static_cast<long long>(r.errors),
      static_cast<long long>(r.lost), static_cast<long long>(r.duplicated), r.records_per_second, r.p50_ms,
      r.p95_ms, r.p99_ms, rate);
  if (hit_ratio) std::printf("  cache hits    %12.1f %%\n", *hit_ratio * 100);
  std::printf("\n%s\n", r.lost == 0 ? "Every request has its answer." : "REQUESTS WERE LOST.");
}

}  // namespace

int demo(const demo_options& o) {
  common_options common = o.common;
  common.set.insert(common.set.begin(),
                    {"kafka.brokers=embedded", "metrics.bind=127.0.0.1", metrics_port(), "log.level=warn",
                     "models.directory=" + (common.models.empty() ? find_models() : common.models)});
  auto loaded = settings_of(common, true);
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
  node n(std::move(loaded.values));
  while (!n.ready() && !stop && n.failure().empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(30)) {
      std::fprintf(stderr, "troupe: not ready within 30 s\n");
      return failed;
    }
  }
  const double ready_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  const std::string metrics = "http://127.0.0.1:" + std::to_string(n.metrics_port()) + "/metrics";
  std::fprintf(stderr, "ready after %.0f ms; %s shows it from inside while it runs\n", ready_ms,
               metrics.c_str());

  load.brokers = n.brokers();
  load.model = "diabetes-rf-model";
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
  if (!stop) {
    load.rate = o.rate;
    load.records = std::max<std::int64_t>(1, static_cast<std::int64_t>(o.rate * o.seconds));
    std::fprintf(stderr, "at %.0f records/s, for latency: %lld records\n", o.rate,
                 static_cast<long long>(load.records));
    const load_report steady = run_load(load, stop, progress);
    line.clear();
    both = steady;
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
  return both.lost == 0 && clean && why.empty() ? ok : failed;
}

}  // namespace troupe::cli
