#include "runtime/faults/fault_points.hpp"

#include <algorithm>
#include <chrono>

namespace troupe::faults {
namespace {
constexpr std::size_t remembered = 100;
}

std::uint64_t fault_points::start(const fault& f, nanos now) {
  const std::lock_guard lock(mutex_);
  report r;
  r.id = ++last_id_;
  r.what = f;
  r.began = now;
  r.until = now + f.duration;
  now_.push_back(std::move(r));
  arm();
  return last_id_;
}

/// What the points look at first.
void fault_points::arm() {
  std::uint32_t points = 0;
  std::int64_t shift = 0;
  for (const auto& r : now_) {
    points |= bit(info(r.what.what).at);
    if (r.what.what == kind::clock_jump) shift += r.what.shift / 1'000'000;
  }
  armed_.store(points, std::memory_order_relaxed);
  shift_ms_.store(shift, std::memory_order_relaxed);
}

report fault_points::retire(std::size_t at, nanos when, const std::string& why) {
  report r = std::move(now_[at]);
  now_.erase(now_.begin() + static_cast<std::ptrdiff_t>(at));
  r.until = when;
  r.ended = why;
  past_.push_front(r);
  if (past_.size() > remembered) past_.pop_back();
  arm();
  ended_.notify_all();
  return r;
}

std::optional<report> fault_points::end(std::uint64_t id, nanos now, const std::string& why) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < now_.size(); ++i)
    if (now_[i].id == id) return retire(i, now, why);
  return std::nullopt;
}

std::vector<report> fault_points::sweep(nanos now) {
  std::vector<report> over;
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < now_.size();)
    if (now_[i].until <= now)
      over.push_back(retire(i, now, "over"));
    else
      ++i;
  return over;
}

std::optional<nanos> fault_points::next_end() const {
  const std::lock_guard lock(mutex_);
  std::optional<nanos> first;
  for (const auto& r : now_) first = std::min(first.value_or(r.until), r.until);
  return first;
}

std::vector<report> fault_points::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<report> all = now_;
  all.insert(all.end(), past_.begin(), past_.end());
  return all;
}

bool fault_points::active(std::uint64_t id) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(now_.begin(), now_.end(), [id](const report& r) { return r.id == id; });
}

std::uint64_t fault_points::active(kind what) const {
  const std::lock_guard lock(mutex_);
  for (const auto& r : now_)
    if (r.what.what == what) return r.id;
  return 0;
}

totals fault_points::totals_of(kind what) const {
  const std::lock_guard lock(mutex_);
  totals t;
  t.strikes = strikes_[static_cast<std::size_t>(what)];
  for (const auto& r : now_) t.active += r.what.what == what;
  return t;
}

strike fault_points::draw(point p, std::string_view model, std::string_view version) {
  const std::lock_guard lock(mutex_);
  for (auto& r : now_) {
    const auto& f = r.what;
    if (info(f.what).at != p || (!f.model.empty() && f.model != model) ||
        (!f.version.empty() && f.version != version))
      continue;
    if (f.probability < 1 && std::uniform_real_distribution<>(0, 1)(random_) >= f.probability) continue;
    ++r.strikes;
    ++strikes_[static_cast<std::size_t>(f.what)];
    return {r.id, f.what, f.delay};
  }
  return {};
}

void fault_points::struck(std::uint64_t id, std::uint64_t times) {
  const std::lock_guard lock(mutex_);
  for (auto& r : now_) {
    if (r.id != id) continue;
    r.strikes += times;
    strikes_[static_cast<std::size_t>(r.what.what)] += times;
  }
}

void fault_points::struck(kind what, std::uint64_t times) {
  if (const std::uint64_t id = active(what)) struck(id, times);
}

void fault_points::hold(std::uint64_t id, nanos at_most) {
  std::unique_lock lock(mutex_);
  const auto gone = [&] {
    return std::none_of(now_.begin(), now_.end(), [id](const report& r) { return r.id == id; });
  };
  if (at_most < 0)
    ended_.wait(lock, gone);
  else
    ended_.wait_for(lock, std::chrono::nanoseconds(at_most), gone);
}

}  // namespace troupe::faults
