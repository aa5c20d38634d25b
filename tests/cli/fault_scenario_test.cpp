#include "cli/fault/scenario.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/fault/outcome.hpp"
#include "cli/fault/watch.hpp"

namespace troupe::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string why(const std::string& text) {
  try {
    (void)parse_scenario(text, "s.yaml");
  } catch (const usage_error& e) {
    return e.what();
  }
  return "accepted";
}

TEST(scenario, everything_may_be_set) {
  const auto s = parse_scenario(R"(
name: all of it
steady_state:
  pipeline: {p95: 50ms, p99: 1s, errors: 0.2%}
  api: {errors: 0.05}
  lag: 2s
  throughput: 100
  ready: false
window: 3s
warm_up: 20s
detect_within: 4s
recover_within: 1m
steps:
  - {fault: shard_delay, model: churn, version: 3, probability: 0.1, delay: 20ms, duration: 5s, wait: 2s}
  - {fault: redis_cut, failed_at_most: 0, strikes_at_least: 0}
)",
                                "s.yaml");
  EXPECT_EQ(s.name, "all of it");
  EXPECT_DOUBLE_EQ(s.steady.pipeline.p95_s, 0.05);
  EXPECT_DOUBLE_EQ(s.steady.pipeline.errors, 0.002);
  EXPECT_DOUBLE_EQ(s.steady.api.p95_s, 0.2) << "what is not named stays";
  EXPECT_DOUBLE_EQ(s.steady.api.errors, 0.05);
  EXPECT_EQ(s.steady.lag_s, 2);
  EXPECT_EQ(s.steady.throughput, 100);
  EXPECT_FALSE(s.steady.ready);
  EXPECT_EQ(s.window_s, 3);
  EXPECT_EQ(s.warm_up_s, 20);
  EXPECT_EQ(s.detect_within_s, 4);
  EXPECT_DOUBLE_EQ(s.recover_within_s, 60);
  ASSERT_EQ(s.steps.size(), 2U);
  EXPECT_EQ(s.steps[0].fault.what, faults::kind::shard_delay);
  EXPECT_EQ(s.steps[0].fault.version, "3");
  EXPECT_EQ(s.steps[0].wait_s, 2);
  EXPECT_EQ(
      s.steps[0].body,
      R"({"delay":"20ms","duration":"5s","fault":"shard_delay","model":"churn","probability":0.1,"version":"3"})");
  EXPECT_EQ(s.steps[1].failed_at_most, 0U);
  EXPECT_EQ(s.steps[0].strikes_at_least, 1U);
  EXPECT_EQ(s.steps[1].strikes_at_least, 0U);
  EXPECT_EQ(s.steps[1].place, "s.yaml:15: step 2");
}

TEST(scenario, what_is_wrong_is_named_with_its_line) {
  const struct {
    const char* text;
    const char* says;
  } table[] = {
      {"", "s.yaml: has no scenario in it; expected at least steps:"},
      {"# nothing yet\n", "s.yaml: has no scenario in it"},
      {"just words", "s.yaml:1: expected keys and values"},
      {"steps: [{fault: redis_cut, strikes_at_least: many}]",
       "strikes_at_least: expected a whole number from 0"},
      {"steps: [{fault: redis_cut, failed_at_most: 0.5}]",
       "step 1: failed_at_most: expected a whole number from 0 to 1000000000000, not 0.5"},
      {"steady_state: {throughput: -1}", "throughput: expected a number from 0 to 1000000000000, not -1"},
      {"steps: [{fault: redis_cut, wiat: 1s}]",
       "step 1: wiat: no field of redis_cut; did you mean wait? allowed: fault, duration, wait, "
       "failed_at_most, strikes_at_least"},
      {"steps: [{duration: 1s}]",
       "s.yaml:1: step 1: expected {\"fault\": \"NAME\", ...}; known: actor_crash"},
      {"steps: []", "steps: expected at least one fault"},
      {"steps: 3", "steps: expected a list"},
      {"a: [", "s.yaml:"},
      {"stepps: []", "did you mean steps?"},
      {"\nsteady_state: {pipline: {}}", "s.yaml:2: steady_state.pipline: unknown; did you mean pipeline?"},
      {"steady_state: {pipeline: {p95: fast}}", "steady_state.pipeline.p95: expected a duration"},
      {"steady_state: {api: {errors: 120%}}",
       "steady_state.api.errors: expected a share from 0 to 1, or a percentage from 0% to 100%, not 120%"},
      {"steady_state: {ready: maybe}", "expected true or false"},
      {"window: 1ms", "s.yaml:1: window: expected a duration from 500ms to 1d, not 1ms"},
      {"warm_up: 25h", "s.yaml:1: warm_up: expected a duration from 0 to 1d, not 25h"},
      {"warm_up: soon",
       "s.yaml:1: warm_up: expected a duration from 0 to 1d, written like 500ms or 5s, not soon"},
      {"warm_up:", "s.yaml:1: warm_up: has no value"},
      {"name: all\n", "s.yaml: steps: missing; expected a list of faults"},
      {"steps: [{fault: redis_cut, duration: 0s}]",
       "step 1: duration: expected a duration from 10ms to 1d (the most that a node can set as its "
       "faults.max_duration), not"},
      {"steps:\n  - {fault: redis_cut}\n  - {fault: redis_cutt}", "s.yaml:3: step 2"},
      {"steps: [{fault: redis_cut, delay: 1s}]", "delay: no field of redis_cut"},
      {"steps: [{fault: redis_cut, wait: x}]", "step 1: wait: expected a duration"},
      {"steps: [redis_cut]", "expected keys and values"},
  };
  for (const auto& row : table) EXPECT_THAT(why(row.text), HasSubstr(row.says)) << row.text;
}

TEST(scenario, all_that_is_wrong_is_told_at_once_by_line) {
  EXPECT_EQ(why(R"(window: 1ms
widnow: 5s
steady_state:
  pipeline: {p95: fast, p99: 1s, errors: 2}
  api: 5
  ready: perhaps
steps:
  - fault: shard_delay
    wait: x
    delay: fast
    duration: 0s
    strikes_at_least: -1
  - redis_cut
  - {fault: redis_cutt, duration: 1h}
  - {fault: actor_crash, actor: [a, b]}
  - {fault: [redis_cut]}
recover_within: never
)"),
            R"(s.yaml:1: window: expected a duration from 500ms to 1d, not 1ms
s.yaml:2: widnow: unknown; did you mean window?; allowed: name, steady_state, window, warm_up, detect_within, recover_within, steps
s.yaml:4: steady_state.pipeline.p95: expected a duration from 0 to 1d, written like 500ms or 5s, not fast
s.yaml:4: steady_state.pipeline.errors: expected a share from 0 to 1, or a percentage from 0% to 100%, not 2
s.yaml:5: steady_state.api: expected keys and values
s.yaml:6: steady_state.ready: expected true or false, not perhaps
s.yaml:9: step 1: wait: expected a duration from 0 to 1d, written like 500ms or 5s, not x
s.yaml:10: step 1: delay: expected a duration from 1ms to 1m, written like 200ms or 30s, not "fast"
s.yaml:11: step 1: duration: expected a duration from 10ms to 1d (the most that a node can set as its faults.max_duration), not "0s"
s.yaml:12: step 1: strikes_at_least: expected a whole number from 0 to 1000000000000, not -1
s.yaml:13: step 2: expected keys and values
s.yaml:14: step 3: fault: unknown: redis_cutt; did you mean redis_cut? known: actor_crash, shard_delay, shard_fail, shard_hang, redis_cut, redis_slow, redis_corrupt, kafka_cut, kafka_slow, kafka_corrupt, registry_cut, registry_slow, registry_corrupt, report_drop, report_duplicate, rebalance_storm, clock_jump, memory_pressure, freeze
s.yaml:15: step 4: actor: expected one value
s.yaml:16: step 5: fault: expected one value
s.yaml:17: recover_within: expected a duration from 0 to 1d, written like 500ms or 5s, not never)");
}

TEST(scenario, a_key_stands_once_in_a_mapping) {
  EXPECT_EQ(why(R"(window: 5s
window: 1s
steady_state: {lag: 1s, api: {p95: 1s, p95: 2s}}
steps:
  - fault: redis_cut
    duration: 1s
    wait: 1s
    duration: 2s
    wait: 2s
steps: [{fault: redis_slow}]
)"),
            R"(s.yaml:2: window is given twice (first in line 1)
s.yaml:3: steady_state.api.p95 is given twice (first in line 3)
s.yaml:8: step 1: duration is given twice (first in line 6)
s.yaml:9: step 1: wait is given twice (first in line 7)
s.yaml:10: steps is given twice (first in line 4))");
}

TEST(scenario, the_examples_can_be_read) {
  std::size_t n = 0;
  for (const auto& file : std::filesystem::directory_iterator(TROUPE_SOURCE_DIRECTORY "/config/faults")) {
    std::ifstream in(file.path());
    EXPECT_FALSE(parse_scenario({std::istreambuf_iterator<char>(in), {}}, file.path()).steps.empty());
    ++n;
  }
  EXPECT_GE(n, 3U);
}

/// A page on which 100 requests came by Kafka, `slow` of them in up to a second, and `errors` failed.
look page(double at_s, int requests, int slow, int errors, double lag = 0) {
  const auto n = [](double v) { return std::to_string(v); };
  const std::string bucket =
      R"(inference_request_duration_seconds_bucket{class="standard",door="kafka",le=")";
  auto l = read_look(
      "# TYPE inference_requests_total counter\n"
      R"(inference_requests_total{class="standard",door="kafka",model="m",status="success"} )" +
          n(requests - errors) +
          "\n"
          R"(inference_requests_total{class="standard",door="kafka",model="m",status="error"} )" +
          n(errors) + "\n" + bucket + R"(0.05"} )" + n(requests - slow) + "\n" + bucket + R"(1"} )" +
          n(requests) + "\n" + bucket + R"(+Inf"} )" + n(requests) + "\n" +
          R"(troupe_credit_oldest_age_seconds{partition="0"} )" + n(lag) + "\n" +
          R"(inference_errors_total{code="model_failed"} )" + n(errors) + "\n",
      R"({"status":"ready"})", 200);
  l.at_s = at_s;
  return l;
}

look counted(double kafka, double cached) {
  look l;
  l.pipeline.requests = kafka;
  l.cached = cached;
  return l;
}

/// What is said of a fault that struck nothing while 600 requests were answered, so many from the cache.
std::string idle(const std::string& step, double answered = 600, double cached = 0) {
  const auto s = parse_scenario("steps: [{" + step + "}]", "s.yaml").steps.at(0);
  return not_exercised(s, 0, counted(1'000, 400), counted(1'000 + answered, 400 + cached));
}

TEST(outcome, a_fault_that_struck_nothing_has_shown_nothing_whatever_its_kind) {
  std::size_t n = 0;
  for (const auto& k : faults::kinds()) {
    std::string step = "fault: " + std::string(k.name);
    if (k.what == faults::kind::actor_crash) step += ", actor: producer";
    if (k.what == faults::kind::clock_jump) step += ", shift: 1h";
    if (k.what == faults::kind::memory_pressure) step += ", size: 1MiB";
    EXPECT_THAT(idle(step), testing::StartsWith("not exercised, it struck nothing: ")) << k.name;
    EXPECT_THAT(idle(step), HasSubstr("with strikes_at_least: 0 that is no failure")) << k.name;
    EXPECT_EQ(idle(step + ", strikes_at_least: 0"), "") << k.name;
    const auto s = parse_scenario("steps: [{" + step + "}]", "s.yaml").steps.at(0);
    EXPECT_EQ(not_exercised(s, 1, {}, {}), "") << k.name;
    EXPECT_THAT(not_exercised(s, std::nullopt, {}, {}), HasSubstr("the node was restarted meanwhile"))
        << k.name;
    ++n;
  }
  EXPECT_EQ(n, 19U);
}

TEST(outcome, why_it_struck_nothing_and_what_to_do_is_said) {
  EXPECT_THAT(idle("fault: shard_fail", 600, 600),
              HasSubstr("600 of 600 answers came from the cache: send rows that differ"));
  EXPECT_THAT(idle("fault: shard_fail", 600, 600), HasSubstr("or set cache.mode: off"));
  EXPECT_THAT(idle("fault: shard_delay", 0),
              HasSubstr("no request was answered meanwhile: put load on the node"));
  EXPECT_THAT(
      idle("fault: shard_hang, model: churn, version: 3"),
      HasSubstr("none of 600 requests was scored by churn version 3: send it some (troupe load --model churn "
                "--model-version 3)"));
  EXPECT_THAT(idle("fault: shard_fail, probability: 0.001"),
              HasSubstr("none was hit with probability 0.001: raise it"));
  EXPECT_THAT(idle("fault: shard_fail"),
              testing::AllOf(HasSubstr("no batch was begun meanwhile: put more load"),
                             testing::Not(HasSubstr("cache"))))
      << "with the cache off";
  EXPECT_THAT(idle("fault: redis_cut"), HasSubstr("no connection to Redis, and none was tried"));
  EXPECT_THAT(
      idle("fault: redis_corrupt, probability: 0.1"),
      testing::AllOf(HasSubstr("no answer came from Redis meanwhile"), HasSubstr("raise the probability")));
  EXPECT_THAT(idle("fault: registry_slow"), HasSubstr("longer than mlflow.poll_interval"));
  EXPECT_THAT(idle("fault: report_drop"), HasSubstr("no delivery report came"));
  EXPECT_THAT(idle("fault: clock_jump, shift: 1h"), HasSubstr("no record was read from Kafka"));
  const auto s = parse_scenario("steps: [{fault: report_drop, strikes_at_least: 10}]", "s.yaml").steps.at(0);
  EXPECT_THAT(not_exercised(s, 9, {}, {}), HasSubstr("it struck 9 times, strikes_at_least is 10"));
  EXPECT_THAT(not_exercised(s, 1, {}, {}), HasSubstr("it struck once, strikes_at_least is 10"));
  EXPECT_EQ(not_exercised(s, 10, {}, {}), "");
}

TEST(outcome, a_row_names_its_target_and_says_beneath_why_it_failed) {
  step_outcome passed;
  passed.fault.what = faults::kind::actor_crash;
  passed.fault.actor = "producer";
  passed.detected_s = 0.25;
  passed.recovered_s = 0;
  passed.answered = 31'250;
  passed.strikes = 1;
  passed.started_ms = 0;
  passed.result = outcome::passed;
  passed.sign = "troupe_actor_restarts_total";
  step_outcome other = passed;
  other.fault.actor = "scheduler";
  other.detected_s.reset();
  other.sign.clear();
  other.strikes = 0;
  other.result = outcome::failed;
  other.why = "not exercised";
  step_outcome rest;
  rest.fault.what = faults::kind::freeze;
  EXPECT_EQ(outcome_table({passed, other, rest}), R"(
FAULT                           DETECTED  RECOVERED   FAILED  ANSWERED  STRIKES  RESULT   FIRST SIGN
actor_crash (actor producer)      0.25 s     0.00 s        0     31250        1  passed   troupe_actor_restarts_total
actor_crash (actor scheduler)          -     0.00 s        0     31250        0  FAILED   -
  not exercised
freeze                                 -          -        -         -        -  not run  -
)");
  EXPECT_EQ(outcome_table({}), "");
  EXPECT_EQ(outcome_table({rest, rest}), "") << "none was begun";
}

/// A run of two steps with such outcomes.
run_outcome run_of(outcome first, outcome second) {
  run_outcome r;
  r.file = "/somewhere/two steps.yaml";
  r.url = "http://node:8000";
  r.started_ms = 1'700'000'000'123;
  r.seconds = 12.3456;
  r.what = parse_scenario(
      "steady_state: {api: {p95: 300ms}, throughput: 50}\ndetect_within: 5s\n"
      "steps: [{fault: redis_cut, duration: 3s, failed_at_most: 2}, {fault: freeze, strikes_at_least: 0}]",
      r.file);
  for (std::size_t i = 0; i < 2; ++i) {
    auto& o = r.steps.emplace_back();
    o.fault = r.what->steps[i].fault;
    o.result = i == 0 ? first : second;
    if (o.result != outcome::not_run) o.started_ms = 1'700'000'001'000;
    if (o.result != outcome::passed) o.why = "because";
  }
  return r;
}

TEST(outcome, of_a_run_follows_from_its_steps) {
  using enum outcome;
  EXPECT_EQ(run_of(passed, passed).result(), passed);
  EXPECT_EQ(run_of(passed, failed).result(), failed);
  EXPECT_EQ(run_of(failed, not_run).result(), failed) << "that much is known";
  EXPECT_EQ(run_of(passed, not_run).result(), not_run);
  EXPECT_EQ(run_of(not_run, not_run).result(), not_run);
  EXPECT_EQ(run_outcome{}.result(), not_run);
  auto stopped = run_of(passed, outcome::interrupted);
  stopped.interrupted = true;
  EXPECT_EQ(stopped.result(), outcome::interrupted);
  stopped.steps[0].result = failed;
  EXPECT_EQ(stopped.result(), failed);
  auto late = run_of(passed, passed);
  late.interrupted = true;
  EXPECT_EQ(late.result(), passed);
}

TEST(outcome, the_document_says_what_was_done_where_when_and_against_what) {
  auto run = run_of(outcome::passed, outcome::not_run);
  run.steps[0].detected_s = 0.25019;
  run.steps[0].answered = 10;
  run.steps[0].strikes = 4;
  run.error = "a line\nanother";
  const auto j = nlohmann::json::parse(outcome_document(run));
  EXPECT_TRUE(j["steps"][0]["answered"].is_number_unsigned()) << outcome_document(run);
  EXPECT_EQ(j["steps"][0]["duration"], "3s");
  EXPECT_EQ(j["name"], "two steps.yaml") << "the file's, without a name in it";
  EXPECT_EQ(j["outcome"], "not_run");
  EXPECT_EQ(j["passed"], false);
  EXPECT_EQ(j["file"], "/somewhere/two steps.yaml");
  EXPECT_EQ(j["url"], "http://node:8000");
  EXPECT_EQ(j["started"], "2023-11-14T22:13:20Z");
  EXPECT_EQ(j["seconds"], 12.346);
  EXPECT_EQ(j["error"], "a line\nanother");
  EXPECT_EQ(j["objectives"], nlohmann::json::parse(R"({
    "pipeline": {"p95_s": 0.1, "p99_s": 0.5, "errors": 0.001}, "api": {"p95_s": 0.3, "p99_s": 0.5, "errors": 0.01},
    "lag_s": 5.0, "throughput": 50.0, "ready": true, "degraded": false, "window_s": 5.0, "warm_up_s": 10.0, "detect_within_s": 5.0,
    "recover_within_s": 30.0})"));
  EXPECT_EQ(j["steps"], nlohmann::json::parse(R"([
    {"fault": "redis_cut", "outcome": "passed", "passed": true, "duration": "3s", "failed_at_most": 2,
     "strikes_at_least": 1, "started": "2023-11-14T22:13:21Z", "strikes": 4, "detected_s": 0.25, "sign": null,
     "recovered_s": null, "failed": 0.0, "answered": 10.0},
    {"fault": "freeze", "outcome": "not_run", "passed": false, "duration": "30s", "failed_at_most": null,
     "strikes_at_least": 0, "started": null, "strikes": null, "detected_s": null, "sign": null,
     "recovered_s": null, "failed": null, "answered": null, "why": "because"}])"));
  run.what->name = "a name of its own";
  EXPECT_EQ(nlohmann::json::parse(outcome_document(run))["name"], "a name of its own");
}

TEST(outcome, there_is_a_document_also_of_a_file_that_cant_be_read) {
  run_outcome run;
  run.file = "broken\xff.yaml";
  run.error = "broken.yaml:1: \xff";
  const auto j = nlohmann::json::parse(outcome_document(run));
  EXPECT_EQ(j["outcome"], "not_run");
  EXPECT_EQ(j["url"], nullptr);
  EXPECT_EQ(j["objectives"], nullptr);
  EXPECT_EQ(j["steps"], nlohmann::json::array());
  EXPECT_THAT(j["error"].get<std::string>(), testing::StartsWith("broken.yaml:1: "));
}

TEST(watch, answers_from_the_cache_are_counted) {
  EXPECT_EQ(
      read_look("troupe_cache_hits_total{level=\"1\"} 3\ntroupe_cache_hits_total{level=\"2\"} 4\n", "{}", 200)
          .cached,
      7);
}

TEST(watch, a_steady_node_has_no_objections) {
  EXPECT_THAT(objections({}, between(page(0, 100, 0, 0), page(5, 1'100, 10, 0))), IsEmpty());
  EXPECT_THAT(objections({}, between(page(0, 100, 0, 0), page(5, 100, 0, 0))), IsEmpty()) << "no traffic";
}

TEST(watch, each_objective_is_looked_at) {
  EXPECT_THAT(objections({}, between(page(0, 0, 0, 0), page(5, 1'000, 100, 0))),
              ElementsAre(HasSubstr("pipeline p95 525 ms > 100 ms"), HasSubstr("pipeline p99")));
  EXPECT_THAT(objections({}, between(page(0, 0, 0, 0), page(5, 1'000, 0, 2))),
              ElementsAre("pipeline errors 0.2 % > 0.1 %"));
  EXPECT_THAT(objections({}, between(page(0, 0, 0, 0), page(5, 1'000, 0, 0, 6))),
              ElementsAre("lag 6.0 s > 5.0 s"));
  steady_state busy;
  busy.throughput = 300;
  EXPECT_THAT(objections(busy, between(page(0, 0, 0, 0), page(5, 1'000, 0, 0))),
              ElementsAre("throughput 200/s < 300/s"));
  look away = page(5, 1'000, 0, 0);
  away.ready = false;
  EXPECT_THAT(objections({}, between(page(0, 0, 0, 0), away)), ElementsAre("not ready"));
}

TEST(watch, what_shows_long_after_the_end_of_a_fault_is_not_its_sign) {
  EXPECT_EQ(first_sign({}, -1), std::nullopt);
  EXPECT_EQ(first_sign({"not ready", "lag"}, -1), "not ready");
  EXPECT_EQ(first_sign({"lag"}, 0.25), "after its end: lag") << "lost reports are seen only then";
  EXPECT_EQ(first_sign({"lag"}, 2.5), std::nullopt);
}

TEST(watch, what_an_errors_counter_did_before_is_no_sign) {
  const look before = page(0, 0, 0, 0);
  const look now = page(1, 10, 0, 1);
  EXPECT_THAT(signs(before, now, {}), ElementsAre(HasSubstr("inference_errors_total")));
  EXPECT_THAT(signs(before, now, noise(before, now)), IsEmpty());
}

TEST(watch, readiness_and_what_is_degraded_are_signs) {
  const look before =
      read_look("troupe_registry_up 1\n", R"({"degraded": ["x is down; next start in 9 s"]})", 200);
  const look now =
      read_look("troupe_registry_up 0\n",
                R"({"degraded": ["redis: gone", "fault active: redis_cut", "x is down; next start in 3 s",
                                 "breaker m/1 is open; next probe in 42 s"]})",
                503);
  EXPECT_THAT(lasting_signs(before, now),
              ElementsAre("not ready", "degraded: redis: gone",
                          "degraded: breaker m/1 is open; next probe in 42 s", "troupe_registry_up"));
  EXPECT_THAT(lasting_signs(before, look{}), ElementsAre("the node does not answer"));
  EXPECT_THAT(lasting_signs(before, before), IsEmpty());
}

}  // namespace
}  // namespace troupe::cli
