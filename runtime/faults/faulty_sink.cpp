#include "runtime/faults/faulty_sink.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include "messages/messages.hpp"
#include "runtime/faults/fault_points.hpp"

namespace troupe::faults {
namespace {

constexpr int timed_out = -185;  // what librdkafka calls a message that nobody acknowledged

class faulty_sink final : public kafka::record_sink {
 public:
  faulty_sink(std::shared_ptr<kafka::record_sink> inner, fault_points& points)
      : inner_(std::move(inner)), points_(points) {}

  ~faulty_sink() override {
    for (const auto& r : again_) set_of(r).release();
  }

  kafka::produced produce(const kafka::outgoing& record) override { return inner_->produce(record); }
  std::size_t produce_many(std::span<const kafka::outgoing> records, kafka::produced& stopped) override {
    return inner_->produce_many(records, stopped);
  }

  std::size_t reports(std::vector<kafka::delivery_report>& out, std::size_t max) override {
    std::size_t n = 0;
    while (n < max && !again_.empty()) {
      out.push_back(again_.back());
      again_.pop_back();
      ++n;
    }
    for (std::size_t i = 0; n < max && i < withheld_.size();) {
      if (points_.active(withheld_[i].first)) {
        ++i;
        continue;
      }
      out.push_back(withheld_[i].second);
      withheld_[i] = withheld_.back();
      withheld_.pop_back();
      lost_.fetch_sub(1, std::memory_order_relaxed);
      ++n;
    }
    while (n < max) {
      const std::size_t from = out.size();
      const std::size_t asked = max - n;
      const std::size_t got = inner_->reports(out, asked);
      n += strike(out, from);
      if (got < asked) break;
    }
    return n;
  }

  void on_reports(std::function<void()> wake) override { inner_->on_reports(std::move(wake)); }
  void hurry() override { inner_->hurry(); }
  std::size_t in_flight() const override {
    return inner_->in_flight() + lost_.load(std::memory_order_relaxed);
  }
  kafka::link_status status() const override { return inner_->status(); }
  std::string failure() const override { return inner_->failure(); }
  std::string error_text(int code) const override { return inner_->error_text(code); }
  void close() override { inner_->close(); }

 private:
  static answer_set& set_of(const kafka::delivery_report& r) { return *static_cast<answer*>(r.opaque)->set; }

  /// Returns how many of the reports from `from` on are left.
  std::size_t strike(std::vector<kafka::delivery_report>& out, std::size_t from) {
    std::size_t to = from;
    for (std::size_t i = from; i < out.size(); ++i) {
      auto& r = out[i];
      const faults::strike s = r.ok ? points_.at(point::produce) : faults::strike();
      if (s.what == kind::report_drop) {
        r.ok = false;
        r.code = timed_out;
        withheld_.emplace_back(s.id, r);
        lost_.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      if (s.what == kind::report_duplicate) {
        set_of(r).retain();
        again_.push_back(r);
      }
      out[to++] = r;
    }
    out.resize(to);
    return to - from;
  }

  std::shared_ptr<kafka::record_sink> inner_;
  fault_points& points_;
  std::vector<std::pair<std::uint64_t, kafka::delivery_report>> withheld_;  // by the fault that took them
  std::vector<kafka::delivery_report> again_;  // each holds its answers once more
  std::atomic<std::size_t> lost_{0};
};

}  // namespace

std::shared_ptr<kafka::record_sink> make_faulty_sink(std::shared_ptr<kafka::record_sink> inner,
                                                     fault_points& points) {
  return std::make_shared<faulty_sink>(std::move(inner), points);
}

}  // namespace troupe::faults
