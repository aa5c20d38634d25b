// What only a real broker can judge: rebalances with work in flight, deliveries across its death, refused
// sizes and credentials. tests/e2e/kafka_ports.py starts one and sets
//   TROUPE_TEST_KAFKA           host:port, plain
//   TROUPE_TEST_KAFKA_TLS       host:port, SASL_SSL with PLAIN, of the same cluster
//   TROUPE_TEST_KAFKA_CA        its certificate authority, PEM
//   TROUPE_TEST_KAFKA_PASSWORD  of user $ConnectionString
//   TROUPE_TEST_KAFKA_ORDERS    a folder: the file `kill` there asks for a kill -9 of the broker, `start` for
//   its return;
//                               the answer is a file of that name with `.done` behind it

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "runtime/kafka/admin.hpp"
#include "tests/runtime/kafka/members.hpp"

namespace troupe::kafka::test {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

class RealBroker : public testing::Test {
 protected:
  void SetUp() override {
    if (brokers.empty())
      GTEST_SKIP() << "TROUPE_TEST_KAFKA is not set: tests/e2e/kafka_ports.py runs these on a real broker";
    admin(brokers, {}).create_topic(topic, 4, 1, 30 * second);
    admin(brokers, {}).create_topic(out_topic, 4, 1, 30 * second);
  }

  [[nodiscard]] source_options source() const {
    source_options o;
    o.brokers = brokers;
    o.group = "group-" + topic;
    o.topic = topic;
    o.own["session.timeout.ms"] = "45000";  // nobody is sent away for a pause of this machine
    return o;
  }
  [[nodiscard]] sink_options sink() const {
    sink_options o;
    o.brokers = brokers;
    o.results_topic = out_topic;
    o.dead_letter_topic = out_topic;
    return o;
  }
  /// The broker's view of what the group committed; -1 a partition: nothing.
  [[nodiscard]] std::vector<std::int64_t> committed() const {
    char error[256];
    auto* conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers.c_str(), error, sizeof error);
    rd_kafka_conf_set(conf, "group.id", source().group.c_str(), error, sizeof error);
    auto* client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
    auto* list = rd_kafka_topic_partition_list_new(4);
    for (std::int32_t p = 0; p < 4; ++p) rd_kafka_topic_partition_list_add(list, topic.c_str(), p);
    rd_kafka_committed(client, list, 10'000);
    std::vector<std::int64_t> out;
    for (int p = 0; p < 4; ++p) out.push_back(std::max<std::int64_t>(-1, list->elems[p].offset));
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
    return out;
  }

  std::string brokers = environment("TROUPE_TEST_KAFKA");
  std::string topic = std::string("t-") + testing::UnitTest::GetInstance()->current_test_info()->name() +
                      "-" + std::to_string(::getpid());
  std::string out_topic = topic + "-out";
};

/// A pipeline behind a member: polls all its partitions, finishes every record on another thread, some time
/// later and out of order, and stores what is finished without gaps. `drain`: a revoke waits for what is in
/// flight.
class pipeline {
 public:
  pipeline(const source_options& options, bool drain, std::uint32_t seed)
      : member_(options), drain_(drain), random_(seed) {
    member_.on_assigned = [this](const std::vector<member::queue_ptr>& queues) {
      const std::lock_guard lock(mutex_);
      for (const auto& q : queues) {
        auto p = std::make_shared<part>();
        p->queue = q;
        parts_.push_back(p);
      }
    };
    member_.on_revoked = [this](const std::vector<member::queue_ptr>& queues, bool lost, nanos deadline) {
      for (const auto& q : queues) leave(*q, lost, deadline);
    };
    member_.start();
    poller_ = std::thread([this] { poll_all(); });
    for (auto& w : workers_) w = std::thread([this] { finish_some(); });
  }
  ~pipeline() {
    member_.close(20 * second);
    stop_ = true;
    work_there_.notify_all();
    poller_.join();
    for (auto& w : workers_) w.join();
  }

  [[nodiscard]] member& group() { return member_; }
  [[nodiscard]] std::vector<std::string> finished() {
    const std::lock_guard lock(mutex_);
    return finished_;
  }
  std::atomic<int> stale{0};  ///< finished after their partition was taken away
  std::atomic<int> in_flight_at_revoke{0};
  std::atomic<int> work_us{10'000};  ///< slow enough that the load outlasts a rebalance

 private:
  struct part {
    std::shared_ptr<partition_queue> queue;
    std::mutex polling;
    bool leaving = false;
    std::map<std::int64_t, bool> pending;  // offset -> finished
  };
  struct job {
    std::shared_ptr<part> of;
    std::int64_t offset;
    std::string value;
  };

  void poll_all() {
    while (!stop_) {
      std::vector<std::shared_ptr<part>> parts;
      {
        const std::lock_guard lock(mutex_);
        parts = parts_;
      }
      for (const auto& p : parts) {
        const std::lock_guard polling(p->polling);
        {
          const std::lock_guard lock(mutex_);
          if (p->leaving || p->pending.size() > 300) continue;
        }
        const auto batch = test::poll(*p->queue, 50);
        const std::lock_guard lock(mutex_);
        for (const auto& s : copy(*batch)) {
          p->pending[s.offset] = false;
          work_.push_back({p, s.offset, *s.value});
        }
        work_there_.notify_all();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  void finish_some() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      if (work_.empty()) {
        work_there_.wait(lock);
        continue;
      }
      const auto at = static_cast<std::ptrdiff_t>(random_() % std::min<std::size_t>(work_.size(), 40));
      const job j = work_[static_cast<std::size_t>(at)];
      work_.erase(work_.begin() + at);
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(work_us));  // the work itself
      lock.lock();
      finished_.push_back(j.value);
      auto& pending = j.of->pending;
      pending[j.offset] = true;
      std::int64_t next = -1;
      while (!pending.empty() && pending.begin()->second) {
        next = pending.begin()->first + 1;
        pending.erase(pending.begin());
      }
      if (next >= 0 && !j.of->queue->store(next)) ++stale;
    }
  }

  void leave(const partition_queue& q, bool lost, nanos deadline) {
    std::shared_ptr<part> p;
    {
      const std::lock_guard lock(mutex_);
      for (auto& each : parts_)
        if (each->queue.get() == &q) p = each;
    }
    ASSERT_TRUE(p);
    {
      const std::lock_guard polling(p->polling);
      const std::lock_guard lock(mutex_);
      p->leaving = true;
      std::erase(parts_, p);
      in_flight_at_revoke += static_cast<int>(p->pending.size());
    }
    if (!drain_ || lost) return;
    const auto drained = [&] {
      const std::lock_guard lock(mutex_);
      return p->pending.empty();
    };
    EXPECT_TRUE(eventually(drained, deadline - now()));
  }

  member member_;
  const bool drain_;
  std::mutex mutex_;
  std::mt19937 random_;
  std::vector<std::shared_ptr<part>> parts_;
  std::deque<job> work_;
  std::condition_variable work_there_;
  std::vector<std::string> finished_;
  std::atomic<bool> stop_{false};
  std::thread poller_;
  std::array<std::thread, 4> workers_;
};

struct outcome {
  std::size_t missing = 0;
  std::size_t twice = 0;
};

outcome judge(const std::vector<std::vector<std::string>>& finished, int expected) {
  std::map<std::string, int> count;
  for (const auto& part : finished)
    for (const auto& v : part) ++count[v];
  outcome o;
  for (int i = 0; i < expected; ++i) {
    const auto it = count.find(std::to_string(i));
    if (it == count.end())
      ++o.missing;
    else if (it->second > 1)
      ++o.twice;
  }
  return o;
}

constexpr int load = 8'000;

TEST_F(RealBroker, ADrainedRebalanceLosesAndRepeatsNothing) {
  writer w(brokers, topic);
  for (std::int32_t p = 0; p < 4; ++p) w.write_numbers(p, load / 4, p * load / 4);
  pipeline first(source(), true, 1);
  ASSERT_TRUE(eventually([&] { return first.finished().size() > 500; }));
  pipeline second_one(source(), true, 2);
  ASSERT_TRUE(first.group().has(2));
  ASSERT_TRUE(second_one.group().has(2));
  first.work_us = second_one.work_us = 100;
  EXPECT_GE(first.group().revocations, 1);
  EXPECT_GT(first.in_flight_at_revoke, 0);
  std::set<std::int32_t> owned;
  for (auto* m : {&first, &second_one})
    for (const auto& q : m->group().queues()) owned.insert(q->partition());
  EXPECT_EQ(owned.size(), 4U);
  ASSERT_TRUE(eventually(
      [&] {
        return judge({first.finished(), second_one.finished()}, load).missing == 0;
      },
      60 * second));
  EXPECT_EQ(judge({first.finished(), second_one.finished()}, load).twice, 0U);
  EXPECT_EQ(first.stale, 0);
  EXPECT_TRUE(eventually([&] { return committed() == std::vector<std::int64_t>(4, load / 4); }));
}

TEST_F(RealBroker, WhatIsLateForARebalanceIsRepeatedAndNeverStored) {
  writer w(brokers, topic);
  for (std::int32_t p = 0; p < 4; ++p) w.write_numbers(p, load / 4, p * load / 4);
  pipeline first(source(), false, 3);
  ASSERT_TRUE(eventually([&] { return first.finished().size() > 500; }));
  {
    pipeline second_one(source(), false, 4);
    ASSERT_TRUE(first.group().has(2));
    ASSERT_TRUE(second_one.group().has(2));
    first.work_us = second_one.work_us = 100;
    ASSERT_TRUE(eventually([&] { return first.stale > 0; }));
    ASSERT_TRUE(eventually(
        [&] {
          return judge({first.finished(), second_one.finished()}, load).missing == 0;
        },
        60 * second));
    const auto o = judge({first.finished(), second_one.finished()}, load);
    EXPECT_GT(o.twice, 0U);
    EXPECT_LE(o.twice, static_cast<std::size_t>(first.in_flight_at_revoke));
  }
  ASSERT_TRUE(first.group().has(4));  // the other one left: its partitions come back under a new generation
  EXPECT_TRUE(eventually([&] { return committed() == std::vector<std::int64_t>(4, load / 4); }));
}

TEST_F(RealBroker, AnEagerAssignorWorksAsWell) {
  writer w(brokers, topic);
  for (std::int32_t p = 0; p < 4; ++p) w.write_numbers(p, load / 4, p * load / 4);
  auto o = source();
  o.own["partition.assignment.strategy"] = "range";
  pipeline first(o, true, 5);
  ASSERT_TRUE(eventually([&] { return first.finished().size() > 500; }));
  pipeline second_one(o, true, 6);
  ASSERT_TRUE(first.group().has(2));
  ASSERT_TRUE(second_one.group().has(2));
  first.work_us = second_one.work_us = 100;
  ASSERT_TRUE(eventually(
      [&] {
        return judge({first.finished(), second_one.finished()}, load).missing == 0;
      },
      60 * second));
  EXPECT_EQ(judge({first.finished(), second_one.finished()}, load).twice, 0U);
}

TEST_F(RealBroker, AMemberTooManyIsUpWithoutPartitions) {
  std::vector<std::unique_ptr<member>> members;
  for (int i = 0; i < 5; ++i) {
    members.push_back(std::make_unique<member>(source()));
    members.back()->start();
  }
  EXPECT_TRUE(eventually([&] {
    std::size_t partitions = 0;
    for (auto& m : members) {
      if (!m->source().status().up) return false;
      partitions += m->queues().size();
    }
    return partitions == 4;
  }));
}

TEST_F(RealBroker, TimestampsAndSizesAreTheBrokersToJudge) {
  const auto s = make_librdkafka_sink(sink());
  const std::int64_t stamp = 1'731'650'000'123;
  const std::string large(std::size_t{2} << 20, 'x');
  int tags[3];
  outgoing r;
  r.value = "old", r.timestamp_ms = stamp, r.opaque = &tags[0];
  ASSERT_EQ(s->produce(r), produced::ok);
  r.value = large, r.timestamp_ms = 0, r.opaque = &tags[1];  // the broker takes 1 MiB
  ASSERT_EQ(s->produce(r), produced::ok);
  r.value = "now", r.opaque = &tags[2];
  ASSERT_EQ(s->produce(r), produced::ok);
  const auto reports = wait_for_reports(*s, 3);
  ASSERT_EQ(reports.size(), 3U);
  for (const auto& report : reports) {
    EXPECT_EQ(report.ok, report.opaque != &tags[1]) << s->error_text(report.code);
    EXPECT_EQ(report.too_large, report.opaque == &tags[1]);
  }
  EXPECT_TRUE(s->status().up) << s->status().reason;
  auto o = source();
  o.topic = out_topic;
  member m(o);
  m.start();
  std::map<std::string, std::int64_t> stamps;
  ASSERT_TRUE(eventually([&] {
    for (const auto& q : m.queues())
      for (const auto& each : copy(*poll(*q))) stamps[*each.value] = each.timestamp_ms;
    return stamps.size() == 2;
  }));
  const auto clock = std::chrono::duration_cast<std::chrono::milliseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
  EXPECT_EQ(stamps["old"], stamp);
  EXPECT_NEAR(static_cast<double>(stamps["now"]), static_cast<double>(clock), 60'000);
}

TEST_F(RealBroker, RewindAndRestartWithTransactionMarkersAndGaps) {
  // A transaction's marker takes an offset that no record has: "the next offset" and "one behind the last
  // record" differ.
  char error[256];
  auto* conf = rd_kafka_conf_new();
  rd_kafka_conf_set(conf, "bootstrap.servers", brokers.c_str(), error, sizeof error);
  rd_kafka_conf_set(conf, "transactional.id", topic.c_str(), error, sizeof error);
  auto* producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
  ASSERT_EQ(rd_kafka_init_transactions(producer, 30'000), nullptr);
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(rd_kafka_begin_transaction(producer), nullptr);
    rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(0),
                      RD_KAFKA_V_VALUE(&i, sizeof i), RD_KAFKA_V_END);
    ASSERT_EQ(
        i == 3 ? rd_kafka_abort_transaction(producer, 30'000) : rd_kafka_commit_transaction(producer, 30'000),
        nullptr);
  }
  rd_kafka_destroy(producer);
  const auto offsets = [](const std::vector<seen>& all) {
    std::vector<std::int64_t> out;
    for (const auto& s : all) out.push_back(s.offset);
    return out;
  };
  {
    member m(source());
    m.start();
    const auto q = m.queue(0);
    const auto first = offsets(read(*q, 4));
    ASSERT_EQ(first.size(), 4U);  // the aborted one is not there
    ASSERT_TRUE(q->store(first[1] + 1));
    q->rewind();
    EXPECT_EQ(offsets(read(*q, 2)), (std::vector<std::int64_t>{first[2], first[3]}));
    ASSERT_TRUE(q->store(first[2] + 1));
  }
  member m(source());
  m.start();
  const auto q = m.queue(0);
  EXPECT_EQ(read(*q, 1).size(), 1U);
  EXPECT_TRUE(eventually([&] { return poll(*q)->records.empty() && q->lag() == 0; }))
      << "the marker behind the last record is not a record that waits: " << q->lag();
}

TEST_F(RealBroker, SaysWhichTopicIsNotThere) {
  auto o = source();
  o.topic = topic + "-nowhere";
  member m(o);
  m.start();
  ASSERT_TRUE(eventually([&] { return m.source().status().reason.find(o.topic) != std::string::npos; }))
      << m.source().status().reason;
  EXPECT_FALSE(m.source().status().up);
  admin(brokers, {}).create_topic(o.topic, 2, -1, 30 * second);
  auto fresh = source();
  fresh.topic = o.topic;
  fresh.group += "-2";
  member n(fresh);
  n.start();
  EXPECT_TRUE(n.has(2));
  EXPECT_TRUE(n.source().status().up) << n.source().status().reason;
}

TEST_F(RealBroker, AdminKnowsTheCluster) {
  admin a(brokers, {});
  const auto found = a.reach(10 * second);
  EXPECT_EQ(found.reason, "");
  EXPECT_EQ(found.brokers.size(), 1U);
  EXPECT_EQ(found.topics.at(topic), 4);
  a.create_topic(topic, 9, 1, 10 * second);  // there already: left as it is
  EXPECT_EQ(a.reach(10 * second).topics.at(topic), 4);
  const auto refused = [&](const std::string& name, int partitions) -> std::string {
    try {
      a.create_topic(name, partitions, 1, 10 * second);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_TRUE(refused("no spaces", 1).starts_with("Kafka topic 'no spaces': ")) << refused("no spaces", 1);
  EXPECT_TRUE(refused(topic + "-none", 0).starts_with("Kafka topic '")) << refused(topic + "-none", 0);
  EXPECT_FALSE(found.topics.contains(topic + "-none"));
}

TEST_F(RealBroker, CredentialsAndCertificates) {
  const auto tls = environment("TROUPE_TEST_KAFKA_TLS");
  if (tls.empty()) GTEST_SKIP() << "TROUPE_TEST_KAFKA_TLS is not set: tests/e2e/kafka_ports.py sets it";
  const properties right = {{"security.protocol", "SASL_SSL"},
                            {"sasl.mechanism", "PLAIN"},
                            {"sasl.username", "$ConnectionString"},
                            {"sasl.password", environment("TROUPE_TEST_KAFKA_PASSWORD")},
                            {"ssl.ca.location", environment("TROUPE_TEST_KAFKA_CA")}};
  auto wrong_password = right;
  wrong_password["sasl.password"] = "wrong";
  auto no_authority = right;
  no_authority.erase("ssl.ca.location");
  const std::pair<properties, const char*> table[] = {
      {right, ""}, {wrong_password, "uthentication"}, {no_authority, "certificate"}};
  for (const auto& [own, why] : table) {
    const bool good = own == right;
    auto in = source();
    in.brokers = tls, in.own = own;
    member m(in);
    m.start();
    auto out = sink();
    out.brokers = tls, out.own = own;
    const auto s = make_librdkafka_sink(out);
    std::vector<delivery_report> none;
    EXPECT_TRUE(eventually([&] {
      s->reports(none, 10);
      const auto a = m.source().status();
      const auto b = s->status();
      return good ? a.up && b.up : a.fatal && b.fatal;
    })) << why
        << " | " << m.source().status().reason << " | " << s->status().reason;
    const auto found = admin(tls, own).reach((good ? 30 : 10) * second);
    EXPECT_EQ(found.reason.empty(), good) << found.reason;
    EXPECT_EQ(found.fatal, !good);
    for (const auto& reason : {m.source().status().reason, s->status().reason, found.reason}) {
      EXPECT_NE(reason.find(why), std::string::npos) << reason;
      EXPECT_EQ(reason.find('\n'), std::string::npos) << reason;
    }
  }
}

TEST_F(RealBroker, NothingIsLostWhenTheBrokerDiesAndComesBack) {
  const auto orders = environment("TROUPE_TEST_KAFKA_ORDERS");
  if (orders.empty()) GTEST_SKIP() << "TROUPE_TEST_KAFKA_ORDERS is not set: tests/e2e/kafka_ports.py sets it";
  const auto order = [&](const std::string& what) {
    const std::filesystem::path file = std::filesystem::path(orders) / what;
    std::filesystem::remove(file.string() + ".done");
    std::ofstream(file).close();
    return eventually([&] { return std::filesystem::exists(file.string() + ".done"); }, 120 * second);
  };
  writer w(brokers, topic);
  w.write_numbers(0, 100);
  member m(source());
  m.start();
  const auto q = m.queue(0);
  ASSERT_EQ(read(*q, 100).size(), 100U);
  ASSERT_TRUE(q->store(100));
  const auto s = make_librdkafka_sink(sink());
  std::vector<delivery_report> none;
  ASSERT_TRUE(eventually([&] { return s->reports(none, 10), s->status().up && m.source().status().up; }));

  ASSERT_TRUE(order("kill"));
  EXPECT_TRUE(eventually([&] { return s->reports(none, 10), !s->status().up && !m.source().status().up; }));
  for (const auto& status : {s->status(), m.source().status()}) {
    EXPECT_FALSE(status.fatal);
    EXPECT_TRUE(status.reason.starts_with(brokers)) << status.reason;
  }
  std::vector<std::string> values;
  for (int i = 0; i < 500; ++i) values.push_back(std::to_string(i));
  for (auto& v : values) {
    outgoing r;
    r.value = v, r.source_partition = 1, r.opaque = &v;
    ASSERT_EQ(s->produce(r), produced::ok);
  }
  EXPECT_EQ(s->reports(none, 10), 0U);

  ASSERT_TRUE(order("start"));
  EXPECT_TRUE(eventually([&] { return s->reports(none, 0), m.source().status().up; }, 60 * second))
      << m.source().status().reason;
  const auto reports = wait_for_reports(*s, 500, 60 * second);
  ASSERT_EQ(reports.size(), 500U);
  for (const auto& r : reports) EXPECT_TRUE(r.ok) << s->error_text(r.code);
  EXPECT_TRUE(s->status().up) << s->status().reason;
  auto o = source();
  o.topic = out_topic;
  o.group += "-out";
  member reader(o);
  reader.start();
  const auto all = read(*reader.queue(1), 500);
  ASSERT_EQ(all.size(), 500U);  // each once, in order
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].value, values[i]);
  // And the consumer reads on.
  w.write_numbers(0, 5, 100);
  const auto again = m.queue(0);
  EXPECT_TRUE(eventually(
      [&] {
        const auto current = m.current(0);
        return current && !poll(*current)->records.empty();
      },
      60 * second));
}

}  // namespace
}  // namespace troupe::kafka::test
