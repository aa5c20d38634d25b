// bench_kafka_bridge: the bare bridge, and what is needed to compare `troupe serve` with it. README.md says
// how.

#include <time.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "bench/kafka_bridge/bridge.hpp"
#include "bench/kafka_bridge/reader.hpp"
#include "bench/kafka_bridge/tools.hpp"
#include "runtime/codec/request_parser.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/model/repository.hpp"

namespace {

using options = std::map<std::string, std::string>;

const char* usage =
    "bench_kafka_bridge COMMAND [--key value ...]\n"
    "  bridge --brokers B --in T --out T --group G --linger MS    the bare bridge, until SIGTERM\n"
    "         [--transaction N --pace MS|auto]                    in transactions of N records\n"
    "  topic  --brokers B --topic T --partitions N                makes a topic\n"
    "  fill   --brokers B --topic T --records N --model M         fills it with requests\n"
    "  watch  --brokers B --topic T --skip N --count N --pid P    times N records and the CPU of P, as JSON\n"
    "  watch  ... --committed 1                                   the same up to the last stable offset\n"
    "  read   --brokers B --topic T --records N                   counts answers as read_committed, as JSON\n"
    "         [--arrivals FILE --partitions N]                    goes on until SIGTERM, notes when they "
    "came\n"
    "  parts  --models DIR --model M                              parse, score and format alone, ns a "
    "record, as JSON\n"
    "run.py drives them all.\n";

double thread_cpu() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// What one record costs outside Kafka: the same text as fill writes, the same code as the node runs.
int parts(const std::string& models, const std::string& name) {
  using namespace troupe;
  const auto table = model::repository({models, name, true}).load();
  const auto* model = table->find(name, "").model;
  if (!model) {
    std::fprintf(stderr, "no model %s in %s\n", name.c_str(), models.c_str());
    return 2;
  }
  constexpr std::size_t rows = 512;
  std::vector<std::string> texts;
  unsigned state = 7;
  auto number = [&] {
    state = state * 1664525U + 1013904223U;
    char s[32];
    std::snprintf(s, sizeof s, "%.6f", (static_cast<double>(state >> 8) / 16777216.0 - 0.5) * 0.24);
    return std::string(s);
  };
  for (std::size_t i = 0; i < rows; ++i) {
    std::string s = "{\"request_id\":\"fill-" + std::to_string(100000000000 + i) + "\",\"features\":[";
    for (int k = 0; k < 10; ++k) s += (k ? "," : "") + number();
    texts.push_back(s + "],\"model\":\"" + name +
                    "\",\"customer\":\"acct-0001234567\",\"ts\":1700000000000}");
  }
  codec::parser_options po;
  po.class_targets = {60'000'000'000};
  codec::request_parser parser(po);
  codec::result_writer writer;
  std::vector<const double*> pointers;
  std::vector<double> out;
  double best[3] = {1e9, 1e9, 1e9};
  for (int round = 0; round < 9; ++round) {
    double spent[3] = {};
    constexpr int times = 200;
    for (int t = 0; t < times; ++t) {
      auto batch = batch_ptr::make();
      batch->topic = std::make_shared<const std::string>("t");
      batch->arrived_ms = 1;
      batch->records.resize(rows);
      for (std::size_t i = 0; i < rows; ++i) {
        batch->records[i].value = texts[i];
        batch->records[i].timestamp_ms = 1;
        batch->records[i].batch = batch.get();
      }
      const double a = thread_cpu();
      parser.parse(*batch, table);
      const double b = thread_cpu();
      pointers.clear();
      for (const auto& r : batch->records)
        pointers.push_back(batch->row(r, 0, model->schema().features.size()));
      out.resize(rows * model->output().width);
      model->engine().score(pointers, out.data());
      const double c = thread_cpu();
      std::string text;
      text.reserve(rows * 192);
      for (std::size_t i = 0; i < rows; ++i)
        (void)writer.prediction(text, batch->records[i], out.data() + i * model->output().width);
      const double d = thread_cpu();
      spent[0] += b - a, spent[1] += c - b, spent[2] += d - c;
    }
    for (int k = 0; k < 3; ++k) best[k] = std::min(best[k], spent[k] / times / rows * 1e9);
  }
  std::printf("{\"parse_ns\":%.1f,\"model_ns\":%.1f,\"format_ns\":%.1f}\n", best[0], best[1], best[2]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || !std::strcmp(argv[1], "--help")) {
    std::fputs(usage, argc < 2 ? stderr : stdout);
    return argc < 2 ? 2 : 0;
  }
  options o;
  for (int i = 2; i + 1 < argc; i += 2) o[argv[i]] = argv[i + 1];
  const std::string command = argv[1];
  try {
    namespace b = troupe::bench;
    if (command == "bridge") {
      b::bridge_options bo;
      bo.brokers = o["--brokers"];
      bo.in = o["--in"];
      bo.out = o["--out"];
      bo.group = o["--group"];
      bo.linger_ms = std::stod(o["--linger"]);
      if (!o.contains("--transaction")) return b::run_bridge(bo);
      bo.transaction_records = std::stoul(o["--transaction"]);
      if (o["--pace"] != "auto") bo.pace_ms = std::stoi(o["--pace"]);
      if (bo.transaction_records > 0) return b::run_transactional_bridge(bo);
    }
    if (command == "topic") {
      b::make_topic(o["--brokers"], o["--topic"], std::stoi(o["--partitions"]));
      return 0;
    }
    if (command == "fill") {
      const auto bytes =
          b::fill(o["--brokers"], o["--topic"], std::stoll(o["--records"]), o["--model"], 8192);
      std::printf("{\"bytes\":%zu}\n", bytes);
      return 0;
    }
    if (command == "watch") {
      const auto w = b::watch(o["--brokers"], o["--topic"], std::stoll(o["--skip"]), std::stoll(o["--count"]),
                              std::stoi(o["--pid"]), o.contains("--committed"));
      std::printf("{\"seconds\":%.4f,\"cpu_seconds\":%.2f,\"records\":%lld,\"peak_rss_kb\":%lld}\n",
                  w.seconds, w.cpu_seconds, static_cast<long long>(w.records),
                  static_cast<long long>(w.peak_rss_kb));
      return 0;
    }
    if (command == "read") {
      b::reader_options ro;
      ro.brokers = o["--brokers"];
      ro.topic = o["--topic"];
      ro.records = std::stoll(o["--records"]);
      ro.arrivals = o["--arrivals"];
      ro.follow = !ro.arrivals.empty();
      if (ro.follow) ro.partitions = std::stoi(o["--partitions"]);
      const auto a = b::read_results(ro);
      std::printf("{\"results\":%lld,\"answered\":%lld,\"doubled\":%lld,\"errors\":%lld,\"strange\":%lld}\n",
                  static_cast<long long>(a.results), static_cast<long long>(a.answered),
                  static_cast<long long>(a.doubled), static_cast<long long>(a.errors),
                  static_cast<long long>(a.strange));
      return 0;
    }
    if (command == "parts") return parts(o["--models"], o["--model"]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_kafka_bridge %s: %s\n", command.c_str(), e.what());
    return 1;
  }
  std::fputs(usage, stderr);
  return 2;
}
