// The road of a request, all actors, under the deterministic scheduler.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/observe/log.hpp"
#include "tests/actors/stage.hpp"

namespace troupe {
namespace {

using test::simulated_queue;
using test::stage;
using test::stage_options;

std::int64_t end_of(int records) {
  return (records - 1) * simulated_queue::stride + 1;
}

void expect_one_answer_each(const stage& s, int records) {
  for (int i = 0; i < records; ++i) {
    const auto results = s.results_of(i);
    ASSERT_EQ(results.size(), 1U) << "request " << i;
    EXPECT_NE(results[0].find("\"prediction\":" + std::to_string(i) + ".5"), std::string::npos) << results[0];
  }
}

TEST(road, every_request_gets_its_prediction_and_offsets_follow_delivery) {
  stage s;
  for (int i = 0; i < 50; ++i) s.request(i);
  s.system.advance(500'000'000);
  EXPECT_EQ(s.sink->waiting(), 50U);
  EXPECT_EQ(s.queue->stored, -1) << "nothing was delivered yet";
  s.sink->deliver(20);
  s.system.advance(500'000'000);
  EXPECT_EQ(s.queue->stored, end_of(20));
  s.settle();
  EXPECT_EQ(s.queue->stored, end_of(50));
  expect_one_answer_each(s, 50);
}

TEST(road, credit_bounds_what_is_in_flight) {
  stage_options o;
  o.credit_records = 40;
  stage s(o);
  for (int i = 0; i < 200; ++i) s.request(i);
  s.system.advance(2'000'000'000);
  EXPECT_EQ(s.queue->polled, 40U) << "the sink delivers nothing, so no more than the credit is taken";
  s.settle();
  EXPECT_EQ(s.queue->polled, 200U);
  expect_one_answer_each(s, 200);
}

TEST(road, results_hurry_while_it_is_quiet_and_under_load_gather_until_those_before_have_landed) {
  stage_options o;
  o.credit_records = 100'000;
  stage s(o);
  for (int i = 0; i < 3; ++i) {
    s.request(i);
    s.settle(200'000'000);
    EXPECT_EQ(s.sink->hurried, i + 1) << "one that is alone waits for nobody";
  }
  for (int i = 3; i < 50'000; ++i) s.request(i);
  s.system.run();
  const std::size_t first = s.sink->waiting();
  EXPECT_GT(first, 0U);
  EXPECT_LT(first, 20'000U) << "what comes while these are on their way is held";
  const int before = s.sink->hurried;
  s.sink->deliver();
  s.system.run();
  EXPECT_EQ(s.sink->waiting(), 49'997U - first) << "and goes at once when they have landed";
  EXPECT_EQ(s.sink->hurried, before) << "without hurry: more is coming";
  s.request(50'000);
  s.system.run();
  EXPECT_EQ(s.sink->waiting(), 49'997U - first);
  s.system.advance(60'000'000);
  EXPECT_EQ(s.sink->waiting(), 49'998U - first) << "a broker that does not answer holds nobody up for long";
  s.settle();
  EXPECT_EQ(s.sink->delivered.size(), 50'001U);
}

TEST(road, bad_records_end_in_the_dead_letter_topic_or_as_error_results) {
  stage s;
  s.queue->add("not json", "key-1");
  s.queue->add("{\"request_id\":\"r-1\",\"features\":[1]}");
  s.request(2);
  s.settle();
  ASSERT_EQ(s.sink->delivered.size(), 3U);
  const auto& dead = *std::find_if(s.sink->delivered.begin(), s.sink->delivered.end(),
                                   [](const auto& x) { return x.to == kafka::destination::dead_letters; });
  EXPECT_EQ(dead.value, "not json");
  EXPECT_EQ(dead.key, "key-1");
  EXPECT_EQ(dead.headers.at("__connect.errors.topic"), "requests");
  EXPECT_EQ(dead.headers.at("__connect.errors.offset"), "0");
  ASSERT_EQ(s.results_of(1).size(), 1U);
  EXPECT_NE(s.results_of(1)[0].find("\"code\":\"invalid_features\""), std::string::npos);
  EXPECT_EQ(s.queue->stored, end_of(3));
}

class crash_of : public testing::TestWithParam<std::tuple<std::string, bool>> {};

TEST_P(crash_of, an_actor_loses_nothing_and_doubles_nothing) {
  const auto& [victim, cache] = GetParam();
  stage_options o;
  o.cache = cache;
  o.credit_records = 64;
  stage s(o);
  int sent = 0;
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < 20; ++i) s.request(sent++);
    if (round % 2) s.sink->deliver(7);
    s.crash_child(victim);
    s.system.advance(30'000'000);
  }
  s.settle(10'000'000'000);
  EXPECT_EQ(s.queue->stored, end_of(sent));
  EXPECT_TRUE(s.escalated.empty()) << s.escalated;
  if (victim == "partition_consumer") {
    for (int i = 0; i < sent; ++i) EXPECT_GE(s.results_of(i).size(), 1U) << "request " << i;
    EXPECT_GT(s.queue->rewinds, 0);
  } else {
    expect_one_answer_each(s, sent);
  }
}

INSTANTIATE_TEST_SUITE_P(road, crash_of,
                         testing::Combine(testing::Values("partition_consumer", "scheduler", "model_shard",
                                                          "producer", "breaker"),
                                          testing::Bool()));
INSTANTIATE_TEST_SUITE_P(road_with_cache, crash_of, testing::Values(std::tuple("cache_client", true)));

TEST(road, a_record_that_kills_its_shard_is_dead_lettered_and_only_that_one) {
  stage s;
  *s.before_scoring = [](std::span<const double* const> rows) {
    for (const double* r : rows)
      if (r[0] == 13) throw std::runtime_error("segmentation fault of row 13");
  };
  for (int i = 0; i < 30; ++i) s.request(i);
  s.settle(10'000'000'000);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(s.results_of(i).size(), i == 13 ? 0U : 1U) << i;
  ASSERT_EQ(s.sink->delivered.size(), 30U);
  const auto& dead = *std::find_if(s.sink->delivered.begin(), s.sink->delivered.end(),
                                   [](const auto& x) { return x.to == kafka::destination::dead_letters; });
  EXPECT_NE(dead.value.find("r-13"), std::string::npos);
  EXPECT_NE(dead.headers.at("__connect.errors.exception.message").find("repeatedly"), std::string::npos);
  EXPECT_EQ(s.queue->stored, end_of(30));
}

TEST(road, a_failing_model_trips_its_breaker_and_its_records_wait) {
  stage_options o;
  o.circuit.threshold = 5;
  o.circuit.open_for = 60'000'000'000;
  stage s(o);
  bool broken = true;
  *s.before_scoring = [&](std::span<const double* const>) {
    if (broken) throw model::model_error("out of memory");
  };
  for (int i = 0; i < 200; ++i) s.request(i);
  s.settle(5'000'000'000);
  const std::size_t failed = s.sink->delivered.size();
  EXPECT_GE(failed, 5U);
  EXPECT_LT(failed, 100U) << "the rest waits behind the open breaker";
  ASSERT_EQ(s.notices->all().count("breaker"), 1U);
  const observe::notice open = s.notices->all().at("breaker");
  EXPECT_THAT(open.what, testing::HasSubstr("is open"));
  const nanos left = open.at - s.system.now();
  EXPECT_TRUE(open.next == "next probe" && left > 50'000'000'000 && left <= 60'000'000'000)
      << open.next << left;
  broken = false;
  s.settle(30'000'000'000);
  EXPECT_EQ(s.sink->delivered.size(), failed) << "open for 60 s";
  s.settle(60'000'000'000);
  EXPECT_EQ(s.sink->delivered.size(), 200U) << "probes succeeded, the breaker closed";
  EXPECT_TRUE(s.notices->all().empty());
  EXPECT_EQ(s.queue->stored, end_of(200));
}

TEST(road, a_probe_that_kills_its_shard_leaves_its_place_to_the_next) {
  stage_options o;
  o.circuit.threshold = 5;
  o.circuit.open_for = 10'000'000'000;
  stage s(o);
  bool broken = true;
  *s.before_scoring = [&](std::span<const double* const> rows) {
    if (broken) throw model::model_error("out of memory");
    for (const double* r : rows)
      if (r[0] >= 100 && r[0] < 103) throw std::runtime_error("segmentation fault");
  };
  for (int i = 0; i < 5; ++i) s.request(i);
  s.settle(2'000'000'000);
  broken = false;
  for (int i = 100; i < 120; ++i) s.request(i);
  s.settle(60'000'000'000);
  for (int i = 100; i < 120; ++i) EXPECT_EQ(s.results_of(i).size(), i < 103 ? 0U : 1U) << i;
  EXPECT_EQ(s.sink->delivered.size(), 25U) << "and three dead letters";
}

TEST(road, a_spent_restart_budget_escalates_once) {
  stage_options o;
  o.intensity = 3;
  stage s(o);
  for (int i = 0; i < 6; ++i) {
    s.crash_child("model_shard");
    s.system.advance(5'000'000'000);
  }
  EXPECT_NE(s.escalated.find("model_shard"), std::string::npos);
  EXPECT_NE(s.escalated.find("3 restarts in 60 s"), std::string::npos) << s.escalated;
}

TEST(road, many_poison_records_cost_no_budget_and_little_time) {
  stage_options o;
  o.intensity = 0;  // nothing is tolerated
  o.credit_records = 1'000;
  stage s(o);
  const auto is_poison = [](int i) { return i % 37 == 5 || (i > 300 && i < 320); };
  *s.before_scoring = [&](std::span<const double* const> rows) {
    for (const double* r : rows)
      if (is_poison(static_cast<int>(r[0]))) throw std::runtime_error("segmentation fault");
  };
  for (int i = 0; i < 2'000; ++i) s.request(i);
  s.settle(1'000'000'000);
  EXPECT_TRUE(s.escalated.empty()) << s.escalated;
  EXPECT_EQ(s.queue->stored, end_of(2'000));
  for (int i = 0; i < 2'000; ++i) EXPECT_EQ(s.results_of(i).size(), is_poison(i) ? 0U : 1U) << i;
  EXPECT_EQ(s.sink->delivered.size(), 2'000U);
}

TEST(road, a_record_is_not_blamed_for_what_lay_at_its_address_before) {
  stage_options o;
  o.circuit.threshold = 1'000;
  stage s(o);
  // Each time its owner goes while it is tried alone for the second time; the next owner reads it again.
  int deaths = 0, owners = 0;
  *s.before_scoring = [&](std::span<const double* const>) {
    if (++deaths == 2 && owners < 20) {
      ++owners;
      deaths = 0;
      caf_line::post(s.consumer, crash{"injected"});
    }
    throw std::runtime_error("segmentation fault");
  };
  s.request(0);
  s.settle(600'000'000'000);
  EXPECT_EQ(owners, 20);
  EXPECT_EQ(deaths, 2) << "the last owner's record";
  EXPECT_EQ(s.sink->delivered.size(), 1U);
}

TEST(road, a_late_answer_of_an_owner_that_has_gone_is_kept_by_nobody) {
  stage_options o;
  o.in_order = true;
  o.circuit.threshold = 1;
  o.circuit.open_for = 60'000'000'000;
  stage s(o);
  for (int i = 0; i < 500; ++i) s.request(i);
  s.settle();
  ASSERT_EQ(s.sink->delivered.size(), 500U);
  const long holders = s.queue->topic().use_count();
  *s.before_scoring = [&](std::span<const double* const>) { throw model::model_error("out of memory"); };
  s.request(500);
  s.settle(100'000'000);
  for (int i = 501; i < 510; ++i) s.request(i, ",\"timeout_ms\":500");  // they expire behind the breaker
  s.settle(100'000'000);
  EXPECT_GT(s.queue->topic().use_count(), holders);
  retire how;
  how.lost = true;
  caf_line::post(s.consumer, how);
  s.settle();
  EXPECT_EQ(s.queue->topic().use_count(), holders) << "their batch is in the window of nobody";
}

TEST(road, a_shard_takes_grants_of_its_scheduler_only) {
  stage s;
  int scored = 0;
  *s.before_scoring = [&](std::span<const double* const> rows) { scored += static_cast<int>(rows.size()); };
  s.request(0);
  s.settle();
  EXPECT_EQ(scored, 1);
  auto batch = batch_ptr::make();
  auto& r = batch->records.emplace_back();
  r.batch = batch.get();
  r.model = s.live->current()->find("sum", "").model;
  r.rows = 1;
  batch->values = {1, 2};
  auto rows = std::make_shared<row_refs>();
  rows->add(&r);
  caf_line::post(s.shard, grant{2, std::move(rows), false, nullptr});  // a predecessor's
  s.request(1);
  s.settle();
  EXPECT_EQ(scored, 2);
  EXPECT_EQ(s.results_of(1).size(), 1U);
}

TEST(road, a_model_that_ends_all_it_is_given_opens_its_breaker_and_few_records_are_blamed) {
  stage_options o;
  o.intensity = 5;
  o.circuit.open_for = 60'000'000'000;
  stage s(o);
  bool broken = true;
  *s.before_scoring = [&](std::span<const double* const>) {
    if (broken) throw std::runtime_error("segmentation fault");
  };
  for (int i = 0; i < 100; ++i) s.request(i);
  s.settle(5'000'000'000);
  const std::size_t blamed = s.sink->delivered.size();
  EXPECT_LE(blamed, 32U);
  EXPECT_TRUE(s.escalated.empty()) << s.escalated;
  broken = false;
  s.settle(120'000'000'000);
  EXPECT_EQ(s.sink->delivered.size(), 100U);
  EXPECT_EQ(s.queue->stored, end_of(100));
}

TEST(road, records_of_a_model_that_cannot_answer_are_parked_and_those_after_it_recovers_are_not) {
  stage_options o;
  o.circuit.threshold = 5;
  o.circuit.open_for = 20'000'000'000;
  o.park = true;
  o.stall_limit = 3'000'000'000;
  stage s(o);
  bool broken = true;
  *s.before_scoring = [&](std::span<const double* const>) {
    if (broken) throw model::model_error("out of memory");
  };
  for (int i = 0; i < 5; ++i) s.request(i);
  s.settle(200'000'000);
  const std::size_t failed = s.sink->delivered.size();
  for (int i = 100; i < 150; ++i)
    s.queue->add("{\"request_id\":\"r-" + std::to_string(i) + "\",\"features\":[1,2]}", "key");
  s.settle(2'000'000'000);
  EXPECT_EQ(s.sink->delivered.size(), failed) << "they wait for models.stall_limit";
  s.settle(3'000'000'000);
  ASSERT_EQ(s.sink->delivered.size(), failed + 50);
  const auto& parked = s.sink->delivered.back();
  EXPECT_EQ(parked.to, kafka::destination::parking);
  EXPECT_EQ(parked.key, "key");
  EXPECT_EQ(parked.value, "{\"request_id\":\"r-149\",\"features\":[1,2]}");
  EXPECT_EQ(parked.headers.at("__connect.errors.topic"), "requests");
  EXPECT_EQ(parked.headers.at("__connect.errors.exception.class.name"), "unavailable");
  EXPECT_NE(parked.headers.at("__connect.errors.exception.message").find("models.stall_limit"),
            std::string::npos);
  EXPECT_EQ(s.queue->stored, end_of(55)) << "the partition goes on";
  EXPECT_NE(s.metrics->text().find("troupe_parked_records_total 50\n"), std::string::npos);
  broken = false;
  s.settle(20'000'000'000);
  for (int i = 200; i < 220; ++i) s.request(i);
  s.settle(5'000'000'000);
  for (int i = 200; i < 220; ++i) EXPECT_EQ(s.results_of(i).size(), 1U) << i;
  EXPECT_EQ(s.queue->stored, end_of(75));
}

TEST(road, equal_rows_in_flight_are_scored_once) {
  stage_options o;
  o.cache = true;
  stage s(o);
  std::size_t scored = 0;
  *s.before_scoring = [&](std::span<const double* const> rows) { scored += rows.size(); };
  for (int i = 0; i < 60; ++i)
    s.queue->add("{\"request_id\":\"r-" + std::to_string(i) + "\",\"features\":[" + std::to_string(i % 3) +
                 ",0.5]}");
  s.settle();
  EXPECT_EQ(s.sink->delivered.size(), 60U);
  EXPECT_EQ(scored, 3U);
  EXPECT_EQ(s.queue->stored, end_of(60));
}

TEST(road, a_refused_delivery_is_sent_again) {
  stage s;
  s.sink->refuse_next = 3;
  for (int i = 0; i < 10; ++i) s.request(i);
  s.settle(5'000'000'000);
  expect_one_answer_each(s, 10);
  EXPECT_EQ(s.queue->stored, end_of(10));
}

TEST(road, an_answer_that_the_client_does_not_take_is_told_with_the_reason_and_given_again) {
  observe::open_log({});
  testing::internal::CaptureStdout();
  stage s;
  s.sink->fail_next = 2;
  for (int i = 0; i < 10; ++i) s.request(i);
  s.settle(5'000'000'000);
  const std::string log = testing::internal::GetCapturedStdout();
  expect_one_answer_each(s, 10);
  EXPECT_EQ(s.queue->stored, end_of(10));
  EXPECT_NE(log.find(R"("event":"delivery_failed")"), std::string::npos) << log;
  EXPECT_NE(log.find(R"("error":"simulated failure")"), std::string::npos) << log;
}

TEST(road, a_full_sink_holds_back_and_goes_on) {
  stage s;
  s.sink->capacity = 3;
  for (int i = 0; i < 40; ++i) s.request(i);
  s.settle(20'000'000'000);
  expect_one_answer_each(s, 40);
}

TEST(road, a_result_over_the_broker_s_limit_becomes_a_dead_letter_and_one_over_it_too_loses_its_value) {
  stage s;
  s.sink->max_value = 60;  // a result is longer, the request is not
  s.queue->add("{\"request_id\":\"a\",\"features\":[1,2]}");
  s.queue->add("{\"request_id\":\"" + std::string(80, 'b') + "\",\"features\":[1,2]}");
  s.settle(5'000'000'000);
  ASSERT_EQ(s.sink->delivered.size(), 2U);
  EXPECT_EQ(s.sink->delivered[0].to, kafka::destination::dead_letters);
  EXPECT_EQ(s.sink->delivered[0].value, "{\"request_id\":\"a\",\"features\":[1,2]}");
  EXPECT_EQ(s.sink->delivered[1].to, kafka::destination::dead_letters);
  EXPECT_EQ(s.sink->delivered[1].value, "");
  EXPECT_EQ(s.queue->stored, end_of(2));
}

TEST(road, a_full_class_waits) {
  stage_options o;
  o.class_limit = 4;
  stage s(o);
  for (int i = 0; i < 60; ++i) s.request(i);
  s.settle(5'000'000'000);
  expect_one_answer_each(s, 60);
}

TEST(road, an_expired_request_gets_an_error_result) {
  stage s;
  s.request(1, ",\"timeout_ms\":0");
  s.settle();
  ASSERT_EQ(s.results_of(1).size(), 1U);
  EXPECT_NE(s.results_of(1)[0].find("deadline_exceeded"), std::string::npos);
  EXPECT_NE(s.metrics->text().find("troupe_expired_requests_total{class=\"1\"} 1\n"), std::string::npos)
      << s.metrics->text();
}

TEST(road, a_retired_partition_waits_for_what_is_in_flight_and_stores_its_offsets) {
  stage s;
  for (int i = 0; i < 10; ++i) s.request(i);
  s.system.advance(200'000'000);
  auto how = std::make_shared<retire>();
  how->deadline = INT64_MAX;
  how->done = std::make_shared<std::promise<bool>>();
  auto done = how->done->get_future();
  caf_line::post(s.supervisor, dismiss{"partition_consumer", how});
  s.system.advance(1'000'000'000);
  EXPECT_EQ(done.wait_for(std::chrono::seconds(0)), std::future_status::timeout)
      << "ten records are in flight";
  const auto shown = [&] {
    return s.metrics->text().find("troupe_credit_in_use_records{partition=") != std::string::npos;
  };
  EXPECT_TRUE(shown());
  for (int i = 10; i < 20; ++i) s.request(i);
  s.settle();
  ASSERT_EQ(done.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_TRUE(done.get());
  EXPECT_EQ(s.queue->stored, end_of(10));
  EXPECT_EQ(s.sink->delivered.size(), 10U) << "a retired partition polls no more";
  EXPECT_FALSE(shown()) << "gauges of a partition that is another's now";
}

TEST(road, the_lag_is_the_age_of_what_has_no_answer_and_reaches_behind_what_was_read) {
  stage_options o;
  o.credit_records = 10;
  stage s(o);
  s.queue->older_ms = 60'000;
  const auto gauge = [&](const std::string& name) {
    const std::string text = s.metrics->text();
    const std::string head = "\n" + name + "{partition=\"0\"} ";
    const auto at = text.find(head);
    return at == std::string::npos ? -1.0 : std::stod(text.substr(at + head.size()));
  };
  for (int i = 0; i < 30; ++i) s.request(i);
  s.system.advance(500'000'000);  // nothing is delivered
  EXPECT_EQ(gauge("troupe_credit_in_use_records"), 10);
  EXPECT_EQ(gauge("troupe_consumer_lag_records"), 20);
  EXPECT_GE(gauge("troupe_consumer_lag_seconds"), 60);
  EXPECT_LT(gauge("troupe_consumer_lag_seconds"), 120);
  EXPECT_LT(gauge("troupe_credit_oldest_age_seconds"), 1) << "the time in this node alone";
  s.settle();
  EXPECT_EQ(s.queue->stored, end_of(30));
  EXPECT_EQ(gauge("troupe_consumer_lag_records"), 0);
  EXPECT_EQ(gauge("troupe_consumer_lag_seconds"), 0) << "caught up";
}

TEST(road, a_retired_partition_gives_up_at_its_deadline) {
  stage s;
  for (int i = 0; i < 10; ++i) s.request(i);
  s.system.advance(200'000'000);
  s.sink->deliver(4);
  auto how = std::make_shared<retire>();
  how->deadline = 3'000'000'000;
  how->done = std::make_shared<std::promise<bool>>();
  auto done = how->done->get_future();
  caf_line::post(s.supervisor, dismiss{"partition_consumer", how});
  s.system.advance(10'000'000'000);
  ASSERT_EQ(done.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_FALSE(done.get());
  EXPECT_EQ(s.queue->stored, end_of(4));
  s.settle();
  EXPECT_EQ(s.queue->stored, end_of(4)) << "what the broker has too late is the next owner's to store";
}

}  // namespace
}  // namespace troupe
