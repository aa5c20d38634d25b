#include "actors/transactor.hpp"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>

#include "actors/sending.hpp"
#include "actors/tally.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/trace.hpp"
#include "runtime/policy/in_order.hpp"
#include "runtime/policy/transaction_pace.hpp"

namespace troupe {
namespace {

constexpr std::size_t run_at_most = 512;            // answers given to the sink in one call
constexpr nanos pause_after_abort = 1'000'000'000;  // whatever it was, it may not have passed
constexpr nanos pause_of_the_group = 50'000'000;
constexpr nanos sweep = 200'000'000;

/// The answers of one assignment, in the order of its records. Each counts once on its set.
struct window {
  std::uint32_t generation = 0;
  std::shared_ptr<completion_port> owner;
  policy::in_order<answer*> answers;

  window() = default;
  window(window&&) = default;
  window& operator=(window&&) = default;
  ~window() {
    answers.clear([](answer* a) { a->set->release(); });
  }
};

struct lane {
  std::shared_ptr<kafka::transactional_sink> sink;
  policy::transaction_pace pace;
  std::map<std::int32_t, window> windows;
  std::vector<window> over;  // of assignments that ended: the sink may still read their answers
  std::vector<settle_for> to_settle;
  std::size_t given = 0;
  bool spoiled = false;  // what was given can't be committed
  nanos paused_until = 0;
  nanos ending_since = 0;

  [[nodiscard]] std::size_t ready() const {
    std::size_t n = 0;
    for (const auto& [partition, w] : windows) n += w.answers.ready();
    return n;
  }

  void drop(std::map<std::int32_t, window>::iterator at) {
    over.push_back(std::move(at->second));
    windows.erase(at);
  }

  [[nodiscard]] bool gave_of_over() const {
    return std::any_of(over.begin(), over.end(), [](const window& w) { return w.answers.given() != 0; });
  }
};

}  // namespace

class transaction_desk {
 public:
  std::vector<lane> lanes;
};

std::shared_ptr<transaction_desk> make_transaction_desk(
    std::vector<std::shared_ptr<kafka::transactional_sink>> sinks, std::size_t records) {
  auto desk = std::make_shared<transaction_desk>();
  for (auto& sink : sinks) {
    lane& l = desk->lanes.emplace_back();
    l.sink = std::move(sink);
    l.pace = policy::transaction_pace(records);
  }
  return desk;
}

namespace {

struct transactor_state {
  static inline const char* name = "transactor";

  transactor_args args;
  answer_form form;
  std::vector<kafka::outgoing> run;
  std::vector<kafka::delivery_report> reports;
  delivery_tally tally;
  nanos timer_at = 0;  // 0: none is set

  ~transactor_state() {
    if (!args.desk) return;
    for (auto& l : args.desk->lanes) l.sink->on_reports({});
  }

  [[nodiscard]] std::vector<lane>& lanes() const { return args.desk->lanes; }
  [[nodiscard]] lane& lane_of(std::int32_t partition) const {
    return lanes()[static_cast<std::size_t>(partition) % lanes().size()];
  }

  void take(const answers& m) {
    auto& set = *m.set;
    window* into = nullptr;
    const record_batch* of = nullptr;
    for (auto& a : set.answers) {
      if (a.request->answered.exchange(true, std::memory_order_relaxed)) continue;
      const record_batch* batch = a.request->batch;
      if (batch != of) {
        of = batch;
        into = window_of(*batch);
      }
      if (!into) continue;
      a.set = &set;
      if (into->answers.put(a.request->seq, &a)) set.retain();
    }
  }

  /// None for what a partition_consumer had that is gone: its window would begin at its first record again,
  /// and wait for all that were answered since.
  [[nodiscard]] window* window_of(const record_batch& b) const {
    if (b.owner->ended()) return nullptr;
    lane& l = lane_of(b.partition);
    auto at = l.windows.find(b.partition);
    if (at != l.windows.end() && at->second.owner != b.owner) {
      if (b.owner->number() < at->second.owner->number()) return nullptr;
      l.drop(at);
      at = l.windows.end();
    }
    if (at == l.windows.end()) {
      at = l.windows.try_emplace(b.partition).first;
      at->second.generation = b.generation;
      at->second.owner = b.owner;
    }
    return &at->second;
  }

  void settle(const settle_for& m) const {
    lane& l = lane_of(m.partition);
    const auto at = l.windows.find(m.partition);
    if (at != l.windows.end() && at->second.generation <= m.generation) l.drop(at);
    l.to_settle.push_back(m);
  }

  /// All that are there: what they say must be known before the commit.
  void take_reports(lane& l) {
    reports.clear();
    while (l.sink->reports(reports, 1'024) != 0) {
    }
    for (const auto& rep : reports) {
      auto* a = static_cast<answer*>(rep.opaque);
      l.spoiled = true;
      if (a->request->trace) a->request->trace->sent(a->request->trace->now(), a->dead, "not_delivered");
      if (rep.too_large && answer_form::shrink(*a)) continue;
      if (rep.bad_timestamp && answer_form::drop_timestamp(*a)) continue;
      tell_refused(*args.metrics, "the broker", l.sink->error_text(rep.code));
    }
  }

  /// Gives what is ready to the sink, as much as the transaction takes. True: it must be committed now.
  bool give(lane& l) {
    for (auto& [partition, w] : l.windows) {
      while (w.answers.ready() != 0 && !l.spoiled) {
        const std::size_t room = l.pace.room(l.given);
        if (room == 0) return true;
        if (!give_run(l, w, std::min(room, run_at_most))) return true;
      }
    }
    return l.pace.room(l.given) == 0;
  }

  /// False: the sink takes no more before the commit.
  bool give_run(lane& l, window& w, std::size_t most) {
    run.clear();
    while (run.size() < most && w.answers.ready() != 0) {
      answer* a = w.answers.give();
      const bool alone = answer_form::has_headers(*a);  // they live in one buffer
      if (alone && !run.empty()) {
        w.answers.take_back(1);
        break;
      }
      run.push_back(form.outgoing_of(*a));
      if (alone) break;
    }
    kafka::produced stopped = kafka::produced::ok;
    const std::size_t taken = l.sink->produce_many(run, stopped);
    l.given += taken;
    if (taken == run.size()) return true;
    w.answers.take_back(run.size() - taken);
    auto* a = static_cast<answer*>(run[taken].opaque);
    if (stopped == kafka::produced::queue_full) return false;
    if (stopped == kafka::produced::too_large && answer_form::shrink(*a)) return true;
    tell_refused(*args.metrics, "the Kafka client", l.sink->failure());
    l.spoiled = true;
    return true;
  }

  [[nodiscard]] static std::vector<kafka::cut> cuts_of(const lane& l) {
    std::vector<kafka::cut> cuts;
    for (const auto& [partition, w] : l.windows)
      if (w.answers.given() != 0)
        cuts.push_back({partition, w.generation, w.answers.last_given()->request->offset + 1});
    return cuts;
  }

  /// Answers of one assignment are with the broker, for good.
  void committed(window& w, nanos now) {
    std::vector<const record*> done;
    done.reserve(w.answers.given());
    std::vector<answer_set*> finished;
    finished.reserve(w.answers.given());
    std::size_t parked = 0;
    w.answers.settle([&](answer* a) {
      parked += a->parked;
      if (a->request->trace) answer_form::tell_delivered(*a, now);
      tally.add(*a, now);
      done.push_back(a->request);
      finished.push_back(a->set);
    });
    tally.report(*args.metrics);
    if (parked != 0) args.metrics->parked(parked);
    if (!done.empty() && w.owner) {
      auto rows = std::make_shared<row_refs>();
      rows->add_many(done);
      w.owner->delivered(std::move(rows));
    }
    for (auto* set : finished) set->release();
  }

  void finish(lane& l, const kafka::transaction_result& r, nanos now) {
    args.metrics->transaction(r.committed, l.given, static_cast<double>(now - l.ending_since) * 1e-9);
    if (r.committed) {
      l.pace.committed(l.ending_since, now);
      for (auto& [partition, w] : l.windows) committed(w, now);
      for (auto& w : l.over) committed(w, now);
      return;
    }
    for (auto& [partition, w] : l.windows) w.answers.take_back();
    for (auto at = l.windows.begin(); at != l.windows.end();) {
      const auto next = std::next(at);
      if (!l.sink->owns(at->first, at->second.generation)) l.drop(at);
      at = next;
    }
    if (r.why.empty()) return;  // by our own wish
    l.paused_until = now + (r.passing ? pause_of_the_group : pause_after_abort);
    observe::log_every(r.passing ? observe::level::info : observe::level::warn, "producer",
                       "transaction_aborted", 10,
                       "a transaction was not committed; what it had is sent again",
                       {{"reason", r.why}, {"records", std::to_string(l.given)}});
  }
};

using self_ptr = producer_actor::stateful_pointer<transactor_state>;

void wake_at(self_ptr self, nanos at, nanos now) {
  auto& s = self->state;
  if (s.timer_at != 0 && s.timer_at <= at) return;
  s.timer_at = at;
  caf_line::send_later(self, at - now, hold_over{});
}

/// As far as it goes without waiting for the broker.
void go_on(self_ptr self, lane& l) {
  auto& s = self->state;
  for (;;) {
    const nanos now = caf_line::now(self);
    if (const auto end = l.sink->ended()) s.finish(l, *end, now);
    switch (l.sink->phase()) {
      case kafka::transaction_phase::preparing:
      case kafka::transaction_phase::ending:
        s.take_reports(l);  // the sink may wait for them to be taken
        if (l.sink->phase() == kafka::transaction_phase::preparing ||
            l.sink->phase() == kafka::transaction_phase::ending)
          return;
        continue;
      case kafka::transaction_phase::ready:
        s.take_reports(l);
        l.over.clear();
        l.given = 0;
        l.spoiled = false;
        for (auto& m : l.to_settle) caf_line::send(self, m.from, settled{});
        l.to_settle.clear();
        if (l.ready() == 0) return;
        if (const nanos at = std::max(l.paused_until, l.pace.opens(now, l.ready())); now < at)
          return wake_at(self, at, now);
        l.sink->begin();
        continue;
      case kafka::transaction_phase::open: {
        const bool full = !l.spoiled && s.give(l);
        const nanos due = full ? now : l.pace.due(now, l.given);
        if (due > now && !l.spoiled && !l.gave_of_over()) return wake_at(self, due, now);
        s.take_reports(l);
        l.ending_since = now;
        auto cuts = s.cuts_of(l);
        if (l.spoiled) l.paused_until = now + pause_after_abort;
        if (l.spoiled || l.gave_of_over() || cuts.empty())
          l.sink->abort();
        else
          l.sink->commit(std::move(cuts));
        continue;
      }
    }
  }
}

void go_on(self_ptr self) {
  for (auto& l : self->state.lanes()) go_on(self, l);
}

producer_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<transactor_args>& args) {
  caf_line::die_of_exceptions(self);
  auto& st = self->state;
  st.args = *args;
  st.form = answer_form(args->keep_timestamp);
  producer_actor me(self);
  for (auto& l : st.lanes()) {
    // What a predecessor gave may have ended in its middle.
    if (l.sink->phase() == kafka::transaction_phase::open) l.spoiled = true;
    l.sink->on_reports([me] { caf_line::post(me, reports_ready{}); });
  }
  caf_line::send(self, me, reports_ready{});
  caf_line::send_later(self, sweep, tick{});
  return {
      [self](const answers& m) {
        self->state.take(m);
        go_on(self);
      },
      [self](reports_ready) { go_on(self); },
      [self](hold_over) {
        self->state.timer_at = 0;
        go_on(self);
      },
      [self](const settle_for& m) {
        self->state.settle(m);
        go_on(self);
      },
      [self](tick) {
        go_on(self);
        self->state.args.metrics->mailbox("producer", caf_line::mailbox_depth(self));
        caf_line::send_later(self, sweep, tick{});
      },
      [](const wiring&) {},
      [](const crash& c) { throw std::runtime_error(c.why); },
  };
}

}  // namespace

producer_actor spawn_transactor(caf_line::system& system, transactor_args args) {
  return system.spawn(behavior, std::make_shared<transactor_args>(std::move(args)));
}

}  // namespace troupe
