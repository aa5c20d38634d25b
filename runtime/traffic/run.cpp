#include "runtime/traffic/run.hpp"

#include <algorithm>

namespace troupe::traffic {
namespace {

constexpr std::size_t most_codes = 100;       // a server may make up as many as it likes
constexpr std::size_t most_intervals = 4096;  // each is some 60 KB

std::int64_t us(double seconds) {
  return static_cast<std::int64_t>(seconds * 1e6);
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out(text.substr(0, 300));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return out;
}

pacer::pacer(const plan& p)
    : length_(p.seconds > 0 ? us(p.seconds) : INT64_MAX), requests_(p.requests > 0 ? p.requests : INT64_MAX) {
  if (p.rate > 0) schedule_.emplace(p.rate);
}

std::int64_t pacer::allowed(std::int64_t now, std::int64_t next, bool stopping) {
  if (final_) return *final_;
  const bool over = stopping || now >= length_;
  std::int64_t most = requests_;
  if (schedule_)
    most = std::min(requests_, schedule_->due(std::min(now, length_ - 1)));
  else if (over)
    most = next;
  ended_ = over || next >= requests_;
  if (over) final_ = most;
  return most;
}

std::int64_t pacer::due(std::int64_t n, std::int64_t now) const {
  return schedule_ ? schedule_->due_us(n) : now;
}

std::int64_t pacer::pause(std::int64_t next, std::int64_t now, std::int64_t most) const {
  if (ended_) return most;
  if (schedule_) most = std::min(most, schedule_->due_us(next) - now);
  return std::clamp<std::int64_t>(length_ - now, 0, std::max<std::int64_t>(most, 0));
}

tally::tally(const plan& p)
    : warmup_(us(p.warmup)),
      target_(static_cast<std::int64_t>(p.target_ms * 1000)),
      interval_(us(p.interval)) {}

void tally::sent(std::int64_t due) {
  if (out() == 0) gap_from_ = std::max(last_answer_, due);
  ++all_sent_;
  if (counts(due)) ++report_.sent;
}

void tally::answered(std::int64_t now) {
  ++all_answered_;
  if (gap_from_ >= warmup_) longest_gap_ = std::max(longest_gap_, now - gap_from_);
  gap_from_ = last_answer_ = now;
}

void tally::predicted(std::int64_t due, std::int64_t now) {
  answered(now);
  if (!counts(due)) return;
  ++report_.predicted;
  latency_.add(now - due);
  if (target_ > 0 && now - due <= target_) ++report_.in_time;
  if (interval_ <= 0) return;
  const auto at = std::min(most_intervals - 1, static_cast<std::size_t>((due - warmup_) / interval_));
  if (at >= intervals_.size()) intervals_.resize(at + 1);
  intervals_[at].add(now - due);
}

void tally::failed(std::int64_t due, std::int64_t now, std::string_view code, std::string_view message) {
  answered(now);
  if (!counts(due)) return;
  ++report_.errors;
  auto& codes = report_.error_codes;
  auto it = codes.find(std::string(code));
  if (it == codes.end()) {
    it = codes.emplace(codes.size() < most_codes ? printable(code) : "other", 0).first;
    if (!message.empty()) report_.error_examples.emplace(it->first, printable(message));
  }
  ++it->second;
}

void tally::lost(std::int64_t due) {
  ++all_lost_;
  if (counts(due)) ++report_.lost;
}

report tally::finish(bool stopped) const {
  report r = report_;
  r.stopped = stopped;
  r.duration_s = static_cast<double>(std::max<std::int64_t>(last_answer_ - warmup_, 0)) / 1e6;
  r.requests_per_second = r.duration_s > 0 ? static_cast<double>(r.predicted) / r.duration_s : 0;
  r.p50_ms = latency_.quantile_ms(0.5);
  r.p90_ms = latency_.quantile_ms(0.9);
  r.p95_ms = latency_.quantile_ms(0.95);
  r.p99_ms = latency_.quantile_ms(0.99);
  r.p999_ms = latency_.quantile_ms(0.999);
  r.max_ms = latency_.max_ms();
  r.longest_gap_ms = static_cast<double>(longest_gap_) / 1000;
  for (std::size_t i = 0; i < intervals_.size(); ++i) {
    const auto& h = intervals_[i];
    r.intervals.push_back({static_cast<double>(i) * static_cast<double>(interval_) / 1e6,
                           static_cast<std::int64_t>(h.count()), h.quantile_ms(0.5), h.quantile_ms(0.99),
                           h.max_ms()});
  }
  return r;
}

}  // namespace troupe::traffic
