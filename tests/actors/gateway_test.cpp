// Calls whose callers wait, through the gateway and the whole road, under the deterministic scheduler.

#include <gtest/gtest.h>

#include <map>

#include "runtime/observe/log.hpp"
#include "tests/actors/stage.hpp"

namespace troupe {
namespace {

using test::stage;
using test::stage_options;

/// What became of the calls of a test, by their number.
struct outcomes {
  std::map<int, std::vector<double>> predictions;
  std::map<int, std::vector<error_code>> failures;
  std::map<int, nanos> retry_after;
  int abandoned = 0;  // destroyed without an end

  [[nodiscard]] std::size_t ends(int n) const {
    const auto p = predictions.find(n);
    const auto f = failures.find(n);
    return (p == predictions.end() ? 0 : p->second.size()) + (f == failures.end() ? 0 : f->second.size());
  }
};

struct wish {
  error_code error = error_code::none;
  nanos timeout = 0;  // 0: none
  std::uint8_t cls = 0;
  const bool* gone = nullptr;
  bool reply_throws = false;
};

class test_call final : public call {
 public:
  test_call(outcomes& to, int number, wish w) : to_(&to), number_(number), wish_(w) {}
  ~test_call() override {
    if (!ended_) ++to_->abandoned;
  }
  void read(record& r, record_batch& batch) override {
    r.request_id = "\"x\"";
    r.cls = wish_.cls;
    r.target = batch.arrived + (wish_.cls == 0 ? 100'000'000 : 60'000'000'000);
    if (wish_.timeout != 0) r.expiry = batch.arrived + wish_.timeout;
    if (wish_.error != error_code::none) {
      r.error = wish_.error;
      r.error_message = "as the test wishes";
      return;
    }
    r.model = batch.models->find("sum", "").model;
    r.rows = 1;
    r.values_begin = static_cast<std::uint32_t>(batch.values.size());
    batch.values.push_back(number_);
    batch.values.push_back(0.5);
  }
  void reply(const record&, const call_result& result) override {
    if (wish_.reply_throws) throw std::bad_alloc();
    ended_ = true;
    to_->predictions[number_].push_back(result.outputs[0]);
  }
  void fail(const record&, const call_failure& why) override {
    ended_ = true;
    to_->failures[number_].push_back(why.code);
    to_->retry_after[number_] = why.retry_after;
  }
  bool gone() const override { return wish_.gone && *wish_.gone; }

 private:
  outcomes* to_;
  int number_;
  wish wish_;
  bool ended_ = false;
};

void hand_in(stage& s, outcomes& to, int from, int count, wish w = {}) {
  std::vector<std::unique_ptr<call>> calls;
  for (int i = from; i < from + count; ++i) calls.push_back(std::make_unique<test_call>(to, i, w));
  s.desk->hand_in(std::move(calls));
}

void expect_one_prediction_each(const outcomes& o, int calls) {
  for (int i = 0; i < calls; ++i) {
    ASSERT_EQ(o.ends(i), 1U) << "call " << i;
    ASSERT_TRUE(o.predictions.contains(i)) << "call " << i;
    EXPECT_EQ(o.predictions.at(i)[0], i + 0.5);
  }
  EXPECT_EQ(o.abandoned, 0);
}

TEST(gateway, every_call_gets_its_prediction) {
  outcomes o;
  stage s;
  hand_in(s, o, 0, 3);
  hand_in(s, o, 3, 40);
  s.system.advance(500'000'000);
  expect_one_prediction_each(o, 43);
  EXPECT_EQ(s.desk->open_calls(), 0U);
}

TEST(gateway, calls_and_records_share_batches_and_each_gets_its_own_answer) {
  outcomes o;
  stage s;
  for (int i = 0; i < 20; ++i) s.request(i);
  hand_in(s, o, 0, 20);
  s.settle();
  expect_one_prediction_each(o, 20);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(s.results_of(i).size(), 1U) << i;
  EXPECT_EQ(s.sink->delivered.size(), 20U);
}

TEST(gateway, calls_go_beside_the_slots_while_bulk_has_them) {
  for (const bool bulk : {true, false}) {
    outcomes o;
    stage_options options;
    options.express = true;
    stage s(options);
    std::size_t mixed = 0, calls = 0;
    *s.before_scoring = [&](auto rows) {
      std::size_t of_calls = 0;
      for (const double* row : rows) of_calls += row[0] >= 1'000;
      mixed += of_calls != 0 && of_calls != rows.size();
      calls += of_calls;
    };
    if (bulk)
      for (int i = 0; i < 64; ++i) s.request(i);
    for (int i = 0; i < 4; ++i) hand_in(s, o, 1'000 + i, 1);
    s.settle();
    for (int i = 0; i < 4; ++i) EXPECT_EQ(o.predictions[1'000 + i], std::vector{1'000.5 + i});
    EXPECT_EQ(calls, 4U);
    EXPECT_EQ(s.sink->delivered.size(), bulk ? 64U : 0U);
    const bool express = s.metrics->text().find("troupe_express_batches_total 0") == std::string::npos;
    EXPECT_EQ(express, bulk) << s.metrics->text();
    EXPECT_EQ(mixed, 0U);
  }
}

TEST(gateway, calls_whose_express_shard_dies_are_scored_by_another) {
  outcomes o;
  stage_options options;
  options.express = true;
  stage s(options);
  int n = 0;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 40; ++i) s.request(n++);
    hand_in(s, o, 1'000 + 2 * round, 2);
    caf_line::post(s.supervisor,
                   kill_child{"express_shard", 1, std::make_shared<std::promise<std::string>>()});
    s.settle(300'000'000);
  }
  s.settle();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(o.predictions[1'000 + i], std::vector{1'000.5 + i});
  for (int i = 0; i < n; ++i) EXPECT_EQ(s.results_of(i).size(), 1U) << i;
}

TEST(gateway, what_cannot_be_read_fails_with_its_code) {
  outcomes o;
  stage s;
  hand_in(s, o, 0, 1, {error_code::invalid_features});
  hand_in(s, o, 1, 1, {error_code::model_not_found});
  hand_in(s, o, 2, 1);
  s.system.advance(500'000'000);
  EXPECT_EQ(o.failures[0], std::vector{error_code::invalid_features});
  EXPECT_EQ(o.failures[1], std::vector{error_code::model_not_found});
  EXPECT_EQ(o.predictions[2], std::vector{2.5});
}

TEST(gateway, a_failing_model_fails_the_call) {
  outcomes o;
  stage s;
  *s.before_scoring = [](auto) { throw model::model_error("no"); };
  hand_in(s, o, 0, 2);
  s.system.advance(500'000'000);
  EXPECT_EQ(o.failures[0], std::vector{error_code::model_failed});
  EXPECT_EQ(o.failures[1], std::vector{error_code::model_failed});
}

TEST(gateway, a_call_past_its_expiry_is_told_so) {
  outcomes o;
  stage s;
  hand_in(s, o, 0, 1, {error_code::none, -1});
  s.system.advance(500'000'000);
  EXPECT_EQ(o.failures[0], std::vector{error_code::deadline_exceeded});
}

TEST(gateway, a_caller_who_went_away_is_not_scored_for) {
  outcomes o;
  stage s;
  bool gone = false;
  std::size_t scored = 0;
  *s.before_scoring = [&](auto rows) { scored += rows.size(); };
  // No shard: the breaker of the model lets no probe through.
  caf_line::post(s.who.scheduler,
                 breaker_changed{s.live->current()->all()[0].get(), breaker_position::half_open, 0});
  hand_in(s, o, 0, 1, {error_code::none, 0, 1, &gone});
  hand_in(s, o, 1, 1, {error_code::none, 0, 1});
  s.system.advance(200'000'000);
  EXPECT_EQ(s.desk->open_calls(), 2U);
  gone = true;
  s.system.advance(200'000'000);
  EXPECT_EQ(s.desk->open_calls(), 1U);
  caf_line::post(s.who.scheduler,
                 breaker_changed{s.live->current()->all()[0].get(), breaker_position::closed, 0});
  s.system.advance(500'000'000);
  EXPECT_EQ(scored, 1U);
  EXPECT_EQ(o.ends(0), 0U);
  EXPECT_EQ(o.predictions[1], std::vector{1.5});
  EXPECT_NE(s.metrics->text().find("troupe_callers_gone_total{door=\"http\"} 1"), std::string::npos);
}

TEST(gateway, callers_are_told_at_once_of_an_open_breaker_and_records_wait_for_it) {
  outcomes o;
  stage_options options;
  options.circuit.threshold = 5;
  options.circuit.open_for = 10'000'000'000;
  stage s(options);
  bool broken = true;
  *s.before_scoring = [&](auto) {
    if (broken) throw model::model_error("no");
  };
  for (int i = 0; i < 5; ++i) {
    hand_in(s, o, i, 1);
    s.system.advance(100'000'000);
    EXPECT_EQ(o.failures[i], std::vector{error_code::model_failed});
  }
  s.request(0);
  hand_in(s, o, 5, 2);
  s.system.run();
  for (int i = 5; i < 7; ++i) {
    EXPECT_EQ(o.failures[i], std::vector{error_code::unavailable});
    EXPECT_GT(o.retry_after[i], 9'000'000'000);
    EXPECT_LE(o.retry_after[i], 10'000'000'000);
  }
  s.system.advance(9'000'000'000);
  EXPECT_EQ(s.sink->delivered.size(), 0U);
  s.settle(2'000'000'000);
  EXPECT_EQ(s.sink->delivered.size(), 1U) << "it was the probe, and failed";

  // Without Kafka a call is the probe; those that came with it do not wait for the next one.
  s.system.advance(11'000'000'000);
  hand_in(s, o, 7, 3);
  s.system.advance(1'000'000);
  EXPECT_EQ(o.failures[7], std::vector{error_code::model_failed});
  for (int i = 8; i < 10; ++i) EXPECT_EQ(o.failures[i], std::vector{error_code::unavailable}) << i;

  broken = false;
  s.system.advance(11'000'000'000);
  hand_in(s, o, 10, 3);
  s.system.advance(1'000'000'000);
  for (int i = 10; i < 13; ++i) EXPECT_EQ(o.predictions[i], std::vector{i + 0.5});
  EXPECT_EQ(s.desk->open_calls(), 0U);
}

TEST(gateway, what_the_queue_would_make_late_is_refused_at_once) {
  outcomes o;
  stage s;
  s.admission->observe(1, 50'000'000);
  const std::uint64_t waiting[] = {1, 1'000};
  s.admission->publish(waiting);
  hand_in(s, o, 0, 1, {error_code::none, 0, 0});
  hand_in(s, o, 1, 1, {error_code::none, 20'000'000, 0});
  hand_in(s, o, 2, 1, {error_code::none, 0, 1});
  caf_line::post(s.who.scheduler,
                 breaker_changed{s.live->current()->all()[0].get(), breaker_position::half_open, 0});
  s.system.run();
  EXPECT_EQ(o.failures[0].size(), 0U) << "50 ms of wait are within its 100 ms";
  EXPECT_EQ(o.failures[1], std::vector{error_code::unavailable}) << "but not within 20 ms";
  EXPECT_EQ(o.retry_after[1], 30'000'000);
}

TEST(gateway, more_calls_than_allowed_are_refused_at_the_limit_and_not_before) {
  stage_options options;
  options.max_calls = 10;
  outcomes o;
  stage s(options);
  hand_in(s, o, 0, 12);
  s.system.advance(500'000'000);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(o.predictions.contains(i), i < 10) << i;
  EXPECT_EQ(o.failures[10], std::vector{error_code::unavailable});
  EXPECT_EQ(o.failures[11], std::vector{error_code::unavailable});
}

TEST(gateway, the_log_says_how_many_of_which_class_an_overload_refuses_and_by_which_option) {
  observe::log_options lines;
  lines.format = observe::log_format::json;
  testing::internal::CaptureStdout();
  observe::open_log(lines);
  {
    stage_options options;
    options.max_calls = 10;
    outcomes o;
    stage s(options);
    hand_in(s, o, 0, 12);
    s.system.advance(500'000'000);
  }
  {
    outcomes o;
    stage s;
    s.admission->observe(1, 50'000'000);
    const std::uint64_t waiting[] = {1, 1'000};
    s.admission->publish(waiting);
    hand_in(s, o, 0, 3, {error_code::none, 20'000'000, 0});
    s.system.run();
  }
  const std::string text = testing::internal::GetCapturedStdout();
  observe::open_log({});
  const auto has = [&](const char* what) { return text.find(what) != std::string::npos; };
  EXPECT_TRUE(has(R"("event":"overload")")) << text;
  EXPECT_TRUE(has(R"("option":"http.max_requests","count":"2"})")) << text;
  EXPECT_TRUE(has(R"("option":"http.admission","count":"3","class":"interactive"})")) << text;
}

TEST(gateway, a_reply_that_throws_ends_its_call_and_no_other) {
  outcomes o;
  stage s;
  hand_in(s, o, 0, 3);
  hand_in(s, o, 3, 1, {.reply_throws = true});
  hand_in(s, o, 4, 3);
  s.system.advance(60'000'000'000);
  EXPECT_EQ(s.desk->open_calls(), 0U);
  EXPECT_EQ(o.ends(3), 0U);
  EXPECT_EQ(o.abandoned, 1);
  for (int i : {0, 1, 2, 4, 5, 6}) EXPECT_EQ(o.ends(i), 1U) << i;
}

TEST(gateway, closing_the_desk_ends_what_is_open) {
  outcomes o;
  {
    stage s;
    caf_line::post(s.who.scheduler,
                   breaker_changed{s.live->current()->all()[0].get(), breaker_position::half_open, 0});
    hand_in(s, o, 0, 3);
    s.system.advance(100'000'000);
    EXPECT_EQ(s.desk->open_calls(), 3U);
    s.desk->close();
    EXPECT_EQ(s.desk->open_calls(), 0U);
    EXPECT_EQ(o.abandoned, 3);
    hand_in(s, o, 3, 1);
    EXPECT_EQ(o.abandoned, 4);
  }
}

class gateway_crash_of : public testing::TestWithParam<std::tuple<std::string, bool>> {};

TEST_P(gateway_crash_of, an_actor_loses_no_call_and_answers_none_twice) {
  const auto& [victim, cache] = GetParam();
  stage_options options;
  options.cache = cache;
  outcomes o;
  stage s(options);
  int sent = 0;
  for (int round = 0; round < 8; ++round) {
    hand_in(s, o, sent, 20);
    sent += 20;
    if (round % 2) s.system.run();
    caf_line::post(s.supervisor, kill_child{victim, 1, std::make_shared<std::promise<std::string>>()});
    hand_in(s, o, sent, 5);
    sent += 5;
    s.system.advance(300'000'000);
  }
  s.system.advance(20'000'000'000);
  expect_one_prediction_each(o, sent);
  EXPECT_EQ(s.desk->open_calls(), 0U);
}

INSTANTIATE_TEST_SUITE_P(all, gateway_crash_of,
                         testing::Combine(testing::Values("gateway", "scheduler", "model_shard", "breaker"),
                                          testing::Bool()),
                         [](const auto& p) {
                           return std::get<0>(p.param) + (std::get<1>(p.param) ? "_cached" : "");
                         });
INSTANTIATE_TEST_SUITE_P(cache, gateway_crash_of,
                         testing::Values(std::make_tuple(std::string("cache_client"), true)),
                         [](const auto&) { return std::string("cache_client"); });

}  // namespace
}  // namespace troupe
