#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "actors/node.hpp"
#include "cli/commands.hpp"

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

}  // namespace

int demo(const demo_options& o) {
  common_options common = o.common;
  common.set.insert(common.set.begin(), {"kafka.brokers=embedded", "metrics.bind=127.0.0.1", "metrics.port=0", "log.level=warn",
                                         "models.directory=" + (o.models.empty() ? find_models() : o.models)});
  auto loaded = settings_of(common, true);
  const auto& stop = stop_requested();
  const std::string directory = loaded.values.models.directory;
  load_options load;
  load.requests_topic = loaded.values.kafka.requests_topic;
  load.results_topic = loaded.values.kafka.results_topic;
  load.dead_letter_topic = loaded.values.kafka.dead_letter_topic;
  std::fprintf(stderr, "troupe demo: a broker in this process, the models of %s, and requests through the whole road.\n",
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
  const double ready_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  std::fprintf(stderr, "ready after %.0f ms; http://127.0.0.1:%d/metrics while it runs\n", ready_ms, n.metrics_port());

  load.brokers = n.brokers();
  load.model = "diabetes-rf-model";
  load.records = o.records;
  load.window = 20'000;  // the embedded broker forgets what a reader leaves more than 5 MiB behind
  load.distinct = 2'000;
  // Its empty fetch waits the whole fetch.wait.max.ms.
  load.properties = {{"fetch.wait.max.ms", "2"}};
  progress_line line;
  auto progress = [&](const load_progress& p) {
    line.show("sent " + std::to_string(p.sent) + ", answered " + std::to_string(p.answered));
  };
  std::fprintf(stderr, "as fast as it goes: %lld records\n", static_cast<long long>(load.records));
  const load_report fast = run_load(load, stop, progress);
  line.clear();
  load_report steady;
  if (!stop) {
    load.rate = o.rate;
    load.records = static_cast<std::int64_t>(o.rate * o.seconds);
    std::fprintf(stderr, "at %.0f records/s, for latency: %lld records\n", o.rate, static_cast<long long>(load.records));
    steady = run_load(load, stop, progress);
    line.clear();
  }
  std::optional<double> ratio;
  if (const auto text = fetch(n.metrics_port(), "/metrics")) {
    const double hits = metric(*text, "troupe_cache_hits_total");
    const double all = hits + metric(*text, "troupe_cache_misses_total");
    ratio = all > 0 ? hits / all : 0;
  }
  const bool clean = n.drain();

  load_report both = fast;
  both.sent += steady.sent;
  both.predicted += steady.predicted;
  both.errors += steady.errors;
  both.dead_letters += steady.dead_letters;
  both.lost += steady.lost;
  both.duplicated += steady.duplicated;
  both.p50_ms = steady.p50_ms, both.p95_ms = steady.p95_ms, both.p99_ms = steady.p99_ms, both.max_ms = steady.max_ms;
  both.stopped = stop;
  if (o.common.json) {
    std::printf("%s\n", report_json(both, ratio).c_str());
  } else {
    std::printf("\nwhat went through:  generator > Kafka > partition_consumer > cache_client > scheduler > model_shard > producer > Kafka > reader\n%s"
                "  cache hits  %11.1f %%\n  (rate: closed loop; latency: at %.0f records/s)\n%s\n",
                report_text(both).c_str(), ratio.value_or(0) * 100, o.rate,
                both.lost == 0 ? "every request has its answer." : "REQUESTS WERE LOST.");
  }
  return both.lost == 0 && clean && n.failure().empty() ? ok : failed;
}

}  // namespace troupe::cli
