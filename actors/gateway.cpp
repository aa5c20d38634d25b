#include "actors/gateway.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "actors/overload.hpp"
#include "actors/tally.hpp"
#include "messages/own_thread.hpp"
#include "messages/reply_turn.hpp"
#include "runtime/model/live_models.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"

namespace troupe {

namespace {

constexpr nanos sweep = 50'000'000;

struct gateway_state {
  static inline const char* name = "gateway";

  gateway_args args;
  wiring to;
  delivery_tally tally;
  overload too_many;

  ~gateway_state() {
    if (args.desk) (void)args.desk->attend(gateway_actor());
  }

  /// How long until the request's model is tried again; 0: not known.
  [[nodiscard]] nanos away(error_code code, const record& r, nanos now) const {
    if (code != error_code::unavailable || !args.stalls) return 0;
    const auto stall = args.stalls->of(r.model);
    if (!stall) return 0;
    return stall->hung != 0 ? policy::second : std::max<nanos>(0, stall->next_probe - now);
  }

  /// An error that needs no shard.
  void refuse(gateway_desk::open_batch& b, const record& r, const call_failure& why, nanos now) {
    r.answered.store(true, std::memory_order_relaxed);
    answer a;
    a.request = &r;
    a.code = why.code;
    b.calls[r.seq]->fail(r, why);
    tally.add(a, now);
    args.desk->ended(b, r);
  }
};

using self_ptr = gateway_actor::stateful_pointer<gateway_state>;

/// Requests that a version of a rollout could not even take are its failures too.
void tell_refused(self_ptr self, const record_batch& b) {
  auto& s = self->state;
  for (const record& r : b.records) {
    if (r.arm == rollout_arm::none || r.error == error_code::none || !r.model || !b.models) continue;
    if (const auto* split = b.models->split_of(*r.model))
      caf_line::send(self, s.to.keeper, scored{split->id, r.arm, 0, 1, 0, nullptr});
  }
}

void submit_rows(self_ptr self, std::shared_ptr<row_refs> rows) {
  auto& s = self->state;
  if (rows->empty()) return;
  if (s.to.cache)
    caf_line::send(self, s.to.cache, submit{std::move(rows)});
  else
    caf_line::send(self, s.to.scheduler, submit{std::move(rows)});
}

/// Reads what the desk has and submits it, all of it in one batch.
void take_calls(self_ptr self) {
  auto& s = self->state;
  auto& desk = *s.args.desk;
  auto calls = desk.take();
  if (calls.empty()) return;
  const std::size_t n = calls.size();
  const nanos now = caf_line::now(self);
  auto& open = desk.open(std::move(calls));
  auto& batch = *open.batch;
  batch.via = s.args.via;
  batch.arrived = now;
  batch.arrived_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
  batch.models = s.args.models->current();
  batch.records.reserve(n);  // everybody knows a record by its address

  std::vector<const record*> good;
  good.reserve(n);
  bool refused = false;
  std::size_t over = n;
  const std::size_t all = desk.open_calls();
  if (all > s.args.max_calls) over -= std::min(over, all - s.args.max_calls);
  s.too_many.refused("gateway", "http.max_requests", {}, n - over, now);
  std::vector<std::size_t> late(s.args.class_names.size() + 1);  // refused, by class
  const reply_turn turn;                                         // of refusals
  for (std::size_t i = 0; i < n; ++i) {
    record& r = batch.records.emplace_back();
    r.batch = &batch;
    r.seq = i;
    r.timestamp_ms = batch.arrived_ms;
    r.target = now;
    if (i >= over) {
      s.refuse(open, r, {error_code::unavailable, "too many requests wait for an answer", policy::second},
               now);
      continue;
    }
    open.calls[i]->read(r, batch);
    if (r.error == error_code::none && r.expiry <= now) {
      r.error = error_code::deadline_exceeded;
      r.error_message = "the request had expired when it was read";
    }
    if (r.error != error_code::none) {
      refused |= r.arm != rollout_arm::none;
      s.refuse(open, r, {r.error, r.error_message, 0}, now);
      continue;
    }
    if (s.args.admission) {
      if (const auto away = s.args.admission->refuse(r.cls, now, std::min(r.target, r.expiry))) {
        s.refuse(open, r,
                 {error_code::unavailable, "the request would wait longer than its class may", *away}, now);
        ++late[std::min<std::size_t>(r.cls, s.args.class_names.size())];
        continue;
      }
    }
    good.push_back(&r);
  }
  for (std::size_t c = 0; c < late.size(); ++c)
    s.too_many.refused("gateway", "http.admission",
                       c < s.args.class_names.size() ? s.args.class_names[c] : "?", late[c], now);
  if (!good.empty()) {
    auto rows = std::make_shared<row_refs>();
    rows->add_many(good);
    submit_rows(self, std::move(rows));
  }
  if (refused) tell_refused(self, batch);
  if (open.left == 0) desk.forget_finished();
  s.tally.report(*s.args.metrics);
}

void take_answers(self_ptr self, const answer_set& set) {
  auto& s = self->state;
  auto& desk = *s.args.desk;
  const nanos now = caf_line::now(self);
  const std::string_view text(set.text);
  bool finished = false;
  const reply_turn turn;
  for (const answer& a : set.answers) {
    const record& r = *a.request;
    if (r.answered.exchange(true, std::memory_order_relaxed)) continue;
    auto* b = desk.at(r.batch->slot);
    if (!b) continue;
    call& c = *b->calls[r.seq];
    if (a.code == error_code::none)
      c.reply(r, {set.outputs.data() + a.outputs, set.model_time, text.substr(a.begin, a.size)});
    else
      c.fail(r, {a.code, text.substr(a.reason_begin, a.reason_size), s.away(a.code, r, now)});
    s.tally.add(a, now);
    desk.ended(*b, r);
    finished |= b->left == 0;
  }
  s.tally.report(*s.args.metrics);
  if (finished) desk.forget_finished();
}

/// Callers who went away, and those whose time is over, whatever their rows still wait for: the rows are
/// marked, so that the scheduler passes them over.
void end_gone_and_late(self_ptr self) {
  auto& s = self->state;
  auto& desk = *s.args.desk;
  const nanos now = caf_line::now(self);
  std::size_t gone = 0;
  bool late = false;
  const reply_turn turn;
  desk.for_each_open([&](gateway_desk::open_batch& b) {
    for (const record& r : b.batch->records) {
      const auto& c = b.calls[r.seq];
      if (!c) continue;
      const bool left = c->gone();
      if ((!left && now < r.expiry) || r.answered.exchange(true, std::memory_order_relaxed)) continue;
      if (left) {
        desk.ended(b, r);
        ++gone;
      } else {
        s.refuse(b, r, {error_code::deadline_exceeded, "the deadline passed before there was an answer", 0},
                 now);
        late = true;
      }
    }
  });
  if (gone == 0 && !late) return;
  desk.forget_finished();
  if (gone != 0) s.args.metrics->callers_gone(s.args.via, gone);
  s.tally.report(*s.args.metrics);
}

void submit_again(self_ptr self) {
  self->state.args.desk->for_each_open([&](gateway_desk::open_batch& b) {
    auto rows = std::make_shared<row_refs>();
    for (const record& r : b.batch->records)
      if (b.calls[r.seq] && r.error == error_code::none && !r.answered.load(std::memory_order_relaxed))
        rows->add(&r);
    submit_rows(self, std::move(rows));
  });
}

/// What a predecessor left: it may have died in the middle of anything. A row that is still being scored is
/// scored twice, and the second answer is dropped.
void take_over(self_ptr self) {
  auto& s = self->state;
  auto& desk = *s.args.desk;
  const nanos now = caf_line::now(self);
  desk.for_each_open([&](gateway_desk::open_batch& b) {
    for (const record& r : b.batch->records) {
      if (!b.calls[r.seq]) continue;
      if (r.error != error_code::none)
        s.refuse(b, r, {r.error, r.error_message, 0}, now);
      else if (r.answered.load(std::memory_order_relaxed))
        desk.ended(b, r);  // it died of the reply, whose caller is told that the service is unavailable
    }
    desk.end_unread(b);
  });
  desk.forget_finished();
  submit_again(self);
}

gateway_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<gateway_args>& args,
                                      const wiring& neighbours) {
  caf_line::die_of_exceptions(self);
  auto& st = self->state;
  st.args = *args;
  st.to = neighbours;
  gateway_actor me(self);
  for (auto& set : args->desk->attend(me)) caf_line::send(self, me, answers{std::move(set)});
  take_over(self);
  caf_line::send(self, me, calls_ready{});
  caf_line::send_later(self, sweep, tick{});
  return {
      [self](calls_ready) { take_calls(self); },
      [self](const answers& m) { take_answers(self, *m.set); },
      [self](tick) {
        auto& s = self->state;
        end_gone_and_late(self);
        s.args.metrics->mailbox(s.args.name, caf_line::mailbox_depth(self));
        caf_line::send_later(self, sweep, tick{});
      },
      [self](const wiring& w) {
        auto& s = self->state;
        const bool lost_some = w.cache != s.to.cache || w.scheduler != s.to.scheduler;
        s.to = w;
        if (lost_some) submit_again(self);
      },
      [](const crash& c) { throw std::runtime_error(c.why); },
  };
}

}  // namespace

gateway_actor spawn_gateway(caf_line::system& system, gateway_args args, const wiring& neighbours) {
  return caf_line::spawn_on_own_thread(system, behavior, std::make_shared<gateway_args>(std::move(args)),
                                       neighbours);
}

}  // namespace troupe
