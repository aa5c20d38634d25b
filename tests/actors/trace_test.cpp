// The spans of a request, from whoever took part in it, under the deterministic scheduler.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/actors/stage.hpp"

namespace troupe {
namespace {

using observe::span;
using observe::span_kind;
using test::stage;
using test::stage_options;

const std::string id = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string caller = "00f067aa0ba902b7";
const std::string sampled = "00-" + id + "-" + caller + "-01";

std::string body(int n) {
  return "{\"request_id\":\"r-" + std::to_string(n) + "\",\"features\":[" + std::to_string(n) + ",0.5]}";
}

std::string text_of(const span& s, std::string_view name) {
  for (const auto& a : s.attributes)
    if (a.name == name) {
      if (const auto* t = std::get_if<std::string>(&a.value)) return *t;
      if (const auto* n = std::get_if<std::int64_t>(&a.value)) return std::to_string(*n);
      return std::get<bool>(a.value) ? "true" : "false";
    }
  return "(none)";
}

/// Names of the children, in order; checks that they hang on their one consumer span, within its time.
std::vector<std::string> tree_of(const std::vector<span>& all, const std::string& trace, span& own) {
  std::vector<std::string> names;
  int owns = 0;
  for (const span& s : all)
    if (policy::hex(s.trace) == trace && s.kind == span_kind::consumer) own = s, ++owns;
  EXPECT_EQ(owns, 1);
  for (const span& s : all) {
    if (policy::hex(s.trace) != trace || s.kind == span_kind::consumer) continue;
    EXPECT_EQ(s.parent, own.id) << s.name;
    EXPECT_GE(s.begin_ns, own.begin_ns) << s.name;
    EXPECT_LE(s.end_ns, own.end_ns) << s.name;
    names.push_back(s.name);
  }
  return names;
}

using names = std::vector<std::string>;

TEST(traces, a_record_with_a_sampled_parent_is_one_tree_and_its_result_goes_on_with_it) {
  stage s;
  s.request(1);
  s.queue->add(body(2), "k", {{"traceparent", sampled}, {"tracestate", "a=1"}, {"x", "y"}});
  s.settle();
  const auto all = s.spans->all();
  span own;
  EXPECT_EQ(tree_of(all, id, own), (names{"queue", "score", "send results"}));
  EXPECT_EQ(all.size(), 4U) << "nothing of the other record";
  EXPECT_EQ(policy::hex(own.parent), caller);
  EXPECT_FALSE(own.failed);
  EXPECT_EQ(text_of(own, "troupe.request_id"), "r-2");
  const span& score = all.at(1);
  EXPECT_EQ(text_of(score, "troupe.model.name"), "sum");
  EXPECT_EQ(text_of(score, "troupe.model.version"), "1");
  EXPECT_EQ(text_of(score, "troupe.batch.requests"), text_of(score, "troupe.batch.rows"));
  ASSERT_EQ(s.sink->delivered.size(), 2U);
  const auto& sent = *std::find_if(s.sink->delivered.begin(), s.sink->delivered.end(),
                                   [](const auto& x) { return x.key == "k"; });
  EXPECT_EQ(sent.headers.at("traceparent"), "00-" + id + "-" + policy::hex(all.at(2).id) + "-01");
  EXPECT_EQ(sent.headers.at("tracestate"), "a=1");
  EXPECT_EQ(sent.headers.at("x"), "y");
}

TEST(traces, a_result_of_a_record_without_a_parent_tells_of_the_trace_that_began_here) {
  stage_options o;
  o.kafka_sample_ratio = 1;
  stage s(o);
  for (int i = 0; i < 3; ++i) s.request(i);
  s.settle();
  std::set<std::string> seen;
  ASSERT_EQ(s.sink->delivered.size(), 3U);
  for (const auto& sent : s.sink->delivered) {
    const auto read = policy::read_traceparent(sent.headers.at("traceparent"));
    ASSERT_TRUE(read);
    span own;
    EXPECT_EQ(tree_of(s.spans->all(), policy::hex(read->trace), own),
              (names{"queue", "score", "send results"}));
    EXPECT_EQ(own.parent, 0U);
    seen.insert(policy::hex(read->trace));
  }
  EXPECT_EQ(seen.size(), 3U);
}

TEST(traces, an_unsampled_parent_is_obeyed_and_passed_on) {
  stage_options o;
  o.kafka_sample_ratio = 1;
  stage s(o);
  const std::string off = sampled.substr(0, 53) + "00";
  s.queue->add(body(1), "", {{"traceparent", off}});
  s.settle();
  EXPECT_TRUE(s.spans->all().empty());
  const std::string passed = s.sink->delivered.at(0).headers.at("traceparent");
  EXPECT_EQ(passed.substr(0, 36), off.substr(0, 36));
  EXPECT_TRUE(passed.ends_with("-00"));
}

TEST(traces, error_results_and_dead_letters) {
  stage s;
  s.queue->add("no json", "dead", {{"traceparent", sampled}});
  const std::string other = "00-" + std::string(31, '0') + "1-" + caller + "-01";
  s.queue->add(R"({"features":[1]})", "bad", {{"traceparent", other}});
  s.settle();
  span own;
  EXPECT_EQ(tree_of(s.spans->all(), id, own), (names{"send dead"}));
  EXPECT_EQ(text_of(own, "error.type"), "invalid_json");
  EXPECT_EQ(text_of(own, "troupe.dead_letter"), "true");
  EXPECT_EQ(tree_of(s.spans->all(), other.substr(3, 32), own), (names{"send results"}));
  EXPECT_EQ(text_of(own, "error.type"), "invalid_features");
  EXPECT_TRUE(own.failed);
  for (const auto& sent : s.sink->delivered)
    EXPECT_TRUE(sent.key != "dead" || sent.headers.at("traceparent") == sampled) << "it stays as it was";
}

TEST(traces, dead_letters_of_traces_that_began_here_lead_to_them) {
  stage_options o;
  o.kafka_sample_ratio = 1;
  stage s(o);
  s.queue->add("no json");
  s.settle();
  EXPECT_TRUE(policy::is_traceparent(s.sink->delivered.at(0).headers.at("traceparent")));
}

TEST(traces, what_the_cache_knows_is_not_scored) {
  stage_options o;
  o.cache = true;
  stage s(o);
  s.queue->add(body(5), "", {{"traceparent", sampled}});
  s.settle();
  const std::string second = "00-" + std::string(31, '0') + "2-" + caller + "-01";
  s.queue->add(body(5), "", {{"traceparent", second}});
  s.settle();
  span own;
  EXPECT_EQ(tree_of(s.spans->all(), id, own), (names{"cache", "queue", "score", "send results"}));
  EXPECT_EQ(text_of(s.spans->all().at(0), "troupe.cache.result"), "miss");
  EXPECT_EQ(tree_of(s.spans->all(), second.substr(3, 32), own), (names{"cache", "send results"}));
}

TEST(traces, a_request_that_joins_another_in_flight_says_so) {
  stage_options o;
  o.cache = true;
  stage s(o);
  const std::string second = "00-" + std::string(31, '0') + "2-" + caller + "-01";
  s.queue->add(body(5));
  s.queue->add(body(5), "", {{"traceparent", second}});
  s.settle();
  span own;
  EXPECT_EQ(tree_of(s.spans->all(), second.substr(3, 32), own), (names{"cache", "send results"}));
  EXPECT_EQ(text_of(s.spans->all().at(0), "troupe.cache.result"), "joined");
}

TEST(traces, a_crash_leaves_one_span_of_the_request) {
  for (const char* victim : {"scheduler", "model_shard", "producer", "cache_client"}) {
    stage_options o;
    o.cache = true;
    o.kafka_sample_ratio = 1;
    stage s(o);
    for (int i = 0; i < 40; ++i) s.request(i);
    s.crash_child(victim);
    s.settle(5'000'000'000);
    std::map<std::string, int> consumers, producers;
    for (const span& one : s.spans->all()) {
      if (one.kind == span_kind::consumer) ++consumers[policy::hex(one.trace)];
      if (one.kind == span_kind::producer) ++producers[policy::hex(one.trace)];
    }
    EXPECT_EQ(consumers.size(), 40U) << victim;
    for (const auto& [trace, n] : consumers) {
      EXPECT_EQ(n, 1) << victim;
      EXPECT_EQ(producers[trace], 1) << victim;
    }
  }
}

TEST(traces, a_delivery_that_fails_is_a_span_of_its_own) {
  stage s;
  s.queue->add(body(1), "", {{"traceparent", sampled}});
  s.sink->refuse_next = 1;
  s.settle(5'000'000'000);
  span own;
  EXPECT_EQ(tree_of(s.spans->all(), id, own), (names{"queue", "score", "send results", "send results"}));
  EXPECT_TRUE(s.spans->all().at(2).failed);
  EXPECT_FALSE(s.spans->all().at(3).failed);
  EXPECT_FALSE(own.failed);
}

TEST(traces, latency_histograms_lead_to_traces) {
  stage s;
  s.request(1);
  s.queue->add(body(2), "", {{"traceparent", sampled}});
  s.settle();
  const std::string text = s.metrics->expose("application/openmetrics-text").text;
  for (const std::string name :
       {"inference_request_duration_seconds_bucket", "inference_latency_seconds_bucket"}) {
    const auto at = text.find("# {trace_id=\"" + id + "\"}", text.find(name + "{"));
    ASSERT_NE(at, std::string::npos) << name << "\n" << text;
  }
}

}  // namespace
}  // namespace troupe
