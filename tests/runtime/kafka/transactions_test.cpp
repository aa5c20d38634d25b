// Transactions are the broker's to judge: those called RealBroker run where TROUPE_TEST_KAFKA names one
// (tests/e2e/kafka_ports.py).

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <mutex>

#include "runtime/kafka/admin.hpp"
#include "runtime/kafka/embedded_broker.hpp"
#include "runtime/kafka/librdkafka_transactions.hpp"
#include "runtime/kafka/transaction_heir.hpp"
#include "runtime/kafka/transaction_refusal.hpp"
#include "tests/runtime/kafka/members.hpp"

namespace troupe::kafka::test {
namespace {

TEST(TransactionHeir, MetadataNamesTheCommitter) {
  const committer c{"troupe-5f1", "group-node 1"};
  EXPECT_EQ(from_metadata(to_metadata(c)), c);
  for (const char* other : {"", "troupe", "troupe ", "troupe x", "troupe  y", "else a b"})
    EXPECT_EQ(from_metadata(other), committer{}) << other;
}

TEST(TransactionRefusal, NamesTheRemedy) {
  const auto said = [](int code, const char* words = "words") {
    return transaction_refusal(code, words, "scorer-0-check", "scorer-0", 20 * second);
  };
  using testing::HasSubstr;
  EXPECT_THAT(said(RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
              testing::AllOf(HasSubstr("'scorer-0-check'"), HasSubstr("--resource-pattern-type prefixed "),
                             HasSubstr("--transactional-id scorer-0;")));
  EXPECT_THAT(said(RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT),
              HasSubstr("kafka.transaction_timeout, 20 s: lower it, or raise the broker's transaction.max."));
  EXPECT_THAT(said(RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE), HasSubstr("at_least_once"));
  EXPECT_THAT(said(RD_KAFKA_RESP_ERR__TIMED_OUT), HasSubstr("transaction.state.log.replication.factor"));
  EXPECT_THAT(said(RD_KAFKA_RESP_ERR_UNKNOWN, "no idea"), HasSubstr("(no idea)"));
}

/// The broker in the process answers as one with transactions would.
class EmbeddedTransactions : public testing::Test {
 protected:
  embedded_broker broker{{{"in", 1}, {"out", 1}}};
  source_options in;
  sink_options out;
  EmbeddedTransactions() {
    in.brokers = out.brokers = broker.bootstrap();
    in.group = "g", in.topic = "in", in.fetch_wait_ms = 5, in.transactional = true;
    out.results_topic = out.dead_letter_topic = "out";
    out.transactional_id = "acting";
  }
};

TEST_F(EmbeddedTransactions, AreNone) {
  const auto sink = make_librdkafka_sink(out);
  EXPECT_THAT(try_transactions(sink->handle(), "acting", "acting", 10 * second, 10 * second),
              testing::StartsWith("this broker is one of `kafka.brokers: embedded` in another process"));
}

TEST_F(EmbeddedTransactions, EndWhoWantsToBegin) {
  std::mutex mutex;
  std::string why;
  out.broken = [&](bool fenced, const std::string& text) {
    const std::lock_guard lock(mutex);
    EXPECT_FALSE(fenced);
    EXPECT_TRUE(why.empty()) << "told once";
    why = text;
  };
  member m(in);
  m.start();
  const auto sink = make_librdkafka_transactions(out, m.source().group());
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return !why.empty();
  }));
  EXPECT_THAT(why, testing::HasSubstr("no transactions"));
  EXPECT_EQ(sink->phase(), transaction_phase::preparing);
  std::vector<delivery_report> none;
  EXPECT_TRUE(eventually([&] {
    sink->reports(none, 10);  // what is known of the connection comes that way
    return sink->status().reason.find(why) != std::string::npos;
  })) << sink->status().reason;
  EXPECT_FALSE(sink->status().up);
}

class RealBrokerTransactions : public testing::Test {
 protected:
  void SetUp() override {
    if (brokers.empty())
      GTEST_SKIP() << "TROUPE_TEST_KAFKA is not set: tests/e2e/kafka_ports.py runs these on a real broker";
    for (const auto& name : {topic, out_topic}) admin(brokers, {}).create_topic(name, 1, 1, 30 * second);
  }

  [[nodiscard]] source_options source() const {
    source_options o;
    o.brokers = brokers;
    o.group = "group-" + topic;
    o.topic = topic;
    o.transactional = true;
    return o;
  }
  [[nodiscard]] sink_options sink(const std::string& id) const {
    sink_options o;
    o.brokers = brokers;
    o.results_topic = out_topic;
    o.dead_letter_topic = out_topic;
    o.transactional_id = topic + id;
    return o;
  }
  [[nodiscard]] static bool comes_to(transactional_sink& s, transaction_phase phase) {
    return eventually([&] {
      std::vector<delivery_report> ignored;
      s.reports(ignored, 1'000);
      return s.phase() == phase;
    });
  }
  static void produce(transactional_sink& s, std::string_view value) {
    outgoing r;
    r.value = value;
    r.source_partition = 0;
    ASSERT_EQ(s.produce(r), produced::ok);
  }
  [[nodiscard]] static transaction_result end_of(transactional_sink& s) {
    std::optional<transaction_result> end;
    EXPECT_TRUE(eventually([&] {
      std::vector<delivery_report> ignored;
      s.reports(ignored, 1'000);
      end = s.ended();
      return end.has_value();
    }));
    return end.value_or(transaction_result{});
  }

  /// Who reads partition 0, where some records are, and answers them in transactions.
  struct answering {
    answering(const RealBrokerTransactions& test, int records) : reader(test.source()) {
      writer(test.brokers, test.topic).write_numbers(0, records);
      reader.start();
      queue = reader.queue(0);
      out = make_librdkafka_transactions(test.sink("-a"), reader.source().group());
      EXPECT_TRUE(comes_to(*out, transaction_phase::ready));
    }
    /// Of a transaction of its own, up to this offset.
    [[nodiscard]] transaction_result commit(std::initializer_list<std::string_view> values,
                                            std::int64_t next) {
      EXPECT_TRUE(comes_to(*out, transaction_phase::ready));
      out->begin();
      for (const auto value : values) produce(*out, value);
      out->commit({{0, queue->generation(), next}});
      return end_of(*out);
    }

    member reader;
    member::queue_ptr queue;
    std::unique_ptr<transactional_sink> out;
  };

  /// What a reader of what is committed finds in the results topic, and what the group has committed.
  struct seen_outside {
    std::vector<std::string> values;
    std::int64_t offset = -1;
  };
  [[nodiscard]] seen_outside outside(std::size_t expected) const {
    seen_outside out;
    char error[256];
    auto* conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers.c_str(), error, sizeof error);
    rd_kafka_conf_set(conf, "group.id", source().group.c_str(), error, sizeof error);
    rd_kafka_conf_set(conf, "enable.partition.eof", "true", error, sizeof error);
    rd_kafka_conf_set(conf, "isolation.level", "read_committed", error, sizeof error);
    auto* client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
    auto* list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic.c_str(), 0);
    rd_kafka_committed(client, list, 20'000);
    out.offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, out_topic.c_str(), 0)->offset = 0;
    rd_kafka_assign(client, list);
    rd_kafka_topic_partition_list_destroy(list);
    const nanos end = now() + 20 * second;
    for (bool at_end = false; now() < end && !(at_end && out.values.size() >= expected);) {
      auto* m = rd_kafka_consumer_poll(client, 100);
      if (!m) continue;
      if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR)
        out.values.emplace_back(static_cast<const char*>(m->payload), m->len);
      at_end = m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
      rd_kafka_message_destroy(m);
    }
    rd_kafka_destroy(client);
    return out;
  }

  std::string brokers = std::getenv("TROUPE_TEST_KAFKA") ? std::getenv("TROUPE_TEST_KAFKA") : "";
  std::string topic = std::string("t-") + testing::UnitTest::GetInstance()->current_test_info()->name() +
                      "-" + std::to_string(::getpid());
  std::string out_topic = topic + "-out";
};

TEST_F(RealBrokerTransactions, ResultsAndOffsetsAppearTogetherOrNotAtAll) {
  answering a(*this, 10);
  ASSERT_EQ(read(*a.queue, 10).size(), 10U);
  EXPECT_FALSE(a.queue->store(5)) << "offsets go with transactions alone";

  a.out->begin();
  produce(*a.out, "aborted");
  a.out->abort();
  EXPECT_FALSE(end_of(*a.out).committed);

  const auto end = a.commit({"a", "b"}, 2);
  EXPECT_TRUE(end.committed) << end.why;

  const auto seen = outside(2);
  EXPECT_EQ(seen.values, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(seen.offset, 2);
  a.queue->rewind();
  const auto again = read(*a.queue, 8);
  ASSERT_EQ(again.size(), 8U);
  EXPECT_EQ(again.front().offset, 2) << "from what is committed";
}

TEST_F(RealBrokerTransactions, AnAssignmentThatIsOverCommitsNothing) {
  answering a(*this, 4);
  a.out->begin();
  produce(*a.out, "too late");
  a.reader.close();
  EXPECT_FALSE(a.out->owns(0, a.queue->generation()));
  a.out->commit({{0, a.queue->generation(), 4}});
  const auto end = end_of(*a.out);
  EXPECT_FALSE(end.committed);
  EXPECT_TRUE(end.passing) << end.why;
  const auto seen = outside(0);
  EXPECT_TRUE(seen.values.empty());
  EXPECT_LT(seen.offset, 0);
}

TEST_F(RealBrokerTransactions, WhoIsFencedGoesOnWithANewProducer) {
  answering a(*this, 4);
  a.out->begin();
  produce(*a.out, "of the one that is fenced");
  {
    const auto other = make_librdkafka_transactions(sink("-a"), a.reader.source().group());
    ASSERT_TRUE(comes_to(*other, transaction_phase::ready));
  }
  a.out->commit({{0, a.queue->generation(), 1}});
  EXPECT_FALSE(end_of(*a.out).committed);
  const auto end = a.commit({"afterwards"}, 1);
  EXPECT_TRUE(end.committed) << end.why;
  EXPECT_EQ(outside(1).values, (std::vector<std::string>{"afterwards"}));
}

TEST_F(RealBrokerTransactions, TheHeirEndsWhatTheDeadLeftOpen) {
  writer(brokers, topic).write_numbers(0, 4);
  auto slow = sink("-a");
  slow.transaction_timeout = 600 * second;  // the broker does not end it by itself
  {
    member dead(source());
    dead.start();
    static_cast<void>(dead.queue(0));
    auto* consumer = dead.source().group()->consumer();
    // Its producer is destroyed in the middle of its second transaction, as if the process had been killed.
    const auto out = make_librdkafka_sink(slow);
    const auto ok = [](rd_kafka_error_t* error) {
      EXPECT_EQ(error, nullptr) << rd_kafka_error_string(error);
      if (error) rd_kafka_error_destroy(error);
    };
    ok(rd_kafka_init_transactions(out->handle(), 30'000));
    ok(rd_kafka_begin_transaction(out->handle()));
    outgoing first;
    first.value = "first";
    first.source_partition = 0;
    ASSERT_EQ(out->produce(first), produced::ok);
    auto* offsets = rd_kafka_topic_partition_list_new(1);
    auto* one = rd_kafka_topic_partition_list_add(offsets, topic.c_str(), 0);
    one->offset = 1;
    char* name = rd_kafka_memberid(consumer);
    const std::string by = to_metadata({name, slow.transactional_id});
    rd_kafka_mem_free(consumer, name);
    one->metadata = ::strdup(by.c_str());
    one->metadata_size = by.size();
    auto* group = rd_kafka_consumer_group_metadata(consumer);
    ok(rd_kafka_send_offsets_to_transaction(out->handle(), offsets, group, 30'000));
    rd_kafka_consumer_group_metadata_destroy(group);
    rd_kafka_topic_partition_list_destroy(offsets);
    ok(rd_kafka_commit_transaction(out->handle(), 30'000));
    ok(rd_kafka_begin_transaction(out->handle()));
    outgoing never;
    never.value = "never";
    never.source_partition = 0;
    ASSERT_EQ(out->produce(never), produced::ok);
    EXPECT_EQ(rd_kafka_flush(out->handle(), 30'000), RD_KAFKA_RESP_ERR_NO_ERROR);
  }
  member next(source());
  next.start();
  const auto queue = next.queue(0);
  transaction_heir heir(next.source().group()->consumer(), source().group, topic, sink("-b"),
                        {sink("-b").transactional_id});
  heir.assigned({0});
  const auto out = make_librdkafka_transactions(sink("-b"), next.source().group());
  ASSERT_TRUE(comes_to(*out, transaction_phase::ready));
  out->begin();
  produce(*out, "second");
  out->commit({{0, queue->generation(), 2}});
  ASSERT_TRUE(end_of(*out).committed);
  EXPECT_EQ(outside(2).values, (std::vector<std::string>{"first", "second"}))
      << "a reader of what is committed would wait behind the open transaction";
}

}  // namespace
}  // namespace troupe::kafka::test
