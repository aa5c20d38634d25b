#include "runtime/policy/sla_queue.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace troupe::policy {
namespace {

constexpr nanos least_overdue = 1 * second;

}  // namespace

sla_queue::sla_queue(std::vector<class_config> classes, double late_floor)
    : classes_(std::move(classes)),
      stats_(classes_.size()),
      credit_(classes_.size(), 0.0),
      floor_active_(classes_.size(), false),
      late_floor_(late_floor) {
  if (classes_.empty()) throw std::invalid_argument("classes: there must be at least one");
  if (!(late_floor >= 0 && late_floor <= 1))
    throw std::invalid_argument("late_floor: must be within 0 and 1");
  for (const auto& c : classes_) {
    if (c.target <= 0)
      throw std::invalid_argument("classes." + c.name + ".target: must be greater than zero");
    if (!(c.floor >= 0 && c.floor <= 1))
      throw std::invalid_argument("classes." + c.name + ".floor: must be within 0 and 1");
  }
}

std::size_t sla_queue::add_model() {
  models_.emplace_back();
  models_.back().lanes.resize(classes_.size());
  return models_.size() - 1;
}

void sla_queue::remove_model(std::size_t model, std::vector<sla_item>& left) {
  auto& m = models_.at(model);
  for (const auto& o : over_)
    if (o.model == model) left.push_back(o.ended.item);
  std::erase_if(over_, [model](const overdue_item& o) { return o.model == model; });
  for (std::size_t c = 0; c < m.lanes.size(); ++c) {
    auto& l = m.lanes[c];
    stats_[c].late -= l.late.size();
    for (auto* queue : {&l.on_time, &l.late}) {
      while (!queue->empty()) {
        left.push_back(queue->front());
        leave(m, c, queue->front());
        queue->pop();
      }
    }
  }
  m = {};
}

bool sla_queue::push(std::size_t model, std::size_t cls, const sla_item& item) {
  if (stats_[cls].depth >= classes_[cls].limit) {
    ++stats_[cls].refused;
    return false;
  }
  enqueue(model, cls, item);
  return true;
}

void sla_queue::requeue(std::size_t model, std::size_t cls, const sla_item& item) {
  enqueue(model, cls, item);
}

void sla_queue::enqueue(std::size_t model, std::size_t cls, const sla_item& item) {
  auto& m = models_.at(model);
  auto& l = m.lanes.at(cls);  // a removed model has none
  sla_item kept = item;
  kept.target = std::min(item.target, item.expiry);
  kept.weight = std::max<std::uint32_t>(1, item.weight);
  l.on_time.push(kept);
  l.on_time_rows += kept.weight;
  m.rows += kept.weight;
  stats_[cls].rows += kept.weight;
  ++stats_[cls].depth;
  ++size_;
}

/// Accounts for a row that goes away, whatever the reason.
void sla_queue::leave(model_lanes& m, std::size_t cls, const sla_item& item) {
  m.rows -= item.weight;
  stats_[cls].rows -= item.weight;
  --stats_[cls].depth;
  --size_;
}

void sla_queue::end(std::size_t model, std::size_t cls, const sla_item& item, bool expired) {
  ++(expired ? stats_[cls].expired : stats_[cls].shed);
  leave(models_[model], cls, item);
  over_.push_back({model, {item, expired, cls}});
}

void sla_queue::turn_late(std::size_t model, nanos now) {
  auto& m = models_[model];
  const nanos done = later(now, m.ahead);
  for (std::size_t c = 0; c < m.lanes.size(); ++c) {
    auto& l = m.lanes[c];
    while (!l.on_time.empty() && l.on_time.front().target < done) {
      const sla_item item = l.on_time.front();
      l.on_time.pop();
      l.on_time_rows -= item.weight;
      if (item.expiry <= now) {
        end(model, c, item, true);
      } else if (classes_[c].shed_late) {
        end(model, c, item, false);
      } else {
        l.late.push(item);
        l.first_expiry = std::min(l.first_expiry, item.expiry);
        ++stats_[c].late;
        ++stats_[c].turned_late;
      }
    }
  }
}

bool sla_queue::overdue(std::size_t cls, const lane& l, nanos now) const {
  return !l.late.empty() && now - l.late.front().target > std::max(classes_[cls].target, least_overdue);
}

void sla_queue::refresh_floors(nanos now) {
  late_active_ = false;
  for (std::size_t c = 0; c < classes_.size(); ++c) {
    bool old = false;
    for (const auto& m : models_) {
      if (m.lanes.empty()) continue;
      const auto& l = m.lanes[c];
      if (classes_[c].floor > 0 && !l.on_time.empty())
        old = old || now - l.on_time.front().arrival > classes_[c].target / 3;
      late_active_ = late_active_ || overdue(c, l, now);
    }
    floor_active_[c] = old;
    if (!old) credit_[c] = 0;
  }
  if (!late_active_) late_credit_ = 0;
}

std::optional<std::size_t> sla_queue::next_model(nanos now, const std::vector<bool>& runnable) {
  const std::size_t models = std::min(models_.size(), runnable.size());
  for (std::size_t i = 0; i < models; ++i)
    if (runnable[i]) turn_late(i, now);
  refresh_floors(now);

  // Rank 0: a floor that is due. Then on-time rows by class, then late rows by class, then the merely ended.
  const std::size_t nothing = 2 * classes_.size() + 1;
  std::size_t best_rank = nothing;
  nanos best_target = never;
  std::optional<std::size_t> best;
  const auto consider = [&](std::size_t model, std::size_t rank, nanos target) {
    if (best && (rank > best_rank || (rank == best_rank && target >= best_target))) return;
    best = model;
    best_rank = rank;
    best_target = target;
  };
  for (std::size_t i = 0; i < models; ++i) {
    const auto& m = models_[i];
    if (!runnable[i] || m.rows == 0) continue;
    bool has_on_time = false;
    for (std::size_t c = 0; c < m.lanes.size(); ++c) {
      const auto& l = m.lanes[c];
      if (!l.on_time.empty()) {
        const nanos target = l.on_time.front().target;
        if (!has_on_time) consider(i, 1 + c, target);
        has_on_time = true;
        const double enough = std::min(m.half_batch, static_cast<double>(l.on_time_rows));
        if (floor_active_[c] && credit_[c] >= enough) consider(i, 0, target);
      }
      if (late_active_ && late_credit_ >= m.half_batch && overdue(c, l, now))
        consider(i, 0, l.late.front().target);
    }
    if (has_on_time) continue;
    for (std::size_t c = 0; c < m.lanes.size(); ++c) {
      if (m.lanes[c].late.empty()) continue;
      consider(i, 1 + classes_.size() + c, m.lanes[c].late.front().target);
      break;
    }
  }
  if (!best)
    for (const auto& o : over_)
      if (o.model < models && runnable[o.model]) return o.model;
  return best;
}

std::optional<sla_queue::urgent> sla_queue::next_urgent(nanos now, const std::vector<bool>& runnable) {
  std::size_t waiting = classes_.size();  // classes, up to the least urgent one that has rows
  while (waiting > 0 && stats_[waiting - 1].rows == 0) --waiting;
  if (waiting < 2) return std::nullopt;
  const std::size_t urgent_classes = waiting - 1;
  const std::size_t models = std::min(models_.size(), runnable.size());
  std::optional<urgent> best;
  std::size_t best_class = urgent_classes;
  nanos best_target = never;
  for (std::size_t i = 0; i < models; ++i) {
    if (!runnable[i] || models_[i].rows == 0) continue;
    turn_late(i, now);
    for (std::size_t c = 0; c <= std::min(best_class, urgent_classes - 1); ++c) {
      const auto& l = models_[i].lanes[c];
      if (l.on_time.empty()) continue;
      const nanos target = l.on_time.front().target;
      if (c < best_class || target < best_target) {
        best = urgent{i, urgent_classes};
        best_class = c;
        best_target = target;
      }
      break;
    }
  }
  return best;
}

void sla_queue::take(std::size_t model, nanos now, const batch_sizer& sizer, const take_limits& limits,
                     std::vector<sla_item>& batch, std::vector<ended_item>& ended) {
  auto& m = models_.at(model);
  const std::size_t max_rows = std::max<std::size_t>(1, limits.max_rows);
  nanos budget = limits.max_batch_time;
  for (std::size_t c = 0; c < m.lanes.size(); ++c) {
    if (m.lanes[c].on_time.empty()) continue;
    budget =
        std::min(budget, static_cast<nanos>(batch_share_of_target * static_cast<double>(classes_[c].target)));
  }
  const std::size_t cap = sizer.max_rows(budget, max_rows);
  const nanos expected = sizer.estimate(std::min<std::size_t>(cap, static_cast<std::size_t>(m.rows)));
  m.ahead = expected + expected / 8;
  m.row_cost = static_cast<double>(sizer.estimate(cap)) / static_cast<double>(cap);
  m.half_batch = std::max(1.0, static_cast<double>(cap) / 2);
  turn_late(model, now);
  refresh_floors(now);

  std::uint64_t rows = 0;
  bool full = false;
  const auto fits = [&](const sla_item& item) {
    full = rows != 0 && rows + item.weight > cap;
    return !full;
  };
  const auto take_on_time = [&](std::size_t c, lane& l) {
    const sla_item& item = l.on_time.front();
    const std::uint32_t weight = item.weight;
    batch.push_back(item);
    rows += weight;
    l.on_time_rows -= weight;
    ++stats_[c].taken;
    leave(m, c, item);
    l.on_time.pop();
    return weight;
  };
  const auto take_late = [&](std::size_t c, lane& l) -> std::uint32_t {
    const sla_item item = l.late.front();
    l.late.pop();
    --stats_[c].late;
    if (item.expiry <= now) {
      end(model, c, item, true);
      return 0;
    }
    batch.push_back(item);
    rows += item.weight;
    ++stats_[c].taken;
    leave(m, c, item);
    return item.weight;
  };

  const bool urgent_only = limits.classes < m.lanes.size();
  for (std::size_t c = 0; c < m.lanes.size() && !urgent_only; ++c) {
    auto& l = m.lanes[c];
    if (!floor_active_[c]) continue;
    while (credit_[c] >= 1 && !l.on_time.empty() && fits(l.on_time.front())) credit_[c] -= take_on_time(c, l);
  }
  while (late_active_ && !urgent_only && late_credit_ >= 1 && !full) {
    std::size_t longest = m.lanes.size();
    for (std::size_t c = 0; c < m.lanes.size(); ++c) {
      if (!overdue(c, m.lanes[c], now)) continue;
      if (longest == m.lanes.size() || m.lanes[c].late.front().target < m.lanes[longest].late.front().target)
        longest = c;
    }
    if (longest == m.lanes.size() || !fits(m.lanes[longest].late.front())) break;
    late_credit_ -= take_late(longest, m.lanes[longest]);
  }
  // What a floor's class gets in the ordinary way counts too: up to one batch is held against its credit.
  const double debt = -static_cast<double>(cap);
  for (std::size_t c = 0; c < std::min(limits.classes, m.lanes.size()) && !full; ++c) {
    auto& l = m.lanes[c];
    const double before = static_cast<double>(rows);
    while (!l.on_time.empty() && fits(l.on_time.front())) take_on_time(c, l);
    if (floor_active_[c]) credit_[c] = std::max(credit_[c] + before - static_cast<double>(rows), debt);
  }
  const double before_late = static_cast<double>(rows);
  for (std::size_t c = 0; c < m.lanes.size() && !full && !urgent_only; ++c) {
    auto& l = m.lanes[c];
    while (!l.late.empty() && fits(l.late.front())) take_late(c, l);
  }
  if (late_active_) late_credit_ = std::max(late_credit_ + before_late - static_cast<double>(rows), debt);

  const auto granted = static_cast<double>(rows);
  const auto most = static_cast<double>(max_rows);
  for (std::size_t c = 0; c < classes_.size(); ++c)
    if (floor_active_[c]) credit_[c] = std::min(credit_[c] + classes_[c].floor * granted, most);
  if (late_active_) late_credit_ = std::min(late_credit_ + late_floor_ * granted, most);
  hand_over(ended);
}

void sla_queue::hand_over(std::vector<ended_item>& ended) {
  for (const auto& o : over_) ended.push_back(o.ended);
  over_.clear();
}

void sla_queue::end_overdue(nanos now, std::vector<ended_item>& ended) {
  for (std::size_t i = 0; i < models_.size(); ++i) {
    turn_late(i, now);
    for (std::size_t c = 0; c < models_[i].lanes.size(); ++c) {
      auto& l = models_[i].lanes[c];
      if (l.first_expiry > now) continue;
      l.first_expiry = never;
      l.late.remove_if([&](const sla_item& item) {
        if (item.expiry > now) {
          l.first_expiry = std::min(l.first_expiry, item.expiry);
          return false;
        }
        --stats_[c].late;
        end(i, c, item, true);
        return true;
      });
    }
  }
  hand_over(ended);
}

std::size_t sla_queue::depth(std::size_t model, std::size_t cls) const {
  const auto& m = models_.at(model);
  return m.lanes.empty() ? 0 : m.lanes[cls].on_time.size() + m.lanes[cls].late.size();
}

std::optional<nanos> sla_queue::oldest_arrival(std::size_t cls) const {
  std::optional<nanos> oldest;
  for (const auto& m : models_) {
    if (m.lanes.empty()) continue;
    for (const auto* queue : {&m.lanes[cls].on_time, &m.lanes[cls].late})
      if (!queue->empty() && (!oldest || queue->front().arrival < *oldest)) oldest = queue->front().arrival;
  }
  return oldest;
}

nanos sla_queue::estimate_wait(std::size_t cls, std::size_t slots) const {
  double work = 0;
  for (const auto& m : models_)
    for (std::size_t c = 0; c < m.lanes.size() && c <= cls; ++c)
      work += static_cast<double>(m.lanes[c].on_time_rows) * m.row_cost;
  return static_cast<nanos>(work / static_cast<double>(std::max<std::size_t>(1, slots)));
}

}  // namespace troupe::policy
