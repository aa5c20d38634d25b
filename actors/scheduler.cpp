#include "actors/scheduler.hpp"

#include <deque>
#include <optional>
#include <unordered_map>
#include <utility>

#include "actors/answering.hpp"
#include "actors/overload.hpp"
#include "messages/own_thread.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/trace.hpp"
#include "runtime/policy/absence.hpp"
#include "runtime/policy/batch_sizer.hpp"
#include "runtime/policy/bisection.hpp"

namespace troupe {
namespace {

constexpr nanos sweep = 200'000'000;

/// A batch that runs for longer gives its slot to another one: it hangs, or is as much in the way as if it
/// did.
constexpr nanos slot_at_most = 500'000'000;

constexpr std::uint32_t enough_to_open = 1'000'000;  // failures, wherever breaker.threshold lies

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
  nanos next_probe = 0;        // while it is open
  std::uint32_t probes = 0;    // rows half_open still lets through
  policy::bisection suspects;  // rows of batches whose shards died, each with a count
  bool tried = false;       // a suspect went last: what waits has its turn, and shows whether the model works
  std::uint32_t hung = 0;   // abandoned shards that have not come back
  nanos stalled_since = 0;  // 0: it can answer
};

struct running {
  std::size_t lane;
  std::shared_ptr<const row_refs> rows;
  model_shard_actor shard;
  bool express = false;
  std::uint32_t probes = 0;  // of its rows, those that a half-open breaker let through
  bool on_trial = false;     // its shard says so when it dies of them
  std::shared_ptr<engine_work> work;
  nanos away_before = 0;  // what scheduler_state::away came to when it was granted
  nanos since = 0;
  bool has_slot = true;
};

struct hung_shard {
  caf_line::address who;
  const model::loaded_model* model;
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
  std::vector<hung_shard> hung;
  std::deque<waiting_row> waiting;  // their class was full: bounded by the doors' credit
  std::uint64_t next_grant = 1;
  policy::absence away{sweep};
  std::size_t slots_taken = 0;
  std::size_t express_running = 0;  // beside the slots; no more than there are slots
  std::vector<bool> runnable;
  std::vector<std::uint64_t> waiting_rows;  // by class
  std::vector<policy::bisection::row> scored;
  std::vector<policy::sla_item> batch;
  std::vector<policy::sla_queue::ended_item> ended;
  std::vector<const record*> refused;  // to be answered, a count of each held
  codec::result_writer writer;
  overload too_many;

  ~scheduler_state() {
    std::vector<policy::sla_item> left;
    if (queue)
      for (std::size_t m = 0; m < lanes.size(); ++m) queue->remove_model(m, left);
    for (auto& item : left) release(record_of(item));
    for (auto& w : waiting) release(record_of(w.item));
    std::vector<policy::bisection::row> suspects;
    for (auto& lane : lanes) lane.suspects.take_all(suspects);
    for (const auto* r : suspects) release(static_cast<const record*>(r));
    for (const auto* r : refused) release(r);
  }

  [[nodiscard]] bool hangs(const model_lane& lane) const { return lane.hung >= args.max_hung; }

  /// Whether a batch may be given to the lane's shards, had it an idle one.
  [[nodiscard]] bool may_run(const model_lane& lane) const {
    return !hangs(lane) && (lane.breaker == breaker_position::closed ||
                            (lane.breaker == breaker_position::half_open && lane.probes > 0));
  }

  /// Since when the lane's model can't answer, for those who have requests for it.
  void judge(model_lane& lane, nanos now) const {
    const bool stalled = lane.model && (lane.breaker != breaker_position::closed || hangs(lane));
    if (!stalled && lane.stalled_since == 0) return;
    if (!stalled || lane.stalled_since == 0) lane.stalled_since = stalled ? now : 0;
    if (!args.stalls) return;
    if (stalled)
      args.stalls->set(lane.model, {lane.stalled_since, lane.next_probe, hangs(lane) ? lane.hung : 0});
    else
      args.stalls->clear(lane.model);
  }

  /// The wait of a request that is traced is over.
  void tell_wait(const record& r, std::string_view error = {}) const {
    const nanos now = r.trace->now();
    r.trace->child("queue", r.trace->waits_since(), now,
                   {{"troupe.class", r.cls < args.classes.size() ? args.classes[r.cls].name : ""}}, error);
    r.trace->waits(now);
  }

  void free_slot(running& g) {
    if (!std::exchange(g.has_slot, false)) return;
    --(g.express ? express_running : slots_taken);
  }

  /// Of a call of the lane's engine; 0: none. One that ends its calls itself is waited for.
  [[nodiscard]] nanos limit_of(const model_lane& lane) const {
    const nanos own = lane.model ? lane.model->engine().ends_after() : 0;
    if (args.time_limit == 0 || own == 0) return args.time_limit;
    return std::max(args.time_limit, own + policy::second);
  }

  static const record* record_of(const policy::sla_item& item) {
    return static_cast<const record*>(item.handle);
  }
  static policy::sla_item item_of(const record& r) {
    return {const_cast<record*>(&r), 0, r.rows, r.batch->arrived, r.target, r.expiry};
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
    if (fresh) {
      lanes[it->second].model = m;
      args.metrics->hung_calls(m, 0);  // a predecessor may have said more
    }
    last_model = m;
    last_lane = it->second;
    return last_lane;
  }

  /// None of its rows is left, so its lane can be another model's.
  void forget(const model::loaded_model* m) {
    const auto it = lane_by_model.find(m);
    if (args.stalls) args.stalls->clear(m);
    if (it == lane_by_model.end()) return;
    lanes[it->second] = model_lane();
    free_lanes.push_back(it->second);
    lane_by_model.erase(it);
    last_model = nullptr;
  }

  void take(const submit& m) {
    for (const record* r : m.rows->take()) {
      const policy::sla_item item = item_of(*r);
      const std::size_t lane = lane_of(r->model);
      if (r->trace) r->trace->waits(r->trace->now());
      if (refuses(lane, *r))
        refused.push_back(r);
      else if (!queue->push(lane, r->cls, item))
        waiting.push_back({lane, r->cls, item});
    }
  }

  /// Its caller is told at once instead of waiting for the breaker, or for a call that may never return.
  [[nodiscard]] bool refuses(std::size_t lane, const record& r) const {
    return (lanes[lane].breaker == breaker_position::open || hangs(lanes[lane])) &&
           r.batch->via != door::kafka;
  }

  /// What such a caller is told.
  [[nodiscard]] std::string why_refused(const model_lane& lane, nanos now) const {
    if (hangs(lane))
      return "model " + lane.model->name() + " version " + lane.model->version() + ": " +
             model::why_hung({lane.stalled_since, 0, lane.hung});
    const nanos left = lane.next_probe - now;
    return "the model keeps failing, its breaker is open; it is tried again " +
           (left > 0 ? "in " + std::to_string((left + policy::second - 1) / policy::second) + " s" : "soon");
  }

  /// A row that was granted in vain.
  void take_again(std::size_t lane, const record* r) {
    r->batch->retain();
    if (refuses(lane, *r))
      refused.push_back(r);
    else
      queue->requeue(lane, r->cls, item_of(*r));
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

/// Callers wait for an answer, and a model whose breaker is open or whose engine hangs gives none: they are
/// told at once, and come again or ask another. Kafka's rows wait.
void answer_refused(self_ptr self) {
  auto& s = self->state;
  if (s.refused.empty()) return;
  row_refs rows;
  answering out(s.writer);
  for (const record* r : s.refused) {
    rows.adopt(r);
    if (!scheduler_state::wanted(*r)) continue;
    if (r->trace) s.tell_wait(*r, "unavailable");
    out.failed(*r, error_code::unavailable, s.why_refused(s.lanes[s.lane_of(r->model)], caf_line::now(self)));
  }
  s.refused.clear();
  out.hand_over(0, [&](answer_set_ptr set) { caf_line::send(self, s.to.producer, answers{std::move(set)}); });
}

/// Those among a lane's waiting rows whose callers are not to wait, after something that `refuses` sees.
void refuse_waiting(self_ptr self, std::size_t lane_index) {
  auto& s = self->state;
  std::vector<policy::sla_item> left;
  s.queue->take_all(lane_index, left);
  for (const auto& item : left) {
    const record* r = scheduler_state::record_of(item);
    if (r->batch->via == door::kafka)
      s.queue->requeue(lane_index, r->cls, item);
    else
      s.refused.push_back(r);
  }
  std::erase_if(s.waiting, [&](const waiting_row& w) {
    const record* r = scheduler_state::record_of(w.item);
    if (w.lane != lane_index || r->batch->via == door::kafka) return false;
    s.refused.push_back(r);
    return true;
  });
  std::vector<policy::bisection::row> suspects;
  s.lanes[lane_index].suspects.take_if(
      [](const void* h) { return static_cast<const record*>(h)->batch->via != door::kafka; }, suspects);
  for (const auto* h : suspects) s.refused.push_back(static_cast<const record*>(h));
}

/// Answers rows that ended in the queue.
void answer_ended(self_ptr self) {
  auto& s = self->state;
  if (s.ended.empty()) return;
  row_refs rows;
  answering out(s.writer);
  std::vector<std::size_t> shed(s.args.classes.size());
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
      ++shed[e.cls];
    }
  }
  for (std::size_t c = 0; c < shed.size(); ++c)
    s.too_many.refused("scheduler", "classes." + s.args.classes[c].name + ".on_late", s.args.classes[c].name,
                       shed[c], caf_line::now(self));
  s.ended.clear();
  out.hand_over(0, [&](answer_set_ptr set) { caf_line::send(self, s.to.producer, answers{std::move(set)}); });
}

void give(self_ptr self, std::size_t lane_index, std::shared_ptr<row_refs> rows, bool express = false) {
  auto& s = self->state;
  auto& lane = s.lanes[lane_index];
  auto& from = express ? lane.express : lane.idle;
  idle_shard shard = std::move(from.back());
  from.pop_back();
  ++(express ? s.express_running : s.slots_taken);
  const std::uint64_t id = s.next_grant++;
  std::shared_ptr<const row_refs> shared = std::move(rows);
  for (const record* r : *shared)
    if (r->trace) s.tell_wait(*r);
  std::uint32_t probes = 0;
  if (lane.breaker == breaker_position::half_open)
    probes = std::min(lane.probes, static_cast<std::uint32_t>(shared->size()));
  lane.probes -= probes;
  std::shared_ptr<engine_work> work;
  if (s.args.time_limit > 0) work = std::make_shared<engine_work>();
  const bool on_trial = lane.suspects.trusted();
  s.grants.emplace(id, running{lane_index, shared, shard.handle, express, probes, on_trial, work,
                               s.away.total(), caf_line::now(self)});
  caf_line::send(self, shard.handle, grant{id, std::move(shared), on_trial, std::move(work)});
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
      s.runnable[i] = !s.lanes[i].express.empty() && s.lanes[i].breaker == breaker_position::closed &&
                      !s.hangs(s.lanes[i]);
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

/// The next rows of the lane that are under suspicion to one of its shards. False: there are none.
bool give_suspects(self_ptr self, std::size_t lane_index) {
  auto& s = self->state;
  auto& lane = s.lanes[lane_index];
  while (!lane.suspects.empty()) {
    const std::size_t most = lane.breaker == breaker_position::half_open ? lane.probes : SIZE_MAX;
    auto rows = std::make_shared<row_refs>();
    for (const auto* h : lane.suspects.next(most)) {
      const auto* r = static_cast<const record*>(h);
      if (scheduler_state::wanted(*r)) {
        rows->adopt(r);
      } else {
        lane.suspects.forget(r);
        scheduler_state::release(r);
      }
    }
    if (rows->empty()) continue;
    lane.tried = true;
    give(self, lane_index, std::move(rows));
    return true;
  }
  return false;
}

void dispatch(self_ptr self) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  answer_refused(self);
  dispatch_express(self, now);
  while (s.slots_taken < s.args.slots) {
    bool gave = false;
    s.runnable.assign(s.lanes.size(), false);
    for (std::size_t i = 0; i < s.lanes.size() && !gave; ++i) {
      auto& lane = s.lanes[i];
      s.runnable[i] = !lane.idle.empty() && s.may_run(lane);
      if (s.runnable[i] && !lane.tried) gave = give_suspects(self, i);
    }
    if (gave) continue;
    const auto next = s.queue->next_model(now, s.runnable);
    if (!next) {
      for (std::size_t i = 0; i < s.lanes.size() && !gave; ++i)
        if (s.runnable[i]) gave = give_suspects(self, i);
      if (gave) continue;
      break;
    }
    auto& lane = s.lanes[*next];
    for (auto& l : s.lanes) l.tried = false;
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

enum class end_of_shard : std::uint8_t { its_work, something_else, hang };

/// The shard of this grant died or hangs. If it did so of its rows they are tried again in parts, so that the
/// one that did it shows itself.
void take_back(self_ptr self, const running& lost, end_of_shard how, const std::string& why) {
  auto& s = self->state;
  auto& lane = s.lanes[lost.lane];
  const auto& rows = *lost.rows;
  if (how == end_of_shard::something_else && lost.on_trial) {
    for (const record* r : rows) {
      lane.suspects.forget(r);
      if (scheduler_state::wanted(*r)) s.take_again(lost.lane, r);
    }
    if (lane.breaker == breaker_position::half_open) lane.probes += lost.probes;
    return;
  }
  std::vector<policy::bisection::row> still, convicted;
  for (const record* r : rows) {
    if (scheduler_state::wanted(*r))
      still.push_back(r);
    else
      lane.suspects.forget(r);
  }
  lane.suspects.died(still, rows.size() == 1, how == end_of_shard::hang, convicted);
  answering poison(s.writer);
  for (const auto* h : convicted)
    poison.poison(*static_cast<const record*>(h),
                  "scoring this record ended its model shard repeatedly: " + why);
  if (convicted.empty())
    for (const auto* h : still) static_cast<const record*>(h)->batch->retain();
  poison.hand_over(0,
                   [&](answer_set_ptr set) { caf_line::send(self, s.to.producer, answers{std::move(set)}); });
  if (lane.suspects.trusted()) {
    // The breaker hears of no outcome: its probe is still to be made.
    if (lane.breaker == breaker_position::half_open) lane.probes += lost.probes;
    return;
  }
  // Whatever it is given ends it: that is the model's failure.
  if (!s.to.breakers) return;
  const auto it = s.to.breakers->find(lane.model);
  if (it != s.to.breakers->end()) caf_line::send(self, it->second, outcome{0, enough_to_open});
}

void shard_died(self_ptr self, const caf_line::ending& e) {
  auto& s = self->state;
  const caf_line::address& shard = e.who;
  for (std::size_t i = 0; i < s.hung.size(); ++i) {
    if (s.hung[i].who != shard) continue;
    const auto at = s.lane_by_model.find(s.hung[i].model);
    if (at != s.lane_by_model.end() && s.lanes[at->second].hung > 0) {
      model_lane& lane = s.lanes[at->second];
      if (s.hangs(lane) && lane.hung == s.args.max_hung)
        observe::log(
            observe::level::info, "scheduler", "engine_returned",
            "a call that hung has returned; the model is given batches again",
            {{"model", std::string(lane.model->name())}, {"version", std::string(lane.model->version())}});
      s.args.metrics->hung_calls(lane.model, --lane.hung);
      s.judge(s.lanes[at->second], caf_line::now(self));
    }
    s.hung.erase(s.hung.begin() + static_cast<std::ptrdiff_t>(i));
    dispatch(self);
    return;
  }
  for (auto& lane : s.lanes)
    for (auto* idle : {&lane.idle, &lane.express})
      std::erase_if(*idle, [&](const idle_shard& i) { return i.handle->address() == shard; });
  for (auto it = s.grants.begin(); it != s.grants.end();) {
    if (it->second.shard->address() != shard) {
      ++it;
      continue;
    }
    // The grant, whose rows are named, stays until it is done with.
    s.free_slot(it->second);
    take_back(self, it->second, e.of_its_work ? end_of_shard::its_work : end_of_shard::something_else, e.why);
    it = s.grants.erase(it);
  }
  dispatch(self);
}

/// Calls of engines that take long, or do not return.
void end_hung(self_ptr self, nanos now) {
  auto& s = self->state;
  s.away.look(now);
  for (auto it = s.grants.begin(); it != s.grants.end();) {
    const nanos away = s.away.total() - it->second.away_before;
    if (now - it->second.since - away > slot_at_most) s.free_slot(it->second);
    const nanos began = it->second.work ? it->second.work->began.load(std::memory_order_relaxed) : 0;
    const nanos limit = s.limit_of(s.lanes[it->second.lane]);
    if (began == 0 || now - began - away <= limit) {
      ++it;
      continue;
    }
    s.free_slot(it->second);
    const running lost = std::move(it->second);
    it = s.grants.erase(it);
    auto& lane = s.lanes[lost.lane];
    const std::string why = "a call of the engine did not return within " +
                            std::to_string(limit / 1'000'000) + " ms (models.time_limit)";
    s.hung.push_back({lost.shard->address(), lane.model});
    s.args.metrics->hung_calls(lane.model, ++lane.hung);
    observe::log(observe::level::error, "scheduler", "engine_hangs",
                 s.hangs(lane) ? "its batch is taken away; the model is given nothing until a call returns"
                               : "its batch is taken away and scored by another shard",
                 {{"model", std::string(lane.model->name())},
                  {"version", std::string(lane.model->version())},
                  {"hung", std::to_string(lane.hung)},
                  {"rows", std::to_string(lost.rows->size())}});
    if (s.args.abandon) s.args.abandon(caf_line::untyped(lost.shard), why);
    take_back(self, lost, end_of_shard::hang, why);
    s.judge(lane, now);
    if (s.hangs(lane)) refuse_waiting(self, lost.lane);
  }
}

/// Kafka's records of models that have not been able to answer for long: to the parking topic.
void park_stalled(self_ptr self, nanos now) {
  auto& s = self->state;
  if (!s.args.park) return;
  answering out(s.writer);
  row_refs rows;
  for (std::size_t i = 0; i < s.lanes.size(); ++i) {
    auto& lane = s.lanes[i];
    // While it is probed it needs rows to be probed with.
    if (lane.stalled_since == 0 || now - lane.stalled_since < s.args.stall_limit ||
        lane.breaker == breaker_position::half_open)
      continue;
    std::vector<policy::sla_item> left;
    s.queue->take_all(i, left);
    std::vector<policy::bisection::row> suspects;
    lane.suspects.take_all(suspects);
    std::vector<const record*> all;
    for (const auto& item : left) all.push_back(scheduler_state::record_of(item));
    for (const auto* h : suspects) all.push_back(static_cast<const record*>(h));
    std::erase_if(s.waiting, [&](const waiting_row& w) {
      if (w.lane == i) all.push_back(scheduler_state::record_of(w.item));
      return w.lane == i;
    });
    const std::string why = "its model could not answer for " +
                            std::to_string((now - lane.stalled_since) / 1'000'000'000) +
                            " s (models.stall_limit)";
    for (const record* r : all) {
      if (!scheduler_state::wanted(*r)) {
        scheduler_state::release(r);
      } else if (r->batch->via != door::kafka) {
        s.queue->requeue(i, r->cls, scheduler_state::item_of(*r));
      } else {
        rows.adopt(r);
        out.parked(*r, why);
        if (r->trace) s.tell_wait(*r, "parked");
      }
    }
  }
  if (out.empty()) return;
  observe::log_every(observe::level::warn, "scheduler", "records_parked", 30,
                     "records of a model that can't answer go to the parking topic",
                     {{"records", std::to_string(rows.size())}});
  out.hand_over(0, [&](answer_set_ptr set) { caf_line::send(self, s.to.producer, answers{std::move(set)}); });
}

void publish(self_ptr self) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  for (std::size_t c = 0; c < s.args.classes.size(); ++c) {
    const auto oldest = s.queue->oldest_arrival(c);
    s.args.metrics->queue(c, s.queue->depth(c), oldest ? static_cast<double>(now - *oldest) * 1e-9 : 0.0);
  }
  std::size_t run = 0;
  for (const auto& [id, g] : s.grants) run += !g.express;
  s.args.metrics->slots(run, s.args.slots);
  std::size_t suspects = 0;
  for (const auto& lane : s.lanes) suspects += lane.suspects.known();
  s.args.metrics->suspect_rows(suspects);
}

scheduler_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<scheduler_args>& args,
                                        const wiring& neighbours) {
  caf_line::die_of_exceptions(self);
  auto& st = self->state;
  st.args = *args;
  st.to = neighbours;
  st.queue.emplace(args->classes, args->late_floor);
  caf_line::on_down(self, [self](const caf_line::ending& e) { shard_died(self, e); });
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
        s.scored.assign(it->second.rows->begin(), it->second.rows->end());
        lane.suspects.scored(s.scored);
        if (m.back)
          for (const record* r : *m.back)
            if (scheduler_state::wanted(*r)) s.take_again(it->second.lane, r);
        (it->second.express ? lane.express : lane.idle).push_back({m.shard, it->second.shard});
        s.free_slot(it->second);
        s.grants.erase(it);
        dispatch(self);
      },
      [self](const breaker_changed& m) {
        auto& s = self->state;
        const std::size_t index = s.lane_of(m.model);
        auto& lane = s.lanes[index];
        lane.breaker = m.position;
        lane.probes = m.probes;
        lane.next_probe = m.position == breaker_position::open ? m.next_probe : 0;
        s.judge(lane, caf_line::now(self));
        if (m.position == breaker_position::closed && s.args.stalls && lane.stalled_since == 0)
          s.args.stalls->clear(m.model);  // said by a predecessor
        if (m.position == breaker_position::open) refuse_waiting(self, index);
        dispatch(self);
      },
      [self](const model_gone& m) { self->state.forget(m.model); },
      [self](tick) {
        auto& s = self->state;
        end_hung(self, caf_line::now(self));
        park_stalled(self, caf_line::now(self));
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
