#include "actors/producer.hpp"

#include <algorithm>
#include <deque>
#include <utility>

#include "actors/tally.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/trace.hpp"
#include "runtime/policy/gather.hpp"

namespace troupe {
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
  codec::result_writer writer;
  std::deque<answer*> held;  // each counts once on its set
  std::vector<std::pair<nanos, answer*>> refused;
  std::vector<kafka::delivery_report> reports;
  std::vector<header> headers;
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

  void take(const answers& m) {
    auto& set = *m.set;
    for (auto& a : set.answers) {
      a.set = &set;
      set.retain();
      held.push_back(&a);
    }
  }

  [[nodiscard]] kafka::outgoing outgoing_of(answer& a) {
    const record& r = *a.request;
    const record_batch& b = *r.batch;
    kafka::outgoing out;
    out.key = r.key;
    out.source_partition = b.partition;
    out.opaque = &a;
    std::span<const header> own(b.headers.data() + r.headers_begin, r.headers_count);
    headers.clear();
    if (a.dead) {
      out.to = a.parked ? kafka::destination::parking : kafka::destination::dead_letters;
      out.timestamp_ms = a.tries & 2 ? 0 : r.timestamp_ms;
      out.headers = own;
      const std::string_view reason(a.set->text.data() + a.reason_begin, a.reason_size);
      // The broker copies headers when it takes the record, so texts may live here.
      writer.dead_letter_headers(headers, r, a.code, reason);
      if (r.trace) writer.trace_header(headers, own, r.trace->sends(r.trace->now()));
      if (a.tries & 1) {  // refused for its size: coordinates and length must do
        writer.dropped_value_headers(headers, r);
      } else {
        out.value = r.value;
      }
      out.more_headers = headers;
    } else {
      out.value = {a.set->text.data() + a.begin, a.size};
      if (args.keep_timestamp && !(a.tries & 2)) out.timestamp_ms = r.timestamp_ms;
      if (r.headers_count != 0 || r.trace) {
        writer.result_headers(headers, own, r.trace ? r.trace->sends(r.trace->now()) : std::string());
        out.headers = headers;
      }
    }
    return out;
  }

  [[nodiscard]] static bool has_headers(const answer& a) {
    return a.dead || a.request->headers_count != 0 || a.request->trace != nullptr;
  }

  /// An answer to a request that is traced is with the broker.
  static void tell_delivered(const answer& a, nanos now) {
    const auto& t = *a.request->trace;
    t.sent(now, a.dead, {});
    t.end(now, a.dead ? observe::attributes{{"troupe.dead_letter", true}} : observe::attributes(),
          a.code == error_code::none ? std::string_view() : to_string(a.code));
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
          a->set->release();
          continue;
        }
        if (!run.empty() && has_headers(*a)) break;
        // Marked at once, so that a second answer to the same record in this run is dropped as well.
        a->request->answered.store(true, std::memory_order_relaxed);
        held.pop_front();
        run.push_back(outgoing_of(*a));
        if (has_headers(*a)) break;  // its headers live in one buffer
      }
      give(now);
    }
    if (!gather.busy_at(now)) args.sink->hurry();
  }

  void give(nanos now) {
    std::span<const kafka::outgoing> rest(run);
    while (!rest.empty()) {
      kafka::produced stopped = kafka::produced::ok;
      rest = rest.subspan(args.sink->produce_many(rest, stopped));
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
      if (stopped == kafka::produced::too_large) {
        too_large(a, now);
      } else {
        a->request->answered.store(false, std::memory_order_relaxed);
        refused.emplace_back(now + retry_pause, a);
      }
    }
  }

  /// A result that the broker won't take for its size becomes a dead letter; a dead letter loses its value.
  void too_large(answer* a, nanos now) {
    a->request->answered.store(false, std::memory_order_relaxed);
    if (a->parked) {  // it has a place among the dead letters, without its value if need be
      a->parked = false;
      held.push_back(a);
      return;
    }
    if (!a->dead) {
      a->dead = true;
      a->code = error_code::too_large;
      a->reason_size = 0;
      held.push_back(a);
      return;
    }
    if (!(a->tries & 1)) {
      a->tries |= 1;
      held.push_back(a);
      return;
    }
    observe::fields which = {{"topic", *a->request->batch->topic},
                             {"partition", std::to_string(a->request->batch->partition)},
                             {"offset", std::to_string(a->request->offset)}};
    if (a->request->trace) which.emplace_back("trace_id", a->request->trace->id());
    observe::log_every(
        observe::level::error, "producer", "dead_letter_refused", 60,
        "the dead-letter topic refuses a record even without its value; its partition can't commit past "
        "it until the topic accepts it",
        which);
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
      if (rep.ok) {
        auto* to = a->request->batch->owner.get();
        if (to != owner) {
          hand_over();
          owner = to;
        }
        done.push_back(a->request);
        if (a->request->trace) tell_delivered(*a, now);
        tally.add(*a, now);
        parked += a->parked;
        finished.push_back(a->set);
        continue;
      }
      if (a->request->trace) a->request->trace->sent(now, a->dead, "not_delivered");
      if (rep.too_large) {
        too_large(a, now);
      } else if (rep.bad_timestamp && !(a->tries & 2)) {
        a->tries |= 2;
        a->request->answered.store(false, std::memory_order_relaxed);
        held.push_back(a);
      } else {
        args.metrics->delivery_errors(1);
        observe::log_every(observe::level::error, "producer", "delivery_failed", 10,
                           "the broker did not take an answer; trying again",
                           {{"error", args.sink->error_text(rep.code)}});
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
  s.gather = policy::gather(args->gather_min, args->gather_max);
  producer_actor me(self);
  args->sink->on_reports([me] { caf_line::post(me, reports_ready{}); });
  caf_line::send(self, me, reports_ready{});  // reports that came while nobody listened
  caf_line::send_later(self, sweep, tick{});
  return {
      [self](const answers& m) {
        self->state.take(m);
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
