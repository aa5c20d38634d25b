#include "actors/scheduler.hpp"

#include <deque>
#include <optional>
#include <unordered_map>
#include <utility>

#include "actors/answering.hpp"
#include "messages/own_thread.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/model/model.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/trace.hpp"
#include "runtime/policy/batch_sizer.hpp"

namespace troupe {
namespace {

constexpr nanos sweep = 200'000'000;
constexpr int kills_allowed = 2;  // a record that ends its shard alone this often is poison

struct idle_shard {
  std::uint64_t id;
  model_shard_actor handle;
};

struct model_lane {
  const model::loaded_model* model = nullptr;
  std::vector<idle_shard> idle;
  std::vector<idle_shard> express;  // one; none while it scores
  policy::batch_sizer sizer;
  breaker_position breaker = breaker_position::closed;
  std::uint32_t probes = 0;            // rows half_open still lets through
  std::deque<const record*> suspects;  // each with a count: were in a batch whose shard died, run alone
};

struct running {
  std::size_t lane;
  std::shared_ptr<const row_refs> rows;
  model_shard_actor shard;
  bool express = false;
  std::uint32_t probes = 0;  // of its rows, those that a half-open breaker let through
};

struct waiting_row {
  std::size_t lane;
  std::size_t cls;
  policy::sla_item item;
};

struct scheduler_state {
  static inline const char* name = "scheduler";

  scheduler_args args;
  wiring to;
  std::optional<policy::sla_queue> queue;
  std::vector<model_lane> lanes;
  std::unordered_map<const model::loaded_model*, std::size_t> lane_by_model;
  std::vector<std::size_t> free_lanes;  // of models that are gone
  const model::loaded_model* last_model = nullptr;
  std::size_t last_lane = 0;
  std::unordered_map<std::uint64_t, running> grants;
  std::unordered_map<const record*, int> kills;
  std::deque<waiting_row> waiting;  // their class was full: bounded by the doors' credit
  std::uint64_t next_grant = 1;
  std::size_t express_running = 0;
  std::vector<bool> runnable;
  std::vector<std::uint64_t> waiting_rows;  // by class
  std::vector<policy::sla_item> batch;
  std::vector<policy::sla_queue::ended_item> ended;
  codec::result_writer writer;

  ~scheduler_state() {
    std::vector<policy::sla_item> left;
    if (queue)
      for (std::size_t m = 0; m < lanes.size(); ++m) queue->remove_model(m, left);
    for (auto& item : left) release(record_of(item));
    for (auto& w : waiting) release(record_of(w.item));
    for (auto& lane : lanes)
      for (auto* r : lane.suspects) release(r);
  }

  /// The wait of a request that is traced is over.
  void tell_wait(const record& r, std::string_view error = {}) const {
    const nanos now = r.trace->now();
    r.trace->child("queue", r.trace->waits_since(), now,
                   {{"troupe.class", r.cls < args.classes.size() ? args.classes[r.cls].name : ""}}, error);
    r.trace->waits(now);
  }

  static const record* record_of(const policy::sla_item& item) {
    return static_cast<const record*>(item.handle);
  }
  static void release(const record* r) { r->batch->release(); }

  std::size_t lane_of(const model::loaded_model* m) {
    if (m == last_model) return last_lane;
    auto [it, fresh] = lane_by_model.try_emplace(m, lanes.size());
    if (fresh && !free_lanes.empty()) {
      it->second = free_lanes.back();
      free_lanes.pop_back();
    } else if (fresh) {
      lanes.emplace_back();
      queue->add_model();
    }
    if (fresh) lanes[it->second].model = m;
    last_model = m;
    last_lane = it->second;
    return last_lane;
  }

  /// None of its rows is left, so its lane can be another model's.
  void forget(const model::loaded_model* m) {
    const auto it = lane_by_model.find(m);
    if (it == lane_by_model.end()) return;
    lanes[it->second] = model_lane();
    free_lanes.push_back(it->second);
    lane_by_model.erase(it);
    last_model = nullptr;
  }

  void take(const submit& m) {
    for (const record* r : m.rows->take()) {
      const policy::sla_item item{const_cast<record*>(r), 0,         r->rows,
                                  r->batch->arrived,      r->target, r->expiry};
      const std::size_t lane = lane_of(r->model);
      if (r->trace) r->trace->waits(r->trace->now());
      if (!queue->push(lane, r->cls, item)) waiting.push_back({lane, r->cls, item});
    }
  }

  void admit_waiting() {
    while (!waiting.empty()) {
      auto& w = waiting.front();
      if (!queue->push(w.lane, w.cls, w.item)) return;
      waiting.pop_front();
    }
  }

  /// Rows whose callers have gone, or whose partition has another owner, need not be scored: they are marked.
  [[nodiscard]] static bool wanted(const record& r) { return !r.answered.load(std::memory_order_relaxed); }
};

using self_ptr = scheduler_actor::stateful_pointer<scheduler_state>;

/// Answers rows that ended in the queue.
void answer_ended(self_ptr self) {
  auto& s = self->state;
  if (s.ended.empty()) return;
  row_refs rows;
  answering out(s.writer);
  for (const auto& e : s.ended) {
    const record* r = scheduler_state::record_of(e.item);
    rows.adopt(r);
    if (r->trace) s.tell_wait(*r, e.expired ? "deadline_exceeded" : "shed");
    if (e.expired) {
      out.failed(*r, error_code::deadline_exceeded, "the request expired before it could be scored");
    } else {
      out.failed(*r, error_code::unavailable,
                 "the request could not be scored within its class's target and was shed");
      s.args.metrics->shed(e.cls, 1);
    }
  }
  s.ended.clear();
  out.hand_over(0, [&](answer_set_ptr set) { caf_line::send(self, s.to.producer, answers{std::move(set)}); });
}

void give(self_ptr self, std::size_t lane_index, std::shared_ptr<row_refs> rows, bool express = false) {
  auto& s = self->state;
  auto& lane = s.lanes[lane_index];
  auto& from = express ? lane.express : lane.idle;
  idle_shard shard = std::move(from.back());
  from.pop_back();
  s.express_running += express;
  const std::uint64_t id = s.next_grant++;
  std::shared_ptr<const row_refs> shared = std::move(rows);
  for (const record* r : *shared)
    if (r->trace) s.tell_wait(*r);
  std::uint32_t probes = 0;
  if (lane.breaker == breaker_position::half_open)
    probes = std::min(lane.probes, static_cast<std::uint32_t>(shared->size()));
  lane.probes -= probes;
  s.grants.emplace(id, running{lane_index, shared, shard.handle, express, probes});
  caf_line::send(self, shard.handle, grant{id, std::move(shared)});
}

/// What waits, for those who decide whether to let more in.
void forecast(self_ptr self) {
  auto& s = self->state;
  if (!s.args.admission) return;
  s.waiting_rows.clear();
  for (std::size_t c = 0; c < s.args.classes.size(); ++c) s.waiting_rows.push_back(s.queue->stats(c).rows);
  s.args.admission->publish(s.waiting_rows);
}

/// The rows of s.batch whose callers are still there.
std::shared_ptr<row_refs> batch_rows(scheduler_state& s) {
  auto rows = std::make_shared<row_refs>();
  rows->reserve(s.batch.size());
  for (const auto& item : s.batch) {
    const record* r = scheduler_state::record_of(item);
    if (scheduler_state::wanted(*r))
      rows->adopt(r);
    else
      scheduler_state::release(r);
  }
  return rows;
}

/// Urgent rows while less urgent ones wait: they do not wait for a slot, nor for the workers that score bulk.
void dispatch_express(self_ptr self, nanos now) {
  auto& s = self->state;
  while (s.express_running < s.args.slots) {
    s.runnable.assign(s.lanes.size(), false);
    for (std::size_t i = 0; i < s.lanes.size(); ++i)
      s.runnable[i] = !s.lanes[i].express.empty() && s.lanes[i].breaker == breaker_position::closed;
    const auto next = s.queue->next_urgent(now, s.runnable);
    if (!next) return;
    s.batch.clear();
    const policy::take_limits limits{s.args.max_batch, s.args.max_batch_time, next->classes};
    s.queue->take(next->model, now, s.lanes[next->model].sizer, limits, s.batch, s.ended);
    if (auto rows = batch_rows(s); !rows->empty()) {
      give(self, next->model, std::move(rows), true);
      s.args.metrics->express_batch();
    }
    answer_ended(self);
    s.admit_waiting();
  }
}

void dispatch(self_ptr self) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  dispatch_express(self, now);
  while (s.grants.size() - s.express_running < s.args.slots) {
    bool gave = false;
    s.runnable.assign(s.lanes.size(), false);
    for (std::size_t i = 0; i < s.lanes.size(); ++i) {
      auto& lane = s.lanes[i];
      const bool may =
          !lane.idle.empty() && (lane.breaker == breaker_position::closed ||
                                 (lane.breaker == breaker_position::half_open && lane.probes > 0));
      while (!lane.suspects.empty() && !scheduler_state::wanted(*lane.suspects.front())) {
        s.kills.erase(lane.suspects.front());
        scheduler_state::release(lane.suspects.front());
        lane.suspects.pop_front();
      }
      if (may && !lane.suspects.empty()) {
        auto rows = std::make_shared<row_refs>();
        rows->adopt(lane.suspects.front());
        lane.suspects.pop_front();
        give(self, i, std::move(rows));
        gave = true;
        break;
      }
      s.runnable[i] = may;
    }
    if (gave) continue;
    const auto next = s.queue->next_model(now, s.runnable);
    if (!next) break;
    auto& lane = s.lanes[*next];
    s.batch.clear();
    policy::take_limits limits{s.args.max_batch, s.args.max_batch_time};
    if (lane.breaker == breaker_position::half_open)
      limits.max_rows = std::min<std::size_t>(limits.max_rows, lane.probes);
    s.queue->take(*next, now, lane.sizer, limits, s.batch, s.ended);
    if (!s.batch.empty()) {
      auto rows = batch_rows(s);
      if (!rows->empty()) give(self, *next, std::move(rows));
    } else if (s.ended.empty()) {
      break;
    }
    answer_ended(self);
    s.admit_waiting();
  }
  forecast(self);
}

/// The shard of this grant died: its rows run again alone, so that the one that killed it shows itself.
void shard_died(self_ptr self, const caf_line::address& shard, const std::string& why) {
  auto& s = self->state;
  for (auto& lane : s.lanes)
    for (auto* idle : {&lane.idle, &lane.express})
      std::erase_if(*idle, [&](const idle_shard& i) { return i.handle->address() == shard; });
  for (auto it = s.grants.begin(); it != s.grants.end();) {
    if (it->second.shard->address() != shard) {
      ++it;
      continue;
    }
    auto& lane = s.lanes[it->second.lane];
    const auto& rows = *it->second.rows;
    answering poison(s.writer);
    for (const record* r : rows) {
      if (r->answered.load(std::memory_order_relaxed)) continue;
      const bool alone = rows.size() == 1;
      if (alone && ++s.kills[r] >= kills_allowed) {
        s.kills.erase(r);
        poison.poison(*r, "scoring this record ended its model shard repeatedly: " + why);
        continue;
      }
      r->batch->retain();
      lane.suspects.push_back(r);
    }
    // Before the grant, whose rows it names, is gone.
    poison.hand_over(
        0, [&](answer_set_ptr set) { caf_line::send(self, s.to.producer, answers{std::move(set)}); });
    // The breaker hears of no outcome: its probe is still to be made.
    if (lane.breaker == breaker_position::half_open) lane.probes += it->second.probes;
    s.express_running -= it->second.express;
    it = s.grants.erase(it);
  }
  dispatch(self);
}

void publish(self_ptr self) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  for (std::size_t c = 0; c < s.args.classes.size(); ++c) {
    const auto oldest = s.queue->oldest_arrival(c);
    s.args.metrics->queue(c, s.queue->depth(c), oldest ? static_cast<double>(now - *oldest) * 1e-9 : 0.0);
  }
  s.args.metrics->slots(s.grants.size() - s.express_running, s.args.slots);
}

scheduler_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<scheduler_args>& args,
                                        const wiring& neighbours) {
  caf_line::die_of_exceptions(self);
  auto& st = self->state;
  st.args = *args;
  st.to = neighbours;
  st.queue.emplace(args->classes, args->late_floor);
  caf_line::on_down(self, [self](const caf_line::address& who, bool, const std::string& why) {
    shard_died(self, who, why);
  });
  caf_line::send_later(self, sweep, tick{});
  return {
      [self](const submit& m) {
        self->state.take(m);
        dispatch(self);
      },
      [self](const shard_idle& m) {
        auto& s = self->state;
        caf_line::monitor(self, m.from);
        auto& lane = s.lanes[s.lane_of(m.model)];
        (m.express ? lane.express : lane.idle).push_back({m.shard, m.from});
        dispatch(self);
      },
      [self](const grant_done& m) {
        auto& s = self->state;
        const auto it = s.grants.find(m.id);
        if (it == s.grants.end()) return;  // granted by a predecessor
        auto& lane = s.lanes[it->second.lane];
        if (!m.failed) {
          lane.sizer.observe(m.rows, m.took);
          if (s.args.admission) s.args.admission->observe(m.rows, m.took);
        }
        if (!s.kills.empty())
          for (const record* r : *it->second.rows) s.kills.erase(r);
        (it->second.express ? lane.express : lane.idle).push_back({m.shard, it->second.shard});
        s.express_running -= it->second.express;
        s.grants.erase(it);
        dispatch(self);
      },
      [self](const breaker_changed& m) {
        auto& s = self->state;
        auto& lane = s.lanes[s.lane_of(m.model)];
        lane.breaker = m.position;
        lane.probes = m.probes;
        dispatch(self);
      },
      [self](const model_gone& m) { self->state.forget(m.model); },
      [self](tick) {
        auto& s = self->state;
        s.queue->end_overdue(caf_line::now(self), s.ended);  // of models that can't run just now, too
        answer_ended(self);
        s.admit_waiting();
        dispatch(self);
        publish(self);
        s.args.metrics->mailbox("scheduler", caf_line::mailbox_depth(self));
        caf_line::send_later(self, sweep, tick{});
      },
      [self](const wiring& w) { self->state.to = w; },
      [](const crash& c) { throw std::runtime_error(c.why); },
  };
}

}  // namespace

scheduler_actor spawn_scheduler(caf_line::system& system, scheduler_args args, const wiring& neighbours) {
  return caf_line::spawn_on_own_thread(system, behavior, std::make_shared<scheduler_args>(std::move(args)),
                                       neighbours);
}

}  // namespace troupe
