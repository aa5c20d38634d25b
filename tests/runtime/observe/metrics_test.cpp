#include "runtime/observe/metrics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "runtime/observe/histogram.hpp"

namespace troupe::observe {
namespace {

using testing::HasSubstr;
using testing::Not;

struct exposition {
  std::map<std::string, double> samples;  // by name and labels, as written
  std::map<std::string, std::string> types;
  std::map<std::string, std::string> helps;

  [[nodiscard]] double at(const std::string& series) const {
    const auto it = samples.find(series);
    return it == samples.end() ? std::numeric_limits<double>::quiet_NaN() : it->second;
  }
};

exposition parse(const std::string& text) {
  exposition e;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string hash;
    std::string kind;
    std::string name;
    if (line.starts_with("#")) {
      words >> hash >> kind >> name;
      std::string rest;
      std::getline(words, rest);
      auto& into = kind == "TYPE" ? e.types : e.helps;
      EXPECT_TRUE(into.emplace(name, rest.empty() ? rest : rest.substr(1)).second) << "twice: " << line;
      continue;
    }
    const auto space = line.rfind(' ');
    EXPECT_TRUE(e.samples.emplace(line.substr(0, space), std::stod(line.substr(space + 1))).second)
        << "twice: " << line;
  }
  return e;
}

/// Stands for a loaded model: metrics never look inside.
const model::loaded_model* handle(int n) {
  static int things[8];
  return reinterpret_cast<const model::loaded_model*>(&things[n]);
}

metrics_options three_classes() {
  metrics_options o;
  o.class_names = {"interactive", "standard", "bulk"};
  o.class_targets = {0.1, 1, 60, 0.075};
  return o;
}

answered_line line_of(const model::loaded_model* model, error_code code, std::size_t count) {
  return {model, door::kafka, 2, code, false, count, 0, count, 0.003};
}

TEST(Metrics, CountsWhatWasAnswered) {
  metrics m(three_classes());
  m.model_loaded(handle(0), "diabetes", "3");
  m.answered({handle(0), door::kafka, 2, error_code::none, false, 5, 2, 50, 0.003});
  m.answered({handle(0), door::http, 0, error_code::none, false, 1, 0, 1, 0.2});
  m.answered({handle(0), door::kafka, 2, error_code::invalid_features, false, 2, 0, 2, 0.003});
  m.answered({nullptr, door::kafka, 2, error_code::invalid_json, true, 3, 0, 0, 0.001});
  const auto e = parse(m.text());
  const std::string bulk = R"(class="bulk",door="kafka",model="diabetes",)";
  EXPECT_EQ(e.at("inference_requests_total{" + bulk + R"(status="success",version="3"})"), 5);
  EXPECT_EQ(e.at("inference_requests_total{" + bulk + R"(status="error",version="3"})"), 2);
  EXPECT_EQ(
      e.at(
          R"(inference_requests_total{class="interactive",door="http",model="diabetes",status="success",version="3"})"),
      1);
  EXPECT_EQ(
      e.at(
          R"(inference_errors_total{class="bulk",code="invalid_features",door="kafka",model="diabetes",version="3"})"),
      2);
  EXPECT_EQ(
      e.at(R"(inference_errors_total{class="bulk",code="invalid_json",door="kafka",model="",version=""})"),
      3);
  EXPECT_EQ(e.at(R"(troupe_dead_letters_total{code="invalid_json"})"), 3);
  EXPECT_EQ(e.at(R"(troupe_rows_total{model="diabetes",version="3"})"), 51);
  EXPECT_EQ(e.at(R"(troupe_late_requests_total{class="bulk"})"), 2);
  EXPECT_EQ(e.at(R"(troupe_late_requests_total{class="interactive"})"), 0);
  EXPECT_EQ(e.at(R"(inference_request_duration_seconds_count{class="bulk",door="kafka",status="success"})"),
            5);
  EXPECT_EQ(e.at(R"(inference_request_duration_seconds_count{class="bulk",door="kafka",status="error"})"), 5)
      << "quick refusals are not among the latencies of answers";
  EXPECT_EQ(m.totals().requests, 11U);
  EXPECT_EQ(m.totals().errors, 5U);
}

TEST(Metrics, LatencyHistogramsHaveTheTargetsAmongTheirBounds) {
  metrics m(three_classes());
  m.model_loaded(handle(0), "m", "1");
  m.model_batch(*handle(0), 64, 0.0004, 0);
  m.model_batch(*handle(0), 1, 0.075, 1);
  const auto e = parse(m.text());
  const auto bucket = [&](const char* le) {
    return e.at(std::string("inference_latency_seconds_bucket{model=\"m\",version=\"1\",le=\"") + le + "\"}");
  };
  EXPECT_EQ(bucket("0.00025"), 0);
  EXPECT_EQ(bucket("0.0005"), 64);
  EXPECT_EQ(bucket("0.05"), 64);
  EXPECT_EQ(bucket("0.075"), 65);
  EXPECT_EQ(bucket("60"), 65);
  EXPECT_EQ(bucket("+Inf"), 65);
  EXPECT_EQ(e.at(R"(inference_latency_seconds_count{model="m",version="1"})"), 65);
  EXPECT_NEAR(e.at(R"(inference_latency_seconds_sum{model="m",version="1"})"), 64 * 0.0004 + 0.075, 1e-12);
  EXPECT_EQ(e.at(R"(troupe_batch_rows_count{model="m",version="1"})"), 2);
  EXPECT_EQ(e.at(R"(troupe_batch_rows_bucket{model="m",version="1",le="64"})"), 2);
  EXPECT_EQ(e.at(R"(inference_exceptions_total{model="m",version="1"})"), 1);
}

TEST(Metrics, ConfidenceIsASumAndACountAModel) {
  metrics m(three_classes());
  m.model_loaded(handle(0), "m", "1");
  m.model_loaded(handle(1), "regressor", "1");
  EXPECT_THAT(m.text(), Not(HasSubstr("inference_confidence")));
  m.confidence(*handle(0), 2.5, 3);
  m.confidence(*handle(0), 0.5, 1);
  const auto e = parse(m.text());
  EXPECT_EQ(e.types.at("inference_confidence"), "summary");
  EXPECT_EQ(e.at(R"(inference_confidence_sum{model="m",version="1"})"), 3);
  EXPECT_EQ(e.at(R"(inference_confidence_count{model="m",version="1"})"), 4);
  EXPECT_THAT(m.text(), Not(HasSubstr("inference_confidence_sum{model=\"regressor\"")));
  const auto open = m.expose("application/openmetrics-text").text;
  EXPECT_THAT(open, HasSubstr("# TYPE inference_confidence summary\n"));
  EXPECT_THAT(open, HasSubstr("inference_confidence_count{model=\"m\",version=\"1\"} 4\n"));
  EXPECT_THAT(open, HasSubstr("inference_confidence_sum{model=\"m\",version=\"1\"} 3.0\n"));
}

TEST(Metrics, WhatExpiredIsCountedWithItsAnswer) {
  metrics m(three_classes());
  m.answered(line_of(nullptr, error_code::deadline_exceeded, 3));
  m.answered(line_of(nullptr, error_code::unavailable, 1));
  m.shed(2, 1);
  const auto e = parse(m.text());
  EXPECT_EQ(e.at(R"(troupe_expired_requests_total{class="bulk"})"), 3);
  EXPECT_EQ(e.at(R"(troupe_shed_requests_total{class="bulk"})"), 1);
  EXPECT_EQ(e.at(R"(troupe_late_requests_total{class="bulk"})"), 0);
}

/// Each family gets a series.
void use_everything(metrics& m) {
  m.model_loaded(handle(0), "m", "1");
  m.models({{"m", "1", "serving", "linear"}});
  m.model_load(true);
  m.rollout("m", "2", "canary", 0.05, 0.1);
  m.rollout_requests("m", true, 1, 1);
  m.rolled_back("m", "drift");
  m.promoted("m");
  m.shadowed(1, 1);
  m.answered(line_of(handle(0), error_code::none, 1));
  m.answered(line_of(handle(0), error_code::unavailable, 1));
  m.answered({nullptr, door::grpc, 0, error_code::too_large, true, 1, 1, 0, 1});
  m.model_batch(*handle(0), 3, 0.1, 0);
  m.confidence(*handle(0), 2.5, 3);
  m.shed(0, 1);
  m.queue(0, 1, 0.5);
  m.slots(1, 2);
  m.suspect_rows(3);
  m.hung_calls(handle(0), 2);
  m.partition(0, {1, 2, 0.2, 3, 0.4});
  m.assigned_partitions(1, 1);
  m.delivery_errors(1);
  m.transaction(true, 100, 0.02);
  m.transaction(false, 100, 0.02);
  m.order_wait(0.003);
  m.stuck("scheduler", true);
  m.abandoned(1);
  m.parked(2);
  m.faults("redis_cut", 1, 3);
  m.cache_lookups(1, 1, 1);
  m.cache_coalesced(1);
  m.cache_errors(2, 1);
  m.breaker("redis", 1);
  m.restarted("producer");
  m.mailbox("producer", 4);
  m.registry_poll(true);
  m.registry_rejected("a");
  m.callers_gone(door::http, 1);
  m.guard_refused(door::http, "key");
  m.batches(1, 0);
  m.batch_lines(1, 1);
  m.trace_spans("sent", 1);
  m.ready(true);
  m.kafka_up(true);
  m.redis_up(true);
}

TEST(Metrics, TheReferenceNamesEveryFamilyWithItsTypeAndNoOther) {
  metrics m(three_classes());
  use_everything(m);
  std::ifstream page(TROUPE_SOURCE_DIRECTORY "/docs/metrics.md");
  ASSERT_TRUE(page);
  std::map<std::string, std::string> written;  // rows that begin "| `name` | type | labels |"
  std::map<std::string, std::set<std::string>> labels;
  const std::regex row("^\\| `([a-z_]+)` \\| (counter|gauge|histogram|summary) \\|([^|]*)\\|");
  const std::regex label("`([a-z_]+)`");
  for (std::string line; std::getline(page, line);) {
    std::smatch found;
    if (!std::regex_search(line, found, row)) continue;
    EXPECT_TRUE(written.emplace(found[1], found[2]).second) << "twice: " << found[1];
    const std::string column = found[3];
    auto& of = labels[found[1]];
    for (std::sregex_iterator it(column.begin(), column.end(), label), end; it != end; ++it)
      of.insert((*it)[1]);
  }
  const auto e = parse(m.text());
  EXPECT_EQ(written, e.types);
  const std::regex pair("([a-z_]+)=\"");
  for (const auto& [series, value] : e.samples) {
    std::string name = series.substr(0, series.find('{'));
    for (const char* part : {"_bucket", "_sum", "_count"})
      if (name.ends_with(part) && !e.types.contains(name))
        name.resize(name.size() - std::string(part).size());
    std::set<std::string> has;
    for (std::sregex_iterator it(series.begin(), series.end(), pair), end; it != end; ++it)
      if ((*it)[1] != "le") has.insert((*it)[1]);
    EXPECT_EQ(has, labels[name]) << series;
  }
}

TEST(Metrics, EveryFamilyHasHelpAndAConventionalName) {
  metrics m(three_classes());
  use_everything(m);
  const auto e = parse(m.text());
  EXPECT_GT(e.types.size(), 30U);
  for (const auto& [name, type] : e.types) {
    EXPECT_TRUE(e.helps.count(name) && !e.helps.at(name).empty()) << name << " has no help";
    EXPECT_EQ(type == "counter", name.ends_with("_total")) << name;
    EXPECT_TRUE(name.starts_with("troupe_") || name.starts_with("inference_") || name.starts_with("process_"))
        << name;
    for (const char* unit : {"_ms", "_milliseconds", "_us", "_ns", "_kb", "_mb", "_percent"})
      EXPECT_FALSE(name.ends_with(unit)) << name << ": base units only";
  }
  for (const char* name :
       {"inference_requests_total", "inference_errors_total", "inference_exceptions_total",
        "inference_latency_seconds", "inference_request_duration_seconds", "troupe_build_info",
        "troupe_ready", "troupe_model_loaded", "process_resident_memory_bytes"})
    EXPECT_TRUE(e.types.count(name)) << name;
  EXPECT_EQ(e.types.at("inference_latency_seconds"), "histogram");
}

TEST(Metrics, SeriesOfTheNodeExistBeforeAnythingHappens) {
  const auto e = parse(metrics(three_classes()).text());
  EXPECT_EQ(e.at("troupe_ready"), 0);
  EXPECT_EQ(e.at("troupe_models_failed"), 0);
  EXPECT_EQ(e.at("troupe_delivery_errors_total"), 0);
  EXPECT_EQ(e.at(R"(troupe_cache_hits_total{level="2"})"), 0);
  EXPECT_EQ(e.at(R"(troupe_shed_requests_total{class="bulk"})"), 0);
  EXPECT_EQ(e.at(R"(troupe_queue_depth{class="standard"})"), 0);
  EXPECT_GT(e.at("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(e.at("process_start_time_seconds"), 1.5e9);
  EXPECT_GE(e.at("process_open_fds"), 3);
}

TEST(Metrics, GaugesFollowAndGoAwayWithTheirPartition) {
  metrics m(three_classes());
  m.partition(3, {10, 2000, 0.25, -1, std::nullopt});
  auto e = parse(m.text());
  EXPECT_EQ(e.at(R"(troupe_credit_in_use_records{partition="3"})"), 10);
  EXPECT_EQ(e.at(R"(troupe_credit_in_use_bytes{partition="3"})"), 2000);
  EXPECT_EQ(e.at(R"(troupe_credit_oldest_age_seconds{partition="3"})"), 0.25);
  const auto unknown = [&](const char* name) {
    return std::isnan(parse(m.text()).at(std::string(name) + R"({partition="3"})"));
  };
  EXPECT_TRUE(unknown("troupe_consumer_lag_records")) << "unknown is not 0";
  EXPECT_TRUE(unknown("troupe_consumer_lag_seconds")) << "unknown is not 0";
  m.partition(3, {0, 0, 0, 77, 1.5});
  e = parse(m.text());
  EXPECT_EQ(e.at(R"(troupe_consumer_lag_records{partition="3"})"), 77);
  EXPECT_EQ(e.at(R"(troupe_consumer_lag_seconds{partition="3"})"), 1.5);
  m.partition(3, {0, 0, 0, -1, std::nullopt});
  EXPECT_TRUE(unknown("troupe_consumer_lag_records")) << "what was known is no longer";
  EXPECT_TRUE(unknown("troupe_consumer_lag_seconds")) << "what was known is no longer";
  m.partition(3, {0, 0, 0, 77, 1.5});
  m.partition_gone(3);
  m.partition_gone(4);
  EXPECT_THAT(m.text(), Not(HasSubstr("partition=\"3\"")));
}

TEST(Metrics, BreakersShowTheirStateAndCountTheirOpenings) {
  metrics m(three_classes());
  m.breaker("redis", 0);
  EXPECT_EQ(parse(m.text()).at(R"(troupe_breaker_openings_total{name="redis"})"), 0);
  for (const int state : {2, 2, 1, 2, 1, 0}) m.breaker("redis", state);
  const auto e = parse(m.text());
  EXPECT_EQ(e.at(R"(troupe_breaker_state{name="redis"})"), 0);
  EXPECT_EQ(e.at(R"(troupe_breaker_openings_total{name="redis"})"), 2);
}

TEST(Metrics, RebalancesAreACounterOfWhatTheSourceCounts) {
  metrics m(three_classes());
  m.assigned_partitions(4, 1);
  m.assigned_partitions(2, 3);
  m.assigned_partitions(4, 3);
  const auto e = parse(m.text());
  EXPECT_EQ(e.at("troupe_rebalances_total"), 3);
  EXPECT_EQ(e.at("troupe_assigned_partitions"), 4);
}

TEST(Metrics, AnAddressMayBeAnotherModelLater) {
  metrics m(three_classes());
  m.model_loaded(handle(0), "a", "1");
  m.answered(line_of(handle(0), error_code::none, 4));
  m.model_unloaded(handle(0));
  EXPECT_THAT(m.text(), Not(HasSubstr("troupe_model_loaded{")));
  m.model_loaded(handle(0), "b", "2");
  m.answered(line_of(handle(0), error_code::none, 1));
  const auto e = parse(m.text());
  EXPECT_EQ(
      e.at(R"(inference_requests_total{class="bulk",door="kafka",model="a",status="success",version="1"})"),
      4);
  EXPECT_EQ(
      e.at(R"(inference_requests_total{class="bulk",door="kafka",model="b",status="success",version="2"})"),
      1);
  EXPECT_EQ(e.at(R"(troupe_model_loaded{model="b",version="2"})"), 1);
}

TEST(Metrics, HungCallsAreOfALoadedVersion) {
  metrics m(three_classes());
  m.hung_calls(handle(0), 1);  // not loaded: no labels for it
  EXPECT_THAT(m.text(), Not(HasSubstr("troupe_model_hung_calls{")));
  m.model_loaded(handle(0), "a", "1");
  EXPECT_EQ(parse(m.text()).at(R"(troupe_model_hung_calls{model="a",version="1"})"), 0);
  m.hung_calls(handle(0), 3);
  EXPECT_EQ(parse(m.text()).at(R"(troupe_model_hung_calls{model="a",version="1"})"), 3);
  m.model_unloaded(handle(0));
  EXPECT_THAT(m.text(), Not(HasSubstr("troupe_model_hung_calls{")));
}

TEST(Metrics, AReloadedVersionStaysLoadedWhenItsFirstLoadGoes) {
  metrics m(three_classes());
  m.model_loaded(handle(0), "a", "1");
  m.model_loaded(handle(1), "a", "1");
  m.model_unloaded(handle(0));
  EXPECT_EQ(parse(m.text()).at(R"(troupe_model_loaded{model="a",version="1"})"), 1);
  m.model_unloaded(handle(1));
  EXPECT_THAT(m.text(), Not(HasSubstr("troupe_model_loaded{")));
}

TEST(Metrics, UnknownModelsAndClassesDoNotInventLabels) {
  metrics m(metrics_options{});
  m.answered({handle(5), door::kafka, 200, error_code::none, false, 1, 1, 1, 0.1});
  m.model_batch(*handle(5), 1, 0.1, 0);
  m.queue(0, 1, 1);
  const auto e = parse(m.text());
  EXPECT_EQ(
      e.at(R"(inference_requests_total{class="200",door="kafka",model="",status="success",version=""})"), 1);
  EXPECT_EQ(e.at(R"(troupe_queue_depth{class="0"})"), 1);
}

TEST(Metrics, NamesAreEscaped) {
  metrics m(three_classes());
  m.model_loaded(handle(0), "a\"b\\c\nd", "1");
  EXPECT_THAT(m.text(), HasSubstr(R"(model="a\"b\\c\nd")"));
}

TEST(Metrics, NothingIsLostBetweenThreads) {
  metrics m(three_classes());
  m.model_loaded(handle(0), "m", "1");
  constexpr int each = 5000;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&m] {
      for (int i = 0; i < each; ++i) {
        m.answered(line_of(handle(0), error_code::none, 2));
        m.model_batch(*handle(0), 3, 0.001, 0);
        m.partition(i % 3, {1, 1, 1, 1, 1});
        if (i % 7 == 0) m.partition_gone(i % 3);
        if (i % 500 == 0) static_cast<void>(m.text());
      }
    });
  for (auto& t : threads) t.join();
  const auto e = parse(m.text());
  EXPECT_EQ(m.totals().requests, 4U * each * 2U);
  EXPECT_EQ(e.at(R"(inference_latency_seconds_count{model="m",version="1"})"), 4 * each * 3);
  EXPECT_EQ(e.at(R"(inference_request_duration_seconds_count{class="bulk",door="kafka",status="success"})"),
            4 * each * 2);
}

TEST(Histogram, AgreesWithCountingByHand) {
  std::mt19937_64 random(3);
  const std::vector<double> bounds = {0.5, 0.1, 2, 0.5, 1};
  histogram h(bounds);
  EXPECT_EQ(h.bounds(), (std::vector<double>{0.1, 0.5, 1, 2}));
  std::vector<std::uint64_t> expected(5);
  double sum = 0;
  for (int i = 0; i < 2000; ++i) {
    const double value = static_cast<double>(random() % 30) / 10.0;
    const std::uint64_t n = random() % 5;
    h.observe(value, n);
    sum += value * static_cast<double>(n);
    for (std::size_t b = 0; b < 5; ++b)
      if (b == 4 || value <= h.bounds()[b]) expected[b] += n;
  }
  EXPECT_EQ(h.read().cumulative, expected);
  EXPECT_NEAR(h.read().sum, sum, 1e-6);
}

}  // namespace
}  // namespace troupe::observe
