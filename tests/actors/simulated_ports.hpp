#pragma once
// Ports without a broker: a partition that is filled by hand, a sink whose delivery reports come when told.

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/kafka/record_sink.hpp"
#include "runtime/kafka/record_source.hpp"

namespace troupe::test {

class simulated_queue final : public kafka::partition_queue {
 public:
  explicit simulated_queue(std::int32_t partition = 0) : partition_(partition) {}

  using header_texts = std::vector<std::pair<std::string, std::string>>;
  void add(std::string value, std::string key = {}, header_texts headers = {}) {
    log_.push_back({std::move(value), std::move(key), std::move(headers)});
    if (wake_) wake_();
  }

  const std::shared_ptr<const std::string>& topic() const override { return topic_; }
  std::int32_t partition() const override { return partition_; }
  std::uint32_t generation() const override { return generation_; }

  std::size_t poll(record_batch& batch, std::size_t max_records, std::size_t max_bytes) override {
    std::size_t n = 0;
    std::size_t bytes = 0;
    while (next_ < log_.size() && n < max_records && bytes < max_bytes) {
      record r;
      r.offset = static_cast<std::int64_t>(next_) * stride;
      r.timestamp_ms = batch.arrived_ms - older_ms;
      r.value = log_[next_].value;
      if (!log_[next_].key.empty()) r.key = log_[next_].key;
      r.headers_begin = static_cast<std::uint32_t>(batch.headers.size());
      r.headers_count = static_cast<std::uint32_t>(log_[next_].headers.size());
      for (const auto& [name, text] : log_[next_].headers) batch.headers.push_back({name, text});
      bytes += r.value.size();
      batch.records.push_back(std::move(r));
      ++next_;
      ++n;
    }
    polled += n;
    return n;
  }

  void on_records(std::function<void()> wake) override { wake_ = std::move(wake); }
  bool store(std::int64_t next_offset) override {
    if (fenced) return false;
    stored = next_offset;
    return true;
  }
  void rewind() override {
    next_ = static_cast<std::size_t>((std::max<std::int64_t>(stored, 0) + stride - 1) / stride);
    ++rewinds;
  }
  std::int64_t lag() const override { return static_cast<std::int64_t>(log_.size() - next_); }

  static constexpr std::int64_t stride = 3;  // offsets have gaps
  std::int64_t older_ms = 0;                 // records were written so long before they are read
  std::int64_t stored = -1;
  std::size_t polled = 0;
  int rewinds = 0;
  bool fenced = false;

 private:
  struct entry {
    std::string value;
    std::string key;
    header_texts headers;
  };
  std::shared_ptr<const std::string> topic_ = std::make_shared<const std::string>("requests");
  std::int32_t partition_;
  std::uint32_t generation_ = 1;
  std::deque<entry> log_;  // addresses stay valid: records view into it
  std::size_t next_ = 0;
  std::function<void()> wake_;
};

class simulated_sink final : public kafka::record_sink {
 public:
  struct sent {
    kafka::destination to;
    std::string key;
    std::string value;
    std::map<std::string, std::string> headers;
    std::int64_t timestamp_ms;
    void* opaque;
  };

  kafka::produced produce(const kafka::outgoing& o) override {
    if (fail_next > 0) {
      --fail_next;
      return kafka::produced::failed;
    }
    if (waiting_.size() >= capacity) return kafka::produced::queue_full;
    if (o.value.size() > max_value) return kafka::produced::too_large;
    sent s{o.to, std::string(o.key), std::string(o.value), {}, o.timestamp_ms, o.opaque};
    for (const auto& h : o.headers) s.headers[std::string(h.name)] = h.value;
    for (const auto& h : o.more_headers) s.headers[std::string(h.name)] = h.value;
    waiting_.push_back(std::move(s));
    return kafka::produced::ok;
  }

  /// The broker has everything that was sent; reports are there.
  void deliver(std::size_t n = SIZE_MAX) {
    while (n-- && !waiting_.empty()) {
      kafka::delivery_report r;
      r.opaque = waiting_.front().opaque;
      r.to = waiting_.front().to;
      r.ok = refuse_next == 0;
      if (!r.ok) {
        --refuse_next;
        r.too_large = refuse_as_too_large;
        r.code = -1;
      } else {
        delivered.push_back(waiting_.front());
      }
      waiting_.pop_front();
      reports_.push_back(r);
    }
    if (wake_) wake_();
  }

  std::size_t reports(std::vector<kafka::delivery_report>& out, std::size_t max) override {
    const std::size_t n = std::min(max, reports_.size());
    out.insert(out.end(), reports_.begin(), reports_.begin() + static_cast<std::ptrdiff_t>(n));
    reports_.erase(reports_.begin(), reports_.begin() + static_cast<std::ptrdiff_t>(n));
    return n;
  }
  void on_reports(std::function<void()> wake) override { wake_ = std::move(wake); }
  void hurry() override { ++hurried; }
  std::size_t in_flight() const override { return waiting_.size(); }
  kafka::link_status status() const override { return {true, false, {}}; }
  std::string failure() const override { return "simulated failure"; }
  std::string error_text(int) const override { return "simulated"; }
  void close() override {}

  std::vector<sent> delivered;
  std::size_t capacity = 1'000'000;
  std::size_t max_value = SIZE_MAX;
  int refuse_next = 0;
  int fail_next = 0;  ///< calls of produce()
  bool refuse_as_too_large = false;
  int hurried = 0;
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

 private:
  std::deque<sent> waiting_;
  std::vector<kafka::delivery_report> reports_;
  std::function<void()> wake_;
};

}  // namespace troupe::test
