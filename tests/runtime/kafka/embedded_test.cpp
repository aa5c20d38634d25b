// Source and sink on the broker in the process: everything of the two ports that needs no second broker.

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include <array>
#include <limits>
#include <mutex>
#include <set>
#include <utility>

#include "runtime/kafka/embedded_broker.hpp"
#include "tests/runtime/kafka/members.hpp"

namespace troupe::kafka::test {
namespace {

constexpr auto in_topic = "in";
constexpr auto out_topic = "out";
constexpr auto dead_topic = "dead";

class Embedded : public testing::Test {
 protected:
  [[nodiscard]] source_options source(const std::string& group = "g") const {
    source_options o;
    o.brokers = broker.bootstrap();
    o.group = group;
    o.topic = in_topic;
    o.fetch_wait_ms = 5;
    o.session_timeout_ms = 2'000;  // this broker lets a restarted group wait for almost that long
    return o;
  }
  [[nodiscard]] sink_options sink() const {
    sink_options o;
    o.brokers = broker.bootstrap();
    o.results_topic = out_topic;
    o.dead_letter_topic = dead_topic;
    return o;
  }
  /// Everything in a topic with this many records, by a group of its own.
  [[nodiscard]] std::vector<seen> whole(const std::string& topic, std::size_t count) const {
    auto o = source("whole-" + topic);
    o.topic = topic;
    member m(o);
    m.start();
    std::vector<seen> all;
    EXPECT_TRUE(eventually([&] {
      for (const auto& q : m.queues())
        for (auto& s : copy(*poll(*q))) all.push_back(std::move(s));
      return all.size() >= count;
    })) << all.size();
    return all;
  }

  embedded_broker broker{{{in_topic, 4}, {out_topic, 4}, {dead_topic, 1}}};
  writer requests{broker.bootstrap(), in_topic};
};

std::vector<std::int64_t> offsets(const std::vector<seen>& records) {
  std::vector<std::int64_t> out;
  for (const auto& r : records) out.push_back(r.offset);
  return out;
}

std::vector<std::int64_t> range(std::int64_t from, std::int64_t to) {
  std::vector<std::int64_t> out;
  for (; from < to; ++from) out.push_back(from);
  return out;
}

TEST_F(Embedded, AssignsEveryPartitionAndJoinsQuickly) {
  const nanos begin = now();
  member m(source());
  m.start();
  ASSERT_TRUE(m.has(4));
  RecordProperty("join_ms", std::to_string((now() - begin) / 1'000'000));
  EXPECT_EQ(m.source().assigned_partitions(), 4U);
  EXPECT_EQ(m.source().rebalances(), 1U);
  EXPECT_TRUE(eventually([&] { return m.source().status().up; }));
  for (std::int32_t p = 0; p < 4; ++p) {
    const auto q = m.queue(p);
    EXPECT_EQ(q->partition(), p);
    EXPECT_EQ(*q->topic(), in_topic);
    EXPECT_EQ(poll(*q)->records.size(), 0U);
  }
}

TEST_F(Embedded, RecordsComeWhole) {
  const std::string large(std::size_t{2} << 20, 'x');
  const std::array<header, 3> headers = {{{"a", "1"}, {"empty", ""}, {"null", {}}}};
  std::vector<outgoing> sent(6);
  for (auto& r : sent) r.source_partition = 0, r.value = "v";
  sent[0].headers = headers;
  sent[1].headers = std::span(headers).first(1);
  sent[1].more_headers = std::span(headers).last(1);
  sent[2].value = {};
  sent[3].value = "";
  sent[4].value = large;
  requests.write(sent);
  member m(source());
  m.start();
  const auto got = read(*m.queue(0), 6);
  ASSERT_EQ(offsets(got), range(0, 6));
  using list = decltype(seen::headers);
  EXPECT_EQ(got[0].headers, (list{{"a", "1"}, {"empty", ""}, {"null", std::nullopt}}));
  EXPECT_EQ(got[1].headers, (list{{"a", "1"}, {"null", std::nullopt}}));
  EXPECT_EQ(got[2].headers, list{});
  EXPECT_EQ(got[0].value, "v");
  EXPECT_EQ(got[2].value, std::nullopt);
  EXPECT_EQ(got[3].value, "");
  EXPECT_EQ(got[4].value, large);
  EXPECT_EQ(got[0].key, std::nullopt);
}

TEST_F(Embedded, KeysAreKeptAndSpreadAsJavasClientsDo) {
  // murmur2 as published in Kafka's own tests (UtilsTest): the partition is its low 31 bits modulo 4.
  const std::pair<std::string, std::uint32_t> table[] = {{"21", static_cast<std::uint32_t>(-973932308)},
                                                         {"foobar", static_cast<std::uint32_t>(-790332482)},
                                                         {"abc", 479470107U}};
  std::vector<outgoing> sent;
  for (const auto& [key, hash] : table) {
    outgoing r;
    r.key = key, r.value = "v", r.source_partition = 0;
    sent.push_back(r);
  }
  outgoing empty;
  empty.key = "", empty.value = "empty";
  sent.push_back(empty);
  requests.write(sent);
  std::map<std::string, std::int32_t> where;
  for (const auto& s : whole(in_topic, 4)) {
    ASSERT_TRUE(s.key);
    where[*s.key] = s.partition;
  }
  EXPECT_EQ(where.count(""), 1U);
  for (const auto& [key, hash] : table)
    EXPECT_EQ(where.at(key), static_cast<std::int32_t>((hash & 0x7fffffff) % 4)) << key;
}

TEST_F(Embedded, PollKeepsItsLimits) {
  std::vector<std::string> values(600, std::string(1'000, 'v'));
  requests.write_values(0, values);
  member m(source());
  m.start();
  const auto q = m.queue(0);
  std::vector<std::int64_t> got;
  ASSERT_TRUE(eventually([&] {
    const auto batch = poll(*q, 10'000, 2'500);
    if (!batch->records.empty()) {
      EXPECT_LE(batch->records.size(), 3U);
      EXPECT_EQ(batch->bytes, batch->records.size() * 1'000);
    }
    for (const auto& s : copy(*batch)) got.push_back(s.offset);
    return got.size() >= 300;
  }));
  ASSERT_TRUE(eventually([&] {
    const auto batch = poll(*q, 7);
    EXPECT_LE(batch->records.size(), 7U);
    for (const auto& s : copy(*batch)) got.push_back(s.offset);
    return got.size() >= 600;
  }));
  EXPECT_EQ(got, range(0, 600));
  EXPECT_EQ(poll(*q, 0)->records.size(), 0U);
}

TEST_F(Embedded, OneBatchTakesSeveralPolls) {
  requests.write_numbers(0, 1'000);
  member m(source());
  m.start();
  const auto q = m.queue(0);
  auto batch = batch_ptr::make();
  ASSERT_TRUE(eventually([&] { return q->poll(*batch, 100, 1 << 20), batch->records.size() >= 1'000; }));
  ASSERT_EQ(batch->records.size(), 1'000U);
  for (std::size_t i = 0; i < 1'000; ++i) ASSERT_EQ(batch->records[i].value, std::to_string(i));
}

TEST_F(Embedded, ABatchOutlivesEverything) {
  requests.write_numbers(0, 300);
  batch_ptr batch;
  std::shared_ptr<partition_queue> q;
  {
    member m(source());
    m.start();
    q = m.queue(0);
    ASSERT_TRUE(eventually([&] { return batch = poll(*q), !batch->records.empty(); }));
  }
  EXPECT_EQ(poll(*q)->records.size(), 0U);
  q.reset();
  for (std::size_t i = 0; i < batch->records.size(); ++i)
    EXPECT_EQ(batch->records[i].value, std::to_string(i));
}

TEST_F(Embedded, WakesWhenRecordsReachAnEmptyQueue) {
  auto o = source();
  o.own["enable.partition.eof"] = "false";  // the end wakes, too
  member m(o);
  m.start();
  const auto q = m.queue(0);
  std::atomic<int> wakes{0};
  q->on_records([&] { ++wakes; });
  EXPECT_EQ(poll(*q)->records.size(), 0U);
  requests.write_numbers(0, 1);
  ASSERT_TRUE(eventually([&] { return wakes > 0; }));
  EXPECT_EQ(read(*q, 1).size(), 1U);
  const int before = wakes;
  requests.write_numbers(1, 5);  // not its partition
  EXPECT_EQ(read(*m.queue(1), 5).size(), 5U);
  EXPECT_EQ(wakes, before);
  requests.write_numbers(0, 1);
  ASSERT_TRUE(eventually([&] { return wakes > before; }));
  EXPECT_EQ(read(*q, 1).size(), 1U);
  q->on_records({});
  const int after = wakes;
  requests.write_numbers(0, 1);
  EXPECT_EQ(read(*q, 1).size(), 1U);
  EXPECT_EQ(wakes, after);
}

TEST_F(Embedded, AWakeMayBeTakenAwayWhileItIsCalled) {
  member m(source());
  m.start();
  const auto q = m.queue(0);
  std::atomic<bool> stop{false};
  std::thread changing([&] {
    while (!stop) {
      auto alive = std::make_shared<std::atomic<bool>>(true);
      q->on_records([alive] { EXPECT_TRUE(*alive); });
      q->on_records({});
      *alive = false;  // no call may be running now
    }
  });
  for (int i = 0; i < 200; ++i) {
    requests.write_numbers(0, 1);
    EXPECT_EQ(read(*q, 1).size(), 1U);
  }
  stop = true;
  changing.join();
}

TEST_F(Embedded, ContinuesWhereItStored) {
  requests.write_numbers(0, 10);
  {
    member m(source());
    m.start();
    const auto q = m.queue(0);
    EXPECT_EQ(offsets(read(*q, 10)), range(0, 10));
    EXPECT_TRUE(q->store(4));
  }
  {
    member m(source());
    m.start();
    EXPECT_EQ(offsets(read(*m.queue(0), 6)), range(4, 10));
  }  // nothing stored: again
  member m(source());
  m.start();
  EXPECT_EQ(offsets(read(*m.queue(0), 6)), range(4, 10));
}

TEST_F(Embedded, StoredOffsetsAreCommittedWhileItRuns) {
  requests.write_numbers(0, 10);
  member m(source());
  m.start();
  const auto q = m.queue(0);
  EXPECT_EQ(read(*q, 10).size(), 10U);
  ASSERT_TRUE(q->store(7));
  const auto committed = [&] {
    char error[256];
    auto* conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", broker.bootstrap().c_str(), error, sizeof error);
    rd_kafka_conf_set(conf, "group.id", "g", error, sizeof error);
    auto* other = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
    auto* list = rd_kafka_topic_partition_list_new(1);
    auto* entry = rd_kafka_topic_partition_list_add(list, in_topic, 0);
    rd_kafka_committed(other, list, 5'000);
    const auto offset = entry->offset;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(other);
    return offset;
  };
  EXPECT_TRUE(eventually([&] { return committed() == 7; }));
}

TEST_F(Embedded, WhatIsStoredWhileRevokedIsCommitted) {
  requests.write_numbers(0, 10);
  {
    member m(source());
    nanos left = 0;
    m.on_revoked = [&](const std::vector<member::queue_ptr>& queues, bool lost, nanos deadline) {
      EXPECT_FALSE(lost);
      EXPECT_EQ(queues.size(), 4U);
      left = deadline - now();
      for (const auto& q : queues)
        if (q->partition() == 0) {
          EXPECT_TRUE(q->store(9));
        }
    };
    m.start();
    const auto q = m.queue(0);
    EXPECT_EQ(read(*q, 10).size(), 10U);
    m.close(60 * second);
    EXPECT_GT(left, 20 * second);
    EXPECT_LE(left, 60 * second);
    EXPECT_EQ(m.revocations, 1);
    EXPECT_FALSE(q->store(10));  // fenced
    m.close();                   // again
    EXPECT_EQ(m.revocations, 1);
  }
  member m(source());
  m.start();
  EXPECT_EQ(offsets(read(*m.queue(0), 1)), range(9, 10));
}

TEST_F(Embedded, GenerationsGrow) {
  std::uint32_t first = 0;
  {
    member m(source());
    m.start();
    first = m.queue(0)->generation();
  }
  member m(source());
  m.start();
  EXPECT_GT(m.queue(0)->generation(), first);
}

TEST_F(Embedded, AnOldGenerationStaysFencedWhenItsPartitionComesBack) {
  requests.write_numbers(0, 5);
  requests.write_numbers(1, 5);
  requests.write_numbers(2, 5);
  requests.write_numbers(3, 5);
  member m(source());
  m.start();
  ASSERT_TRUE(m.has(4));
  const auto old = m.queues();
  for (const auto& q : old) EXPECT_EQ(read(*q, 5).size(), 5U);
  {
    member other(source());
    other.start();
    ASSERT_TRUE(m.has(2));
    ASSERT_TRUE(other.has(2));
  }
  ASSERT_TRUE(m.has(4));
  int came_back = 0;
  for (const auto& q : old) {
    const auto current = m.current(q->partition());
    if (current == q) continue;  // never left
    ++came_back;
    EXPECT_GT(current->generation(), q->generation());
    EXPECT_EQ(offsets(read(*current, 5)), range(0, 5));  // nothing was stored
    EXPECT_FALSE(q->store(5));
    EXPECT_EQ(poll(*q)->records.size(), 0U);
    q->rewind();
    EXPECT_EQ(q->lag(), -1);
    EXPECT_TRUE(current->store(5));
  }
  EXPECT_EQ(came_back, 2);
}

TEST_F(Embedded, RewindsToTheStoredOffset) {
  requests.write_numbers(0, 500);
  member m(source());
  m.start();
  const auto q = m.queue(0);
  q->rewind();  // nothing polled yet: nothing to do
  EXPECT_EQ(offsets(read(*q, 500)), range(0, 500));
  q->rewind();  // nothing stored yet: from where this assignment began
  EXPECT_EQ(offsets(read(*q, 500)), range(0, 500));
  ASSERT_TRUE(q->store(3));
  ASSERT_EQ(poll(*q)->records.size(), 0U);
  q->rewind();
  EXPECT_EQ(offsets(read(*q, 497)), range(3, 500));
  q->rewind();
  ASSERT_TRUE(eventually(
      [&] { return poll(*q, 1'000, 1)->records.size() == 1; }));  // more are held back by the limit
  q->rewind();
  EXPECT_EQ(offsets(read(*q, 497)), range(3, 500));
  requests.write_numbers(0, 2);
  EXPECT_EQ(offsets(read(*q, 2)), range(500, 502));
}

TEST_F(Embedded, ARewindOfALateJoinerDoesNotGoBackToTheTopicsBeginning) {
  requests.write_numbers(0, 5);
  auto o = source();
  o.own["auto.offset.reset"] = "latest";
  member m(o);
  m.start();
  const auto q = m.queue(0);
  ASSERT_TRUE(eventually([&] { return poll(*q)->records.empty() && q->lag() == 0; }));
  requests.write_numbers(0, 3);
  ASSERT_EQ(offsets(read(*q, 3)), range(5, 8));
  q->rewind();
  EXPECT_EQ(offsets(read(*q, 3)), range(5, 8));
}

TEST_F(Embedded, KnowsItsLag) {
  member m(source());
  m.start();
  const auto q = m.queue(0);
  ASSERT_TRUE(eventually([&] { return poll(*q)->records.empty() && q->lag() == 0; }));
  requests.write_numbers(0, 20);
  ASSERT_TRUE(eventually([&] { return poll(*q, 5)->records.size() == 5; }));
  EXPECT_TRUE(eventually([&] { return q->lag() == 15; })) << q->lag();
  EXPECT_EQ(read(*q, 15).size(), 15U);
  EXPECT_EQ(q->lag(), 0);
  m.close();
  EXPECT_EQ(q->lag(), -1);
}

TEST_F(Embedded, StopIntakeFetchesNoMore) {
  member m(source());
  m.start();
  const auto q = m.queue(0);
  requests.write_numbers(0, 3);
  EXPECT_EQ(read(*q, 3).size(), 3U);
  m.source().stop_intake();
  // Once the pause holds, a record stays away: the first ones may still slip through.
  int quiet = 0;
  EXPECT_TRUE(eventually([&] {
    requests.write_numbers(0, 1);
    quiet = read(*q, 1, second / 5).empty() ? quiet + 1 : 0;
    return quiet == 3;
  }));
  EXPECT_TRUE(q->store(3));  // what is in flight may still end
}

TEST_F(Embedded, ReportsEveryDelivery) {
  const auto s = make_librdkafka_sink(sink());
  std::atomic<int> wakes{0};
  s->on_reports([&] { ++wakes; });
  int tags[100];
  for (int& tag : tags) {
    outgoing r;
    r.to = &tag - tags < 60 ? destination::results : destination::dead_letters;
    r.value = "v";
    r.opaque = &tag;
    ASSERT_EQ(s->produce(r), produced::ok);
  }
  EXPECT_EQ(s->in_flight(), 100U);
  ASSERT_TRUE(eventually([&] { return wakes > 0; }));
  std::vector<delivery_report> all;
  ASSERT_TRUE(eventually([&] {
    const auto before = all.size();
    const auto taken = s->reports(all, 7);
    EXPECT_EQ(taken, all.size() - before);
    EXPECT_LE(taken, 7U);
    return all.size() == 100;
  }));
  std::set<void*> opaques;
  for (const auto& r : all) {
    EXPECT_TRUE(r.ok);
    const auto at = static_cast<int*>(r.opaque) - tags;
    EXPECT_EQ(r.to, at < 60 ? destination::results : destination::dead_letters);
    opaques.insert(r.opaque);
  }
  EXPECT_EQ(opaques.size(), 100U);
  EXPECT_EQ(s->in_flight(), 0U);
  EXPECT_TRUE(s->status().up);
  EXPECT_EQ(whole(out_topic, 60).size(), 60U);
  EXPECT_EQ(whole(dead_topic, 40).size(), 40U);
}

TEST_F(Embedded, ALingeringSinkSendsAtOnceWhenHurried) {
  auto o = sink();
  o.linger_ms = 600'000;
  const auto s = make_librdkafka_sink(o);
  std::vector<delivery_report> all;
  for (std::size_t i = 1; i <= 5; ++i) {
    outgoing r;
    r.value = "v";
    ASSERT_EQ(s->produce(r), produced::ok);
    s->hurry();
    ASSERT_TRUE(eventually([&] {
      s->reports(all, 10);
      return all.size() == i;
    })) << i;
  }
  for (int i = 0; i < 3; ++i) s->hurry();  // nothing is there to send
}

TEST_F(Embedded, AReportWakeMayBeTakenAwayWhileItIsCalled) {
  const auto s = make_librdkafka_sink(sink());
  std::atomic<bool> stop{false};
  std::thread changing([&] {
    while (!stop) {
      auto alive = std::make_shared<std::atomic<bool>>(true);
      s->on_reports([alive] { EXPECT_TRUE(*alive); });
      s->on_reports({});
      *alive = false;
    }
  });
  for (int i = 0; i < 200; ++i) {
    outgoing r;
    r.value = "v";
    ASSERT_EQ(s->produce(r), produced::ok);
    EXPECT_EQ(wait_for_reports(*s, 1).size(), 1U);
  }
  stop = true;
  changing.join();
}

TEST_F(Embedded, AKeylessRecordKeepsItsPartitionIfThereIsOne) {
  const auto s = make_librdkafka_sink(sink());
  // The first ones are taken before the topic's partitions are known.
  for (std::int32_t round = 0; round < 2; ++round) {
    for (std::int32_t p : {0, 1, 2, 3, 4, 9}) {
      outgoing r;
      static constexpr std::array<const char*, 10> names = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
      static constexpr std::array<header, 1> headers = {{{"h", "v"}}};
      r.value = names.at(static_cast<std::size_t>(p));
      r.source_partition = p;
      r.headers = headers;
      ASSERT_EQ(s->produce(r), produced::ok);
    }
    const auto reports = wait_for_reports(*s, 6);
    ASSERT_EQ(reports.size(), 6U);
    for (const auto& r : reports) EXPECT_TRUE(r.ok) << s->error_text(r.code);
    EXPECT_EQ(s->in_flight(), 0U);
  }
  std::map<std::string, int> count;
  for (const auto& r : whole(out_topic, 12)) {
    ++count[*r.value];
    EXPECT_EQ(r.headers.size(), 1U);
    if (*r.value < "4") {
      EXPECT_EQ(std::to_string(r.partition), *r.value);
    }
  }
  EXPECT_EQ(count, (std::map<std::string, int>{{"0", 2}, {"1", 2}, {"2", 2}, {"3", 2}, {"4", 2}, {"9", 2}}));
}

TEST_F(Embedded, ManyAtOnceEndAsOneByOne) {
  auto o = sink();
  o.max_message_bytes = 10'000;
  const auto s = make_librdkafka_sink(o);
  const std::string large(20'000, 'x');
  static constexpr std::array<header, 1> headers = {{{"h", "v"}}};
  for (int round = 0; round < 2; ++round) {  // the first is taken before the topic's partitions are known
    std::vector<std::string> values;
    for (int i = 0; i < 60; ++i) values.push_back(std::to_string(i));
    std::vector<outgoing> records(60);
    for (std::size_t i = 0; i < records.size(); ++i) {
      auto& r = records[i];
      r.value = values[i];
      r.opaque = &values[i];
      r.source_partition = static_cast<std::int32_t>(i / 10);  // partitions 4 and 5 are not there
      if (i >= 30 && i < 35) r.key = "key";
      if (i == 5) r.headers = headers;
      if (i == 25) r.value = large;
    }
    std::size_t taken = 0;
    std::vector<std::size_t> handed_back;
    while (taken < records.size()) {
      auto stopped = produced::failed;
      taken += s->produce_many(std::span(records).subspan(taken), stopped);
      if (taken == records.size()) {
        EXPECT_EQ(stopped, produced::ok);
        break;
      }
      EXPECT_EQ(stopped, produced::too_large);
      handed_back.push_back(taken++);
    }
    const auto reports = wait_for_reports(*s, 60 - handed_back.size());
    std::set<void*> opaques;
    for (const auto& r : reports) {
      opaques.insert(r.opaque);
      EXPECT_EQ(r.ok, r.opaque != &values[25]) << s->error_text(r.code);
      EXPECT_EQ(r.too_large, r.opaque == &values[25]);
    }
    for (const auto i : handed_back) EXPECT_EQ(i, 25U);
    EXPECT_EQ(opaques.size(), 60 - handed_back.size());
    EXPECT_EQ(s->in_flight(), 0U);
  }
  std::map<std::string, int> count;
  for (const auto& r : whole(out_topic, 118)) {
    ++count[*r.value];
    const int i = std::stoi(*r.value);
    EXPECT_EQ(r.headers.size(), i == 5 ? 1U : 0U);
    if (i < 30 || (i >= 35 && i < 40)) {
      EXPECT_EQ(r.partition, i / 10) << i;
    }
  }
  EXPECT_EQ(count.size(), 59U);
  for (const auto& [value, n] : count) EXPECT_EQ(n, 2) << value;
}

TEST_F(Embedded, ManyAtOnceStopAtAFullQueue) {
  auto o = sink();
  o.max_message_bytes = 100'000;
  o.queue_bytes = 1;
  const auto s = make_librdkafka_sink(o);
  const std::string value(10'000, 'x');
  std::vector<outgoing> records(50);
  for (auto& r : records) r.value = value, r.source_partition = 0;
  auto stopped = produced::ok;
  const auto taken = s->produce_many(records, stopped);
  EXPECT_EQ(stopped, produced::queue_full);
  EXPECT_GE(taken, 10U);
  EXPECT_LT(taken, 50U);
  EXPECT_EQ(s->in_flight(), taken);
  EXPECT_EQ(wait_for_reports(*s, taken).size(), taken);
  EXPECT_EQ(s->in_flight(), 0U);
}

TEST_F(Embedded, RefusesWhatIsTooLarge) {
  auto o = sink();
  o.max_message_bytes = 10'000;
  const auto s = make_librdkafka_sink(o);
  const std::string large(20'000, 'x');
  outgoing r;
  r.value = large;
  EXPECT_EQ(s->produce(r), produced::too_large);
  EXPECT_EQ(s->in_flight(), 0U);
  r.value = "small";
  EXPECT_EQ(s->produce(r), produced::ok);
  EXPECT_EQ(wait_for_reports(*s, 1).size(), 1U);
}

TEST_F(Embedded, AFullQueueTakesNothingUntilTheBrokerIsBack) {
  auto o = sink();
  o.max_message_bytes = 100'000;
  o.queue_bytes = 1;  // it still takes one record of the largest size
  const auto s = make_librdkafka_sink(o);
  const std::string value(99'000, 'x');
  outgoing r;
  r.value = value;
  ASSERT_EQ(s->produce(r), produced::ok);
  ASSERT_EQ(wait_for_reports(*s, 1).size(), 1U);
  broker.set_down(true);
  std::size_t taken = 0;
  auto last = produced::ok;
  while ((last = s->produce(r)) == produced::ok) ASSERT_LT(++taken, 1'000U);
  EXPECT_EQ(last, produced::queue_full);
  EXPECT_GE(taken, 1U);
  EXPECT_EQ(s->in_flight(), taken);
  EXPECT_EQ(s->produce(r), produced::queue_full);
  broker.set_down(false);
  EXPECT_EQ(wait_for_reports(*s, taken).size(), taken);
  EXPECT_EQ(s->produce(r), produced::ok);
  EXPECT_EQ(wait_for_reports(*s, 1).size(), 1U);
}

TEST_F(Embedded, CloseReportsWhatItDropped) {
  const auto s = make_librdkafka_sink(sink());
  outgoing r;
  r.value = "v";
  ASSERT_EQ(s->produce(r), produced::ok);
  ASSERT_EQ(wait_for_reports(*s, 1).size(), 1U);
  broker.set_down(true);
  int tags[5];
  for (int& tag : tags) {
    r.opaque = &tag;
    ASSERT_EQ(s->produce(r), produced::ok);
  }
  s->close();
  EXPECT_EQ(s->produce(r), produced::failed);
  std::vector<delivery_report> all;
  EXPECT_EQ(s->reports(all, 3), 3U);
  EXPECT_EQ(s->reports(all, 3), 2U);
  std::set<void*> opaques;
  for (const auto& report : all) {
    EXPECT_FALSE(report.ok);
    EXPECT_FALSE(s->error_text(report.code).empty());
    opaques.insert(report.opaque);
  }
  EXPECT_EQ(opaques.size(), 5U);
  EXPECT_EQ(s->in_flight(), 0U);
  s->close();
}

TEST_F(Embedded, AnIdleClientNoticesThatTheBrokerIsGoneAndBack) {
  member m(source());
  m.start();
  ASSERT_TRUE(m.has(4));
  const auto s = make_librdkafka_sink(sink());
  std::vector<delivery_report> none;
  const auto both_up = [&] { return s->reports(none, 10), m.source().status().up && s->status().up; };
  const auto both_down = [&] { return s->reports(none, 10), !m.source().status().up && !s->status().up; };
  ASSERT_TRUE(eventually(both_up));
  broker.set_down(true);
  ASSERT_TRUE(eventually(both_down));
  for (const auto& status : {m.source().status(), s->status()}) {
    EXPECT_FALSE(status.fatal);
    EXPECT_TRUE(status.reason.starts_with(broker.bootstrap())) << status.reason;
  }
  broker.set_down(false);
  EXPECT_TRUE(eventually(both_up)) << m.source().status().reason << " | " << s->status().reason;
  requests.write_numbers(0, 3);
  EXPECT_EQ(read(*m.queue(0), 3).size(), 3U);
}

TEST_F(Embedded, ClosesInTimeWithoutABroker) {
  requests.write_numbers(0, 3);
  member m(source());
  m.start();
  const auto q = m.queue(0);
  EXPECT_EQ(read(*q, 3).size(), 3U);
  EXPECT_TRUE(q->store(3));
  broker.set_down(true);
  ASSERT_TRUE(eventually([&] { return !m.source().status().up; }));
  const nanos begin = now();
  m.close(second);
  EXPECT_LT(now() - begin, 60 * second) << (now() - begin) / 1'000'000 << " ms";
  RecordProperty("close_ms", std::to_string((now() - begin) / 1'000'000));
}

TEST_F(Embedded, SaysWhichTopicIsNotThere) {
  auto o = source();
  o.topic = "nowhere";
  member m(o);
  m.start();
  ASSERT_TRUE(eventually([&] { return m.source().status().reason.find("nowhere") != std::string::npos; }))
      << m.source().status().reason;
  EXPECT_FALSE(m.source().status().up);
  EXPECT_FALSE(m.source().status().fatal);
}

TEST(NoBroker, TheReasonIsTheConnections) {
  source_options in;
  in.brokers = "127.0.0.1:1", in.group = "g", in.topic = "t";
  member m(in);
  m.start();
  EXPECT_TRUE(eventually([&] { return m.source().status().reason == "127.0.0.1:1: Connection refused"; }))
      << m.source().status().reason;
  EXPECT_FALSE(m.source().status().fatal);
  sink_options out;
  out.brokers = "127.0.0.1:1", out.results_topic = "r", out.dead_letter_topic = "d";
  const auto s = make_librdkafka_sink(out);
  std::vector<delivery_report> none;
  EXPECT_TRUE(eventually([&] {
    return s->reports(none, 1), s->status().reason == "127.0.0.1:1: Connection refused";
  })) << s->status().reason;
  const nanos begin = now();
  m.close(second);
  s->close();
  EXPECT_LT(now() - begin, 60 * second);
}

/// Told that a client never works again.
struct obituary {
  std::mutex mutex;
  std::vector<std::pair<bool, std::string>> told;
  [[nodiscard]] broken_function reader() {
    return [this](bool fenced, const std::string& why) {
      const std::lock_guard lock(mutex);
      told.emplace_back(fenced, why);
    };
  }
  [[nodiscard]] std::vector<std::pair<bool, std::string>> all() {
    const std::lock_guard lock(mutex);
    return told;
  }
};

TEST_F(Embedded, AConsumerThatTheLibraryGaveUpIsToldOnceWithItsWordsAndCanEnd) {
  obituary o;
  auto options = source();
  options.broken = o.reader();
  member m(options);
  m.start();
  ASSERT_TRUE(m.has(4));
  auto* handle = m.source().group()->consumer();
  ASSERT_EQ(rd_kafka_test_fatal_error(handle, RD_KAFKA_RESP_ERR_UNSUPPORTED_ASSIGNOR, "no such assignor"),
            RD_KAFKA_RESP_ERR_NO_ERROR);
  ASSERT_TRUE(eventually([&] { return !o.all().empty(); }));
  const auto s = m.source().status();
  EXPECT_FALSE(s.up);
  EXPECT_TRUE(s.fatal);
  EXPECT_NE(s.reason.find("no such assignor"), std::string::npos) << s.reason;
  m.close();
  EXPECT_EQ(m.losses, 1);
  EXPECT_EQ(m.source().assigned_partitions(), 0U);
  const auto told = o.all();
  ASSERT_EQ(told.size(), 1U);
  EXPECT_FALSE(told[0].first) << "nobody has its place in the group";
  EXPECT_NE(told[0].second.find("no such assignor"), std::string::npos) << told[0].second;
}

TEST_F(Embedded, AnInstanceThatWasPutOutIsToldAsSuch) {
  obituary o;
  auto options = source();
  options.broken = o.reader();
  options.instance_id = "one";
  member m(options);
  m.start();
  ASSERT_TRUE(m.has(4));
  rd_kafka_test_fatal_error(m.source().group()->consumer(), RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, "fenced");
  ASSERT_TRUE(eventually([&] { return !o.all().empty(); }));
  EXPECT_TRUE(o.all()[0].first);
  EXPECT_NE(o.all()[0].second.find("kafka.instance_id 'one'"), std::string::npos) << o.all()[0].second;
}

TEST_F(Embedded, AProducerThatTheLibraryGaveUpIsToldOnceWithItsWords) {
  obituary o;
  auto options = sink();
  options.broken = o.reader();
  const auto out = make_librdkafka_sink(options);
  rd_kafka_test_fatal_error(out->handle(), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "a gap");
  std::vector<delivery_report> none;
  ASSERT_TRUE(eventually([&] { return out->reports(none, 10), !o.all().empty(); }));
  EXPECT_FALSE(o.all()[0].first);
  EXPECT_NE(o.all()[0].second.find("a gap"), std::string::npos) << o.all()[0].second;
  outgoing r;
  r.value = "v";
  EXPECT_EQ(out->produce(r), produced::failed);
  EXPECT_TRUE(out->status().fatal);
  EXPECT_EQ(o.all().size(), 1U);
}

}  // namespace
}  // namespace troupe::kafka::test
