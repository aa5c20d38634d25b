#pragma once
// What these tests share: a member of a consumer group that keeps its queues, and a writer that waits for
// reports.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/kafka/librdkafka_sink.hpp"
#include "runtime/kafka/librdkafka_source.hpp"

namespace troupe::kafka::test {

[[nodiscard]] inline nanos now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
constexpr nanos second = 1'000'000'000;

/// Looks until it holds; false after `limit`.
template <class F>
[[nodiscard]] bool eventually(F condition, nanos limit = 30 * second) {
  const nanos end = now() + limit;
  while (!condition()) {
    if (now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

/// A record, copied out of its batch. No key or value: nullopt.
struct seen {
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  std::int64_t timestamp_ms = 0;
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
};

[[nodiscard]] inline std::optional<std::string> text(std::string_view view) {
  return view.data() ? std::optional<std::string>(view) : std::nullopt;
}

[[nodiscard]] inline std::vector<seen> copy(const record_batch& batch) {
  std::vector<seen> out;
  for (const record& r : batch.records) {
    seen s{batch.partition, r.offset, r.timestamp_ms, text(r.key), text(r.value), {}};
    for (std::size_t i = r.headers_begin; i < r.headers_begin + r.headers_count; ++i)
      s.headers.emplace_back(std::string(batch.headers[i].name), text(batch.headers[i].value));
    out.push_back(std::move(s));
  }
  return out;
}

[[nodiscard]] inline batch_ptr poll(partition_queue& queue, std::size_t max_records = 1'000,
                                    std::size_t max_bytes = std::size_t{1} << 30) {
  auto batch = batch_ptr::make();
  batch->topic = queue.topic();
  batch->partition = queue.partition();
  batch->generation = queue.generation();
  batch->arrived_ms = 77;
  queue.poll(*batch, max_records, max_bytes);
  return batch;
}

/// Polls until there are at least `count` records.
[[nodiscard]] inline std::vector<seen> read(partition_queue& queue, std::size_t count,
                                            nanos limit = 30 * second) {
  std::vector<seen> all;
  static_cast<void>(eventually(
      [&] {
        auto more = copy(*poll(queue));
        all.insert(all.end(), more.begin(), more.end());
        return all.size() >= count;
      },
      limit));
  return all;
}

/// One member of a group. By default it lets go at once when its partitions are revoked.
class member final : public assignment_listener {
 public:
  using queue_ptr = std::shared_ptr<partition_queue>;

  explicit member(const source_options& options) : source_(make_librdkafka_source(options)) {}
  ~member() override { close(); }

  void start() { source_->start(*this); }
  void close(nanos limit = 10 * second) { source_->close(now() + limit); }
  [[nodiscard]] librdkafka_record_source& source() { return *source_; }

  /// Waits for partition `p`.
  [[nodiscard]] queue_ptr queue(std::int32_t p) {
    queue_ptr found;
    EXPECT_TRUE(eventually([&] { return (found = current(p)) != nullptr; }))
        << "partition " << p << " was not assigned";
    return found;
  }
  [[nodiscard]] queue_ptr current(std::int32_t p) {
    const std::lock_guard lock(mutex_);
    const auto it = queues_.find(p);
    return it == queues_.end() ? nullptr : it->second;
  }
  [[nodiscard]] std::vector<queue_ptr> queues() {
    const std::lock_guard lock(mutex_);
    std::vector<queue_ptr> out;
    for (const auto& [p, q] : queues_) out.push_back(q);
    return out;
  }
  [[nodiscard]] bool has(std::size_t partitions) {
    return eventually([&] { return queues().size() == partitions; });
  }

  std::function<void(const std::vector<queue_ptr>&)> on_assigned;  ///< set before start()
  std::function<void(const std::vector<queue_ptr>&, bool lost, nanos deadline)> on_revoked;
  std::atomic<int> revocations{0};
  std::atomic<int> losses{0};

  void assigned(std::vector<queue_ptr> queues) override {
    {
      const std::lock_guard lock(mutex_);
      for (auto& q : queues) queues_[q->partition()] = q;
    }
    if (on_assigned) on_assigned(queues);
  }
  void revoked(const std::vector<queue_ptr>& queues, bool lost, nanos deadline) override {
    {
      const std::lock_guard lock(mutex_);
      for (const auto& q : queues) queues_.erase(q->partition());
    }
    if (on_revoked) on_revoked(queues, lost, deadline);
    ++revocations;
    if (lost) ++losses;
  }

 private:
  std::mutex mutex_;
  std::map<std::int32_t, queue_ptr> queues_;
  std::unique_ptr<librdkafka_record_source> source_;
};

[[nodiscard]] inline std::vector<delivery_report> wait_for_reports(record_sink& sink, std::size_t count,
                                                                   nanos limit = 30 * second) {
  std::vector<delivery_report> all;
  static_cast<void>(eventually([&] { return sink.reports(all, 1'000), all.size() >= count; }, limit));
  return all;
}

/// Writes to one topic and waits until the broker has it.
class writer {
 public:
  writer(const std::string& brokers, const std::string& topic) {
    sink_options o;
    o.brokers = brokers;
    o.results_topic = topic;
    o.dead_letter_topic = topic;
    o.queue_bytes = std::size_t{256} << 20;
    sink_ = make_librdkafka_sink(o);
  }

  void write(const std::vector<outgoing>& records) {
    for (const auto& r : records) ASSERT_EQ(sink_->produce(r), produced::ok);
    for (const auto& report : wait_for_reports(*sink_, records.size())) ASSERT_TRUE(report.ok) << report.code;
    ASSERT_EQ(sink_->in_flight(), 0U);
  }
  /// Values "0", "1", ... without key, to one partition.
  void write_numbers(std::int32_t partition, int count, int first = 0) {
    std::vector<std::string> values;
    for (int i = 0; i < count; ++i) values.push_back(std::to_string(first + i));
    write_values(partition, values);
  }
  void write_values(std::int32_t partition, const std::vector<std::string>& values) {
    std::vector<outgoing> records;
    for (const auto& v : values) {
      outgoing r;
      r.value = v;
      r.source_partition = partition;
      records.push_back(r);
    }
    write(records);
  }
  [[nodiscard]] record_sink& sink() { return *sink_; }

 private:
  std::unique_ptr<record_sink> sink_;
};

/// Lines of librdkafka's log, for a failing test's output.
[[nodiscard]] inline log_function to_stderr(const char* who) {
  return [who](int, const std::string& facility, const std::string& line) {
    std::fprintf(stderr, "%s: %s: %s\n", who, facility.c_str(), line.c_str());
  };
}

}  // namespace troupe::kafka::test
