#include "runtime/kafka/librdkafka_transactions.hpp"

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/kafka/transaction_heir.hpp"
#include "runtime/kafka/transaction_refusal.hpp"

namespace troupe::kafka {
namespace {

constexpr int call_ms = 5'000;  // of one attempt; what can be tried again is
constexpr auto pause_after_refusal = std::chrono::milliseconds(1'000);
constexpr auto close_patience = std::chrono::milliseconds(2'000);

struct error_deleter {
  void operator()(rd_kafka_error_t* error) const { rd_kafka_error_destroy(error); }
};
using error_ptr = std::unique_ptr<rd_kafka_error_t, error_deleter>;

struct list_deleter {
  void operator()(rd_kafka_topic_partition_list_t* list) const {
    rd_kafka_topic_partition_list_destroy(list);
  }
};
using partition_list = std::unique_ptr<rd_kafka_topic_partition_list_t, list_deleter>;

struct metadata_deleter {
  void operator()(rd_kafka_consumer_group_metadata_t* m) const {
    rd_kafka_consumer_group_metadata_destroy(m);
  }
};
using metadata_ptr = std::unique_ptr<rd_kafka_consumer_group_metadata_t, metadata_deleter>;

/// The group is being shared out anew, or has done without us: nothing that waiting or sending again mends by
/// itself would help, but the next transaction is of the new generation.
[[nodiscard]] bool of_the_group(rd_kafka_resp_err_t code) {
  switch (code) {
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
    case RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH:
      return true;
    default:
      return false;
  }
}

[[nodiscard]] std::string member_of(rd_kafka_t* consumer) {
  char* id = rd_kafka_memberid(consumer);
  std::string out = id ? id : "";
  if (id) rd_kafka_mem_free(consumer, id);
  return out;
}

/// The consumer is a member now, as of this metadata. What has no member is accepted by brokers unchecked.
[[nodiscard]] bool of_a_member(const rd_kafka_consumer_group_metadata_t* group,
                               [[maybe_unused]] rd_kafka_t* consumer) {
  if (!group) return false;
#if RD_KAFKA_VERSION >= 0x020e00ff
  const char* member = rd_kafka_consumer_group_metadata_member_id(group);
  return member && *member && rd_kafka_consumer_group_metadata_generation_id(group) >= 0;
#else
  return !member_of(consumer).empty();
#endif
}

class librdkafka_transactions final : public transactional_sink {
 public:
  librdkafka_transactions(const sink_options& o, std::shared_ptr<consumer_group> group)
      : options_(o), group_(std::move(group)), inner_(make_librdkafka_sink(inner_options())) {
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "kafka-commit");
      run();
    });
  }

  ~librdkafka_transactions() override { close(); }

  // --- record_sink

  produced produce(const outgoing& r) override { return inner()->produce(r); }
  std::size_t produce_many(std::span<const outgoing> records, produced& stopped) override {
    return inner()->produce_many(records, stopped);
  }
  std::size_t reports(std::vector<delivery_report>& out, std::size_t max) override {
    const std::size_t before = out.size();
    const std::size_t n = inner()->reports(out, max);
    // What an abort took out of the queue was not refused by anybody.
    out.erase(std::remove_if(out.begin() + static_cast<std::ptrdiff_t>(before), out.end(),
                             [](const delivery_report& r) {
                               return r.ok || r.code == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
                                      r.code == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
                             }),
              out.end());
    return n;
  }
  void on_reports(std::function<void()> wake) override {
    {
      const std::lock_guard lock(wake_mutex_);
      wake_.swap(wake);
    }
    listen(*inner());
  }
  void hurry() override {}
  std::size_t in_flight() const override {
    const auto p = phase_.load();
    return p == transaction_phase::open || p == transaction_phase::ending ? 1 : 0;
  }
  link_status status() const override {
    auto s = inner()->status();
    s.let_in = phase_ != transaction_phase::preparing;
    if (s.let_in) return s;
    // A producer that was refused its transactions is broken by that, and the next one knows nothing yet.
    if (!s.up && (s.refused || (!s.fatal && !s.reason.empty()))) return s;
    const std::lock_guard lock(mutex_);
    return {false, false, why_not_ready_.empty() ? "waiting to begin transactions" : why_not_ready_};
  }
  std::string failure() const override {
    const std::string lost = why_lost();
    return lost.empty() ? inner()->failure() : lost;
  }
  std::string error_text(int code) const override {
    const std::string lost = why_lost();
    return lost.empty() ? inner()->error_text(code) : lost;
  }

  void close() override {
    if (!thread_.joinable()) return;
    on_reports({});
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
      close_by_ = std::chrono::steady_clock::now() + close_patience;
    }
    changed_.notify_all();
    // The thread may be in a call that waits until all reports were taken, and nobody else takes them now.
    std::vector<delivery_report> rest;
    while (!over_) {
      inner()->reports(rest, 10'000);
      rest.clear();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    thread_.join();
    inner()->close();
  }

  // --- transactional_sink

  transaction_phase phase() const override { return phase_; }

  void begin() override {
    // Touches the network for nothing; refused only by a producer that was fenced, which commit() finds.
    const error_ptr error(rd_kafka_begin_transaction(inner()->handle()));
    if (error) say(4, "begin: " + in_words(*error));
    phase_ = transaction_phase::open;
  }

  void commit(std::vector<cut> cuts) override { ask(wish::commit, std::move(cuts)); }
  void abort() override { ask(wish::abort, {}); }
  bool owns(std::int32_t partition, std::uint32_t generation) const override {
    return group_->owns(partition, generation);
  }

  std::optional<transaction_result> ended() override {
    const std::lock_guard lock(mutex_);
    return std::exchange(result_, std::nullopt);
  }

 private:
  enum class wish : std::uint8_t { nothing, commit, abort };

  [[nodiscard]] std::shared_ptr<librdkafka_producer> inner() const {
    const std::lock_guard lock(inner_mutex_);
    return inner_;
  }

  /// Its log says who has fenced it, and what to do: librdkafka's own lines do not.
  [[nodiscard]] sink_options inner_options() const {
    sink_options o = options_;
    if (o.log)
      o.log = [log = o.log, id = o.transactional_id](int level, const std::string& facility,
                                                     const std::string& text) {
        log(level, facility, tells_of_fencing(text) ? text + ": " + fenced_text(id) : text);
      };
    return o;
  }

  [[nodiscard]] std::string in_words(int code, const std::string& words) const {
    return is_fenced(code) ? fenced_text(options_.transactional_id) : words;
  }
  [[nodiscard]] std::string in_words(const rd_kafka_error_t& error) const {
    return in_words(rd_kafka_error_code(&error), rd_kafka_error_string(&error));
  }

  /// Why this producer is of no use any more; empty: it is.
  [[nodiscard]] std::string why_lost() const {
    const auto fatal = inner()->fatal();
    return fatal.code == RD_KAFKA_RESP_ERR_NO_ERROR ? std::string() : in_words(fatal.code, fatal.words);
  }

  void say(int level, const std::string& text) const {
    if (options_.log) options_.log(level, "TRANSACTION", text);
  }

  void wake() {
    const std::lock_guard lock(wake_mutex_);
    if (wake_) wake_();
  }

  void listen(librdkafka_producer& to) {
    to.on_reports([this] { wake(); });
  }

  void ask(wish what, std::vector<cut> cuts) {
    {
      const std::lock_guard lock(mutex_);
      phase_ = transaction_phase::ending;
      wish_ = what;
      cuts_ = std::move(cuts);
    }
    changed_.notify_all();
  }

  // --- the thread's own

  [[nodiscard]] bool closing() const {
    const std::lock_guard lock(mutex_);
    return closing_;
  }
  [[nodiscard]] bool out_of_patience() const {
    const std::lock_guard lock(mutex_);
    return closing_ && std::chrono::steady_clock::now() >= close_by_;
  }
  [[nodiscard]] int patience_ms() const {
    const std::lock_guard lock(mutex_);
    if (!closing_) return call_ms;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(close_by_ - std::chrono::steady_clock::now());
    return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, call_ms));
  }
  /// Between two attempts; ends early when the sink closes.
  void pause() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, pause_after_refusal, [this] { return closing_; });
  }

  void become(transaction_phase p, std::optional<transaction_result> result = std::nullopt) {
    {
      const std::lock_guard lock(mutex_);
      if (result) result_ = std::move(result);
      if (p == transaction_phase::ready) why_not_ready_.clear();
      phase_ = p;
    }
    wake();
  }

  void run() {
    bool usable = prepare();
    if (usable) become(transaction_phase::ready);
    while (usable) {
      wish what = wish::nothing;
      std::vector<cut> cuts;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closing_ || wish_ != wish::nothing; });
        what = std::exchange(wish_, wish::nothing);
        cuts = std::move(cuts_);
      }
      if (what == wish::nothing) break;  // closing
      auto result = what == wish::commit ? try_commit(cuts) : transaction_result{};
      bool fresh = false;
      if (!result.committed && !try_abort()) {
        // Fenced, or the broker has forgotten us: whoever comes after has ended the transaction, or does so
        // now.
        fresh = true;
        usable = prepare_anew();
      }
      if (fresh && what == wish::commit && unsure_) result = look_what_became_of(cuts);
      unsure_ = false;
      if (usable) become(transaction_phase::ready, std::move(result));
    }
    if (phase_ == transaction_phase::open) (void)try_abort();  // readers need not wait for its time-out
    over_ = true;
  }

  /// False: the sink closes.
  bool prepare() {
    auto* handle = inner()->handle();
    while (!closing()) {
      const error_ptr error(rd_kafka_init_transactions(handle, call_ms));
      if (!error) {
        const std::string why = only_acts(handle);
        if (why.empty()) return true;
        not_ready("can't begin transactions: " + why);
        if (options_.broken) options_.broken(false, why);
        wait_for_the_end();
        return false;
      }
      const auto code = rd_kafka_error_code(error.get());
      const bool again = rd_kafka_error_is_retriable(error.get());
      // Without a connection its reason is the better one.
      const std::string why =
          again && !inner()->status().up
              ? rd_kafka_error_string(error.get())
              : transaction_refusal(code, rd_kafka_error_string(error.get()), options_.transactional_id,
                                    options_.transactional_id, options_.transaction_timeout);
      not_ready("can't begin transactions: " + why);
      if (again) {
        say(4, "not ready yet: " + why);
        continue;
      }
      say(3, "transactions are refused: " + why);
      pause();
      if (rd_kafka_error_is_fatal(error.get())) {
        replace();
        handle = inner()->handle();
      }
    }
    return false;
  }

  void not_ready(std::string why) {
    const std::lock_guard lock(mutex_);
    why_not_ready_ = std::move(why);
  }

  void wait_for_the_end() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closing_; });
  }

  bool prepare_anew() {
    phase_ = transaction_phase::ending;
    replace();
    return prepare();
  }

  void replace() {
    auto fresh = std::shared_ptr<librdkafka_producer>(make_librdkafka_sink(inner_options()));
    listen(*fresh);
    {
      const std::lock_guard lock(inner_mutex_);
      inner_.swap(fresh);
    }
    fresh->close();
  }

  transaction_result try_commit(const std::vector<cut>& cuts) {
    transaction_result r;
    // First the metadata, then whether the partitions are ours. One that was taken away in between has left
    // our generation behind, and the group refuses that.
    const metadata_ptr group(rd_kafka_consumer_group_metadata(group_->consumer()));
    if (!of_a_member(group.get(), group_->consumer()))
      return {false, true, "the group is being joined again"};
    const std::string by = to_metadata({member_of(group_->consumer()), options_.transactional_id});
    const partition_list offsets(rd_kafka_topic_partition_list_new(static_cast<int>(cuts.size())));
    for (const cut& c : cuts) {
      if (!group_->owns(c.partition, c.generation)) return {false, true, "a partition was taken away"};
      auto* one = rd_kafka_topic_partition_list_add(offsets.get(), group_->topic().c_str(), c.partition);
      one->offset = c.next_offset;
      one->metadata = ::strdup(by.c_str());
      one->metadata_size = by.size();
    }
    auto* handle = inner()->handle();
    const auto attempt = [&](const char* what, const std::function<rd_kafka_error_t*()>& call) {
      for (;;) {
        const error_ptr error(call());
        if (!error) return true;
        const auto code = rd_kafka_error_code(error.get());
        r.why = std::string(what) + ": " + in_words(*error);
        r.passing = of_the_group(code);
        if (rd_kafka_error_is_retriable(error.get()) && !out_of_patience()) {
          say(4, r.why);
          continue;
        }
        return false;
      }
    };
    if (!attempt("offsets", [&] {
          return rd_kafka_send_offsets_to_transaction(handle, offsets.get(), group.get(), patience_ms());
        }))
      return r;
    unsure_ = true;  // from here on an error may come after the deed
    if (!attempt("commit", [&] { return rd_kafka_commit_transaction(handle, patience_ms()); })) return r;
    unsure_ = false;
    inner()->committed();
    for (const cut& c : cuts) group_->committed(c.partition, c.generation, c.next_offset);
    return {true, false, {}};
  }

  /// False: this producer is of no use any more.
  bool try_abort() {
    auto* handle = inner()->handle();
    for (;;) {
      if (const std::string lost = why_lost(); !lost.empty()) {
        say(4, "a new producer is needed: " + lost);
        not_ready(lost);
        return false;
      }
      const error_ptr error(rd_kafka_abort_transaction(handle, patience_ms()));
      if (!error) {
        unsure_ = false;
        return true;
      }
      if (rd_kafka_error_code(error.get()) == RD_KAFKA_RESP_ERR__STATE) return true;  // there is none
      say(4, "abort: " + in_words(*error));
      if (out_of_patience()) return true;
      if (!rd_kafka_error_is_retriable(error.get()) && !rd_kafka_error_is_fatal(error.get())) return false;
    }
  }

  /// The transaction has ended by now, one way or the other: its offsets are the group's, or not.
  transaction_result look_what_became_of(const std::vector<cut>& cuts) {
    for (;;) {
      const auto one = std::find_if(cuts.begin(), cuts.end(),
                                    [&](const cut& c) { return group_->owns(c.partition, c.generation); });
      // Nobody waits for an answer any more.
      if (one == cuts.end()) return {false, true, "the partitions were taken away"};
      const partition_list at(rd_kafka_topic_partition_list_new(1));
      rd_kafka_topic_partition_list_add(at.get(), group_->topic().c_str(), one->partition);
      const auto code = rd_kafka_committed(group_->consumer(), at.get(), patience_ms());
      if (code == RD_KAFKA_RESP_ERR_NO_ERROR && at->elems[0].err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (at->elems[0].offset < one->next_offset) {
          return {false, true, "it was aborted before its commit came through"};
        }
        for (const cut& c : cuts) group_->committed(c.partition, c.generation, c.next_offset);
        return {true, false, {}};
      }
      say(4, std::string("can't see whether a transaction was committed: ") + rd_kafka_err2str(code));
      if (closing()) return {false, false, "closing"};
      pause();
    }
  }

  sink_options options_;
  std::shared_ptr<consumer_group> group_;
  mutable std::mutex inner_mutex_;
  std::shared_ptr<librdkafka_producer> inner_;
  std::mutex wake_mutex_;
  std::function<void()> wake_;
  std::atomic<transaction_phase> phase_{transaction_phase::preparing};
  mutable std::mutex mutex_;  // guards the next seven
  std::condition_variable changed_;
  wish wish_ = wish::nothing;
  std::vector<cut> cuts_;
  std::optional<transaction_result> result_;
  std::string why_not_ready_;
  bool closing_ = false;
  std::chrono::steady_clock::time_point close_by_;
  bool unsure_ = false;  // the thread's own: the commit was sent and not answered
  std::atomic<bool> over_{false};
  std::thread thread_;
};

}  // namespace

std::unique_ptr<transactional_sink> make_librdkafka_transactions(const sink_options& options,
                                                                 std::shared_ptr<consumer_group> group) {
  return std::make_unique<librdkafka_transactions>(options, std::move(group));
}

}  // namespace troupe::kafka
