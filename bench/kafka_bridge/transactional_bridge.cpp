#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

#include "bench/kafka_bridge/bridge.hpp"

namespace troupe::bench {
namespace {

using clock = std::chrono::steady_clock;

constexpr int patience_ms = 60'000;

std::atomic<bool> stop{false};

void set(rd_kafka_conf_t* conf, const char* key, const std::string& value) {
  char error[256];
  if (rd_kafka_conf_set(conf, key, value.c_str(), error, sizeof error) != RD_KAFKA_CONF_OK) {
    std::fprintf(stderr, "bridge: %s\n", error);
    std::exit(2);
  }
}

/// What became of a step of a transaction.
enum class outcome { done, again, abort, fatal };

outcome settle(const char* step, rd_kafka_error_t* error) {
  if (!error) return outcome::done;
  const auto how = rd_kafka_error_is_fatal(error)             ? outcome::fatal
                   : rd_kafka_error_txn_requires_abort(error) ? outcome::abort
                   : rd_kafka_error_is_retriable(error)       ? outcome::again
                                                              : outcome::fatal;
  if (how != outcome::again) std::fprintf(stderr, "bridge: %s: %s\n", step, rd_kafka_error_string(error));
  rd_kafka_error_destroy(error);
  return how;
}

/// Repeats a step while it may succeed.
template <class Step>
outcome carry_out(const char* name, Step step) {
  outcome how = outcome::again;
  while (how == outcome::again) how = settle(name, step());
  return how;
}

class transactional_bridge {
 public:
  explicit transactional_bridge(const bridge_options& o) : options_(o), messages_(o.transaction_records) {
    char error[512];
    auto* pc = rd_kafka_conf_new();
    set(pc, "bootstrap.servers", o.brokers);
    set(pc, "transactional.id", o.group);
    set(pc, "linger.ms", std::to_string(o.linger_ms));
    set(pc, "socket.nagle.disable", "true");
    set(pc, "queue.buffering.max.messages", "1000000");
    // The broker answers the first request of a transaction with CONCURRENT_TRANSACTIONS while it still
    // writes the last one's markers; with the default of 100 ms that is what a transaction takes.
    set(pc, "retry.backoff.ms", "5");
    producer_ = rd_kafka_new(RD_KAFKA_PRODUCER, pc, error, sizeof error);
    auto* cc = rd_kafka_conf_new();
    set(cc, "bootstrap.servers", o.brokers);
    set(cc, "group.id", o.group);
    set(cc, "auto.offset.reset", "earliest");
    set(cc, "enable.auto.commit", "false");
    set(cc, "socket.nagle.disable", "true");
    set(cc, "fetch.queue.backoff.ms", "1");
    set(cc, "queued.min.messages", "100000");
    consumer_ = rd_kafka_new(RD_KAFKA_CONSUMER, cc, error, sizeof error);
    if (!producer_ || !consumer_) {
      std::fprintf(stderr, "bridge: %s\n", error);
      std::exit(2);
    }
    out_ = rd_kafka_topic_new(producer_, o.out.c_str(), nullptr);
    rd_kafka_poll_set_consumer(consumer_);
  }
  transactional_bridge(const transactional_bridge&) = delete;
  transactional_bridge& operator=(const transactional_bridge&) = delete;
  ~transactional_bridge() {
    rd_kafka_consumer_close(consumer_);
    rd_kafka_destroy(consumer_);
    rd_kafka_topic_destroy(out_);
    rd_kafka_destroy(producer_);
  }

  int run() {
    if (carry_out("init", [&] { return rd_kafka_init_transactions(producer_, patience_ms); }) !=
        outcome::done)
      return 1;
    auto* topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, options_.in.c_str(), -1);
    rd_kafka_subscribe(consumer_, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    auto* queue = rd_kafka_queue_get_consumer(consumer_);
    bool works = true;
    while (!stop && works) {
      const std::size_t n = collect(queue);
      if (n != 0) works = transact(n);
    }
    rd_kafka_queue_destroy(queue);
    return works ? 0 : 1;
  }

 private:
  /// Offsets of one partition in one transaction.
  struct range {
    std::int64_t first, next;
  };

  std::size_t collect(rd_kafka_queue_t* queue) {
    const auto take = [&](std::size_t from, int ms, std::size_t most) {
      const auto n = rd_kafka_consume_batch_queue(queue, ms, messages_.data() + from, most);
      return n > 0 ? static_cast<std::size_t>(n) : 0;
    };
    std::size_t n = take(0, 50, 1);
    if (n == 0) return 0;
    const auto due =
        options_.pace_ms < 0 ? next_ : clock::now() + std::chrono::milliseconds(options_.pace_ms);
    while (n < messages_.size() && !stop) {
      const std::size_t more = take(n, 0, messages_.size() - n);
      n += more;
      if (more != 0) continue;
      if (clock::now() >= due) break;
      n += take(n, 1, 1);
    }
    return n;
  }

  void produce(const rd_kafka_message_t& m) {
    rd_kafka_headers_t* headers = nullptr;
    const bool with_headers = rd_kafka_message_headers(&m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR;
    for (;;) {
      rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
      if (with_headers) {
        auto* copy = rd_kafka_headers_copy(headers);
        error =
            rd_kafka_producev(producer_, RD_KAFKA_V_RKT(out_), RD_KAFKA_V_PARTITION(m.partition),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_VALUE(m.payload, m.len),
                              RD_KAFKA_V_KEY(m.key, m.key_len), RD_KAFKA_V_HEADERS(copy), RD_KAFKA_V_END);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR) rd_kafka_headers_destroy(copy);
      } else if (rd_kafka_produce(out_, m.partition, RD_KAFKA_MSG_F_COPY, m.payload, m.len, m.key, m.key_len,
                                  nullptr) != 0) {
        error = rd_kafka_last_error();
      }
      if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return;
      if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        std::fprintf(stderr, "bridge: produce: %s\n", rd_kafka_err2str(error));
        refused_ = true;
        return;
      }
      rd_kafka_poll(producer_, 1);
    }
  }

  outcome send_offsets(const std::map<std::int32_t, range>& ranges) {
    auto* offsets = rd_kafka_topic_partition_list_new(static_cast<int>(ranges.size()));
    for (const auto& [partition, r] : ranges)
      rd_kafka_topic_partition_list_add(offsets, options_.in.c_str(), partition)->offset = r.next;
    auto* member = rd_kafka_consumer_group_metadata(consumer_);
    const auto how = carry_out("offsets", [&] {
      return rd_kafka_send_offsets_to_transaction(producer_, offsets, member, patience_ms);
    });
    rd_kafka_consumer_group_metadata_destroy(member);
    rd_kafka_topic_partition_list_destroy(offsets);
    return how;
  }

  /// Their next owner reads what is no longer ours: a partition that can't be sought is no error.
  void seek_back(const std::map<std::int32_t, range>& ranges) {
    auto* offsets = rd_kafka_topic_partition_list_new(static_cast<int>(ranges.size()));
    for (const auto& [partition, r] : ranges)
      rd_kafka_topic_partition_list_add(offsets, options_.in.c_str(), partition)->offset = r.first;
    if (auto* error = rd_kafka_seek_partitions(consumer_, offsets, 10'000)) rd_kafka_error_destroy(error);
    rd_kafka_topic_partition_list_destroy(offsets);
  }

  /// False when nothing more can be done.
  bool transact(std::size_t n) {
    auto how = settle("begin", rd_kafka_begin_transaction(producer_));
    std::map<std::int32_t, range> ranges;
    for (std::size_t i = 0; i < n; ++i) {
      auto* m = messages_[i];
      if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (how == outcome::done) produce(*m);
        const auto [at, fresh] = ranges.try_emplace(m->partition, range{m->offset, 0});
        at->second.next = m->offset + 1;
      }
      rd_kafka_message_destroy(m);
    }
    const auto began = clock::now();
    if (how == outcome::done && std::exchange(refused_, false)) how = outcome::abort;
    if (how == outcome::done && !ranges.empty()) how = send_offsets(ranges);
    if (how == outcome::done)
      how = carry_out("commit", [&] { return rd_kafka_commit_transaction(producer_, patience_ms); });
    ended(clock::now() - began);
    if (how == outcome::done) return true;
    if (how == outcome::fatal) return false;
    how = carry_out("abort", [&] { return rd_kafka_abort_transaction(producer_, patience_ms); });
    seek_back(ranges);
    return how == outcome::done;
  }

  /// The node's rule: the next is due as long after the end of the one before as they take, 100 ms at most.
  void ended(clock::duration took) {
    typical_ = typical_ == clock::duration::zero() ? took : typical_ + (took - typical_) / 8;
    next_ = clock::now() + std::min<clock::duration>(typical_, std::chrono::milliseconds(100));
  }

  const bridge_options& options_;
  clock::duration typical_ = clock::duration::zero();  ///< commit, smoothed
  clock::time_point next_;
  std::vector<rd_kafka_message_t*> messages_;
  bool refused_ = false;  ///< a record of this transaction
  rd_kafka_t* producer_ = nullptr;
  rd_kafka_t* consumer_ = nullptr;
  rd_kafka_topic_t* out_ = nullptr;
};

}  // namespace

int run_transactional_bridge(const bridge_options& o) {
  std::signal(SIGTERM, [](int) { stop = true; });
  std::signal(SIGINT, [](int) { stop = true; });
  return transactional_bridge(o).run();
}

}  // namespace troupe::bench
