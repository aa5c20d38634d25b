#include "actors/producer.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "actors/sending.hpp"
#include "actors/tally.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/trace.hpp"
#include "runtime/policy/gather.hpp"
#include "runtime/policy/in_order.hpp"

namespace troupe {

class order_desk {
 public:
  struct window {
    std::uint32_t generation = 0;
    std::shared_ptr<completion_port> owner;
    policy::in_order<answer*> answers;  // each counts once on its set
    nanos waits_since = 0;              // 0: nothing waits for what is before it

    window() = default;
    window(const window&) = delete;
    window& operator=(const window&) = delete;
    ~window() {
      answers.clear([](answer* a) { a->set->release(); });
    }
  };
  std::map<std::int32_t, window> windows;

  /// None for what a partition_consumer had that is gone: its window would begin at its first record again,
  /// and wait for all that were answered since.
  window* of(const record_batch& b) {
    if (b.owner->ended()) return nullptr;
    auto at = windows.find(b.partition);
    if (at != windows.end() && at->second.owner != b.owner) {
      if (b.owner->number() < at->second.owner->number()) return nullptr;
      windows.erase(at);
      at = windows.end();
    }
    if (at == windows.end()) {
      at = windows.try_emplace(b.partition).first;
      at->second.generation = b.generation;
      at->second.owner = b.owner;
    }
    return &at->second;
  }
};

std::shared_ptr<order_desk> make_order_desk() {
  return std::make_shared<order_desk>();
}

namespace {

constexpr std::size_t flush_at = 8'192;      // gathered answers that are sent without waiting longer
constexpr std::size_t run_at_most = 512;     // answers given to the sink in one call
constexpr std::size_t reports_a_go = 1'024;  // then others get their turn
constexpr nanos flight_at_most =
    50'000'000;  // waited for, under load: one broker must not hold up the others
constexpr nanos retry_pause = 1'000'000'000;
constexpr nanos sweep = 200'000'000;

struct producer_state {
  static inline const char* name = "producer";

  producer_args args;
  policy::gather gather;
  answer_form form;
  std::deque<answer*> held;  // each counts once on its set
  std::vector<std::pair<nanos, answer*>> refused;
  std::vector<kafka::delivery_report> reports;
  std::vector<kafka::outgoing> run;
  bool timer_set = false;
  bool awaits_landing = false;  // what is held goes when nothing is on its way any more
  bool blocked = false;         // the sink's queue is full: go on after reports
  delivery_tally tally;

  ~producer_state() {
    for (auto* a : held) a->set->release();
    for (auto& [at, a] : refused) a->set->release();
    if (args.sink) args.sink->on_reports({});
  }

  void take(const answers& m, nanos now) {
    auto& set = *m.set;
    for (auto& a : set.answers) {
      a.set = &set;
      if (args.order && put_in_order(a)) continue;
      set.retain();
      held.push_back(&a);
    }
    if (args.order) release_in_order(now);
  }

  /// False: its turn is over, so it goes as it comes (and is dropped where it was answered).
  bool put_in_order(answer& a) {
    auto* w = args.order->of(*a.request->batch);
    if (!w) return true;
    if (w->answers.put(a.request->seq, &a)) {
      a.set->retain();
      return true;
    }
    return a.request->seq >= w->answers.head();
  }

  /// Moves what has its turn to what is held. It stays in its window until the sink has it: there a successor
  /// begins.
  void release_in_order(nanos now) {
    for (auto& [partition, w] : args.order->windows) {
      while (w.answers.ready() != 0) {
        answer* a = w.answers.give();
        a->set->retain();
        held.push_back(a);
      }
      const bool waits = w.answers.size() != w.answers.given();
      if (waits && w.waits_since == 0) w.waits_since = now;
      if (!waits && w.waits_since != 0) {
        args.metrics->order_wait(static_cast<double>(now - w.waits_since) * 1e-9);
        w.waits_since = 0;
      }
    }
  }

  /// The sink has it, or it waits for another try.
  void had_its_turn(const answer& a) {
    if (!args.order) return;
    const auto at = args.order->windows.find(a.request->batch->partition);
    if (at == args.order->windows.end() || at->second.owner != a.request->batch->owner) return;
    auto& w = at->second.answers;
    if (w.given() == 0 || w.head() != a.request->seq) return;
    w.settle_first([](answer* mine) { mine->set->release(); });
  }

  /// Gives what gathered to the sink, neighbours without headers of their own in one call.
  void flush(nanos now) {
    blocked = false;
    awaits_landing = false;
    if (held.empty()) return;
    while (!held.empty() && !blocked) {
      run.clear();
      while (!held.empty() && run.size() < run_at_most) {
        answer* a = held.front();
        if (a->request->answered.load(std::memory_order_relaxed)) {
          held.pop_front();
          had_its_turn(*a);
          a->set->release();
          continue;
        }
        if (!run.empty() && answer_form::has_headers(*a)) break;
        // Marked at once, so that a second answer to the same record in this run is dropped as well.
        a->request->answered.store(true, std::memory_order_relaxed);
        held.pop_front();
        run.push_back(form.outgoing_of(*a));
        if (answer_form::has_headers(*a)) break;  // its headers live in one buffer
      }
      give(now);
    }
    if (!gather.busy_at(now)) args.sink->hurry();
  }

  void give(nanos now) {
    std::span<const kafka::outgoing> rest(run);
    while (!rest.empty()) {
      kafka::produced stopped = kafka::produced::ok;
      const std::size_t taken = args.sink->produce_many(rest, stopped);
      if (args.order)
        for (const auto& o : rest.first(taken)) had_its_turn(*static_cast<answer*>(o.opaque));
      rest = rest.subspan(taken);
      if (rest.empty()) return;
      auto* a = static_cast<answer*>(rest.front().opaque);
      if (stopped == kafka::produced::queue_full) {
        blocked = true;
        for (std::size_t i = rest.size(); i-- > 0;) {
          auto* back = static_cast<answer*>(rest[i].opaque);
          back->request->answered.store(false, std::memory_order_relaxed);
          held.push_front(back);
        }
        return;
      }
      rest = rest.subspan(1);
      had_its_turn(*a);
      if (stopped == kafka::produced::too_large) {
        too_large(a, now);
      } else {
        tell_refused(*args.metrics, "the Kafka client", args.sink->failure());
        a->request->answered.store(false, std::memory_order_relaxed);
        refused.emplace_back(now + retry_pause, a);
      }
    }
  }

  void too_large(answer* a, nanos now) {
    a->request->answered.store(false, std::memory_order_relaxed);
    if (answer_form::shrink(*a))
      held.push_back(a);
    else
      refused.emplace_back(now + 10 * retry_pause, a);
  }

  void drain_reports(nanos now) {
    reports.clear();
    args.sink->reports(reports, reports_a_go);
    if (reports.empty()) return;
    std::vector<const record*> done;
    completion_port* owner = nullptr;
    auto hand_over = [&] {
      if (done.empty()) return;
      auto rows = std::make_shared<row_refs>();
      rows->add_many(done);
      done.clear();
      if (owner) owner->delivered(std::move(rows));
    };
    std::size_t parked = 0;
    std::vector<answer_set*> finished;
    finished.reserve(reports.size());
    for (const auto& rep : reports) {
      auto* a = static_cast<answer*>(rep.opaque);
      if (a->delivered) {
        finished.push_back(a->set);
        continue;
      }
      if (rep.ok) {
        a->delivered = true;
        auto* to = a->request->batch->owner.get();
        if (to != owner) {
          hand_over();
          owner = to;
        }
        done.push_back(a->request);
        if (a->request->trace) answer_form::tell_delivered(*a, now);
        tally.add(*a, now);
        parked += a->parked;
        finished.push_back(a->set);
        continue;
      }
      if (a->request->trace) a->request->trace->sent(now, a->dead, "not_delivered");
      if (rep.too_large) {
        too_large(a, now);
      } else if (rep.bad_timestamp && answer_form::drop_timestamp(*a)) {
        a->request->answered.store(false, std::memory_order_relaxed);
        held.push_back(a);
      } else {
        tell_refused(*args.metrics, "the broker", args.sink->error_text(rep.code));
        a->request->answered.store(false, std::memory_order_relaxed);
        refused.emplace_back(now + retry_pause, a);
      }
    }
    hand_over();
    tally.report(*args.metrics);
    if (parked != 0) args.metrics->parked(parked);
    for (auto* set : finished) set->release();
  }

  void retry(nanos now) {
    for (std::size_t i = 0; i < refused.size();) {
      if (refused[i].first > now) {
        ++i;
        continue;
      }
      held.push_back(refused[i].second);
      refused[i] = refused.back();
      refused.pop_back();
    }
  }
};

using self_ptr = producer_actor::stateful_pointer<producer_state>;

void send_or_hold(self_ptr self, std::size_t fresh) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  if (fresh != 0) s.gather.observe(now, fresh);
  const nanos hold = s.gather.hold(now);
  // librdkafka's idempotent producer sends a partition's next request when the one before is acknowledged.
  // What it is given earlier waits there, in small requests, while its thread polls without a pause.
  const bool busy = s.gather.busy_at(now);
  if (busy ? s.args.sink->in_flight() == 0 : hold == 0 || s.held.size() >= flush_at) {
    s.flush(now);
    return;
  }
  s.awaits_landing = busy;
  if (s.timer_set || s.held.empty()) return;
  s.timer_set = true;
  caf_line::send_later(self, busy ? flight_at_most : hold, hold_over{});
}

producer_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<producer_args>& args) {
  caf_line::die_of_exceptions(self);
  auto& s = self->state;
  s.args = *args;
  s.form = answer_form(args->keep_timestamp);
  s.gather = policy::gather(args->gather_min, args->gather_max);
  if (args->order) {
    for (auto& [partition, w] : args->order->windows) w.answers.take_back();
    s.release_in_order(caf_line::now(self));
  }
  producer_actor me(self);
  args->sink->on_reports([me] { caf_line::post(me, reports_ready{}); });
  caf_line::send(self, me, reports_ready{});  // reports that came while nobody listened
  caf_line::send_later(self, sweep, tick{});
  return {
      [self](const answers& m) {
        self->state.take(m, caf_line::now(self));
        send_or_hold(self, m.set->answers.size());
      },
      [self](reports_ready) {
        auto& st = self->state;
        const nanos now = caf_line::now(self);
        st.drain_reports(now);
        if (st.reports.size() == reports_a_go) caf_line::send(self, producer_actor(self), reports_ready{});
        if (st.blocked || (st.awaits_landing && st.args.sink->in_flight() == 0)) st.flush(now);
      },
      [self](hold_over) {
        self->state.timer_set = false;
        self->state.flush(caf_line::now(self));
      },
      [self](const settle_for& m) {
        if (const auto& order = self->state.args.order) {
          const auto at = order->windows.find(m.partition);
          if (at != order->windows.end() && at->second.generation <= m.generation) order->windows.erase(at);
        }
        caf_line::send(self, m.from, settled{});
      },
      [self](tick) {
        auto& st = self->state;
        const nanos now = caf_line::now(self);
        st.retry(now);
        st.drain_reports(now);
        st.flush(now);
        st.args.metrics->mailbox("producer", caf_line::mailbox_depth(self));
        caf_line::send_later(self, sweep, tick{});
      },
      [](const wiring&) {},
      [](const crash& c) { throw std::runtime_error(c.why); },
  };
}

}  // namespace

producer_actor spawn_producer(caf_line::system& system, producer_args args) {
  return system.spawn(behavior, std::make_shared<producer_args>(std::move(args)));
}

}  // namespace troupe
