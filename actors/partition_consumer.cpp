#include "actors/partition_consumer.hpp"

#include <chrono>
#include <deque>
#include <map>
#include <utility>

#include "runtime/codec/result_writer.hpp"
#include "runtime/faults/fault_points.hpp"
#include "runtime/model/live_models.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/trace.hpp"
#include "runtime/policy/offset_ledger.hpp"
#include "runtime/policy/time_lag.hpp"

namespace troupe {
namespace {

constexpr nanos sweep = 100'000'000;
constexpr nanos ask_again = 1'000'000'000;     // whether it is settled: who was asked may have crashed
constexpr nanos settle_at_most = 500'000'000;  // of a retire's time
constexpr std::size_t span_factor =
    8;  // offsets between the oldest unfinished record and the newest, in credits

/// Posts deliveries to the actor; one that has ended ignores them, which is what fences an old assignment.
class mailbox_port final : public completion_port {
 public:
  explicit mailbox_port(partition_consumer_actor to) : to_(std::move(to)) {}
  void delivered(std::shared_ptr<row_refs> rows) override {
    caf_line::post(to_, troupe::delivered{std::move(rows)});
  }
  void answered(std::shared_ptr<answer_set>) override {}  // Kafka's answers go to the producer

 private:
  partition_consumer_actor to_;
};

[[nodiscard]] std::size_t bytes_of(const record& r) {
  return r.value.size() + r.key.size() + 64;
}

struct consumer_state {
  static inline const char* name = "partition_consumer";

  partition_consumer_args args;
  wiring to;
  std::optional<codec::request_parser> parser;
  codec::result_writer writer;
  policy::offset_ledger ledger;
  policy::time_lag lag;
  std::shared_ptr<mailbox_port> port;
  std::deque<batch_ptr>
      batches;  // with unfinished records; finished ones are null until they reach the front
  std::uint64_t first_slot = 0;
  std::size_t in_flight = 0;
  std::size_t in_flight_bytes = 0;
  bool stalled = false;
  bool again = false;  // a records_ready of our own is in the mailbox
  std::optional<retire> leaving;
  bool left = false;
  bool waits = false;  // for `settled`: polls nothing until then
  bool settled = false;
  nanos asked = 0;

  ~consumer_state() {
    if (port) port->end();
    if (args.queue) args.queue->on_records({});
    // Whoever has the partition next reads these again: they need not be scored, nor answered twice.
    for (const auto& b : batches)
      if (b)
        for (const record& r : b->records) r.answered.store(true, std::memory_order_relaxed);
    if (leaving && !left && leaving->done) leaving->done->set_value(false);
  }

  [[nodiscard]] bool has_credit() const {
    return in_flight < args.credit_records && in_flight_bytes < args.credit_bytes &&
           ledger.span() < span_factor * args.credit_records;
  }

  [[nodiscard]] std::int64_t wall_shift_ms() const { return args.faults ? args.faults->wall_shift_ms() : 0; }

  /// The wall clock as faults leave it.
  [[nodiscard]] std::int64_t wall_ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
               .count() +
           wall_shift_ms();
  }

  /// Timestamp of the record from which on the partition is not answered; none while all that was read is.
  [[nodiscard]] std::optional<std::int64_t> oldest_ms() const {
    if (batches.empty() || batches.front()->records.empty()) return std::nullopt;
    const auto& records = batches.front()->records;  // of one batch in a row
    const std::uint64_t at = ledger.oldest() - records.front().seq;
    return records[at < records.size() ? at : 0].timestamp_ms;
  }

  void store() {
    if (args.transactional) return;
    if (const auto next = ledger.committable()) {
      if (!args.queue->store(*next))
        observe::log_every(
            observe::level::warn, "partition_consumer", "offset_not_stored", 10,
            "the partition is no longer ours: its next owner answers these records again",
            {{"topic", *args.queue->topic()}, {"partition", std::to_string(args.queue->partition())}});
    }
  }

  void finish(const row_refs& rows) {
    for (const record* r : rows) {
      if (!ledger.done(args.queue->generation(), r->seq)) continue;
      --in_flight;
      in_flight_bytes -= bytes_of(*r);
      record_batch& b = *r->batch;
      if (--b.unfinished == 0) batches[b.slot - first_slot] = {};
    }
    while (!batches.empty() && !batches.front()) {
      batches.pop_front();
      ++first_slot;
    }
  }

  /// Rows of each stalled model that were submitted and have no answer yet, but for those of `b`.
  [[nodiscard]] std::map<const model::loaded_model*, std::size_t> held_by_stalled(
      const record_batch& b) const {
    std::map<const model::loaded_model*, std::size_t> held;
    if (args.stalled_share == 0 || !args.stalls || !args.stalls->any() || !b.models ||
        b.models->all().size() < 2)
      return held;
    for (const auto& m : b.models->all())
      if (args.stalls->of(m.get())) held[m.get()] = 0;
    for (const auto& other : batches) {
      if (!other || other.get() == &b) continue;
      for (const record& r : other->records) {
        if (r.error != error_code::none || r.answered.load(std::memory_order_relaxed)) continue;
        if (const auto it = held.find(r.model); it != held.end()) ++it->second;
      }
    }
    return held;
  }

  /// Rows that can be scored, and answers for those that can't.
  void sort(record_batch& b, row_refs& rows, answer_set_ptr& bad, bool again_only) {
    std::vector<const record*> good;
    good.reserve(b.records.size());
    auto held = held_by_stalled(b);
    for (const record& r : b.records) {
      if (again_only && r.answered.load(std::memory_order_relaxed)) continue;
      bool park = false;
      if (r.error == error_code::none) {
        if (!held.empty())
          if (const auto it = held.find(r.model); it != held.end()) park = ++it->second > args.stalled_share;
        if (!park) {
          good.push_back(&r);
          continue;
        }
      }
      if (!bad) bad = make_answer_set();
      if (park) {
        static constexpr std::string_view why =
            "its model can't answer and holds its share of the partition's credit (models.credit_share)";
        bad->rows.add(&r);
        answer a;
        a.request = &r;
        a.code = error_code::unavailable;
        a.dead = a.parked = true;
        a.reason_begin = static_cast<std::uint32_t>(bad->text.size());
        a.reason_size = static_cast<std::uint32_t>(why.size());
        bad->text += why;
        bad->answers.push_back(a);
        continue;
      }
      bad->rows.add(&r);
      answer a;
      a.request = &r;
      a.code = r.error;
      a.dead = dead_letter(r.error, r.parsed);
      if (a.dead) {
        a.reason_begin = static_cast<std::uint32_t>(bad->text.size());
        bad->text += r.error_message;
        a.reason_size = static_cast<std::uint32_t>(r.error_message.size());
      } else {
        a.begin = static_cast<std::uint32_t>(bad->text.size());
        writer.error(bad->text, r, r.error, r.error_message);
        a.size = static_cast<std::uint32_t>(bad->text.size()) - a.begin;
      }
      bad->answers.push_back(a);
    }
    rows.add_many(good);
  }
};

using self_ptr = partition_consumer_actor::stateful_pointer<consumer_state>;

/// Requests that a version of a rollout could not even take (a feature it does not know, a missing value it
/// can't have) are its failures too.
void tell_refused(self_ptr self, const record_batch& b) {
  auto& s = self->state;
  std::uint32_t refused[3] = {};
  const model::loaded_model* of = nullptr;
  for (const record& r : b.records) {
    if (r.arm == rollout_arm::none || r.error == error_code::none || !r.model) continue;
    ++refused[static_cast<std::size_t>(r.arm)];
    of = r.model;
  }
  const model::version_split* split = of && b.models ? b.models->split_of(*of) : nullptr;
  if (!split) return;
  for (const auto arm : {rollout_arm::old_version, rollout_arm::new_version})
    if (const std::uint32_t n = refused[static_cast<std::size_t>(arm)]; n != 0)
      caf_line::send(self, s.to.keeper, scored{split->id, arm, 0, n, 0, nullptr});
}

void submit_batch(self_ptr self, record_batch& b, bool again_only) {
  auto& s = self->state;
  auto rows = std::make_shared<row_refs>();
  answer_set_ptr bad;
  s.sort(b, *rows, bad, again_only);
  if (!rows->empty()) {
    if (s.to.cache)
      caf_line::send(self, s.to.cache, submit{std::move(rows)});
    else
      caf_line::send(self, s.to.scheduler, submit{std::move(rows)});
  }
  if (bad) caf_line::send(self, s.to.producer, answers{std::move(bad)});
}

void ask_to_settle(self_ptr self) {
  auto& s = self->state;
  s.asked = caf_line::now(self);
  caf_line::send(
      self, s.to.producer,
      settle_for{s.args.queue->partition(), s.args.queue->generation(), partition_consumer_actor(self)});
}

void poll(self_ptr self) {
  auto& s = self->state;
  if (s.leaving || s.waits) return;
  if (!s.has_credit()) {
    s.stalled = true;
    return;
  }
  auto batch = batch_ptr::make();
  batch->topic = s.args.queue->topic();
  batch->partition = s.args.queue->partition();
  batch->generation = s.args.queue->generation();
  batch->arrived = caf_line::now(self);
  batch->iso_timestamps = s.args.iso_timestamps;
  batch->arrived_ms = s.wall_ms();
  batch->owner = s.port;
  const std::size_t want = std::min(s.args.poll_records, s.args.credit_records - s.in_flight);
  const std::size_t n = s.args.queue->poll(*batch, want, s.args.credit_bytes - s.in_flight_bytes);
  if (n == 0) return;
  if (s.wall_shift_ms() != 0) s.args.faults->struck(faults::kind::clock_jump);
  for (record& r : batch->records) {
    r.batch = batch.get();
    r.seq = s.ledger.add(r.offset);
    s.in_flight_bytes += bytes_of(r);
  }
  s.in_flight += n;
  batch->unfinished = static_cast<std::uint32_t>(n);
  batch->slot = s.first_slot + s.batches.size();
  if (s.args.limits) s.parser->limit(*s.args.limits);
  s.parser->parse(*batch, s.args.models->current());
  if (s.args.tracer) s.args.tracer->begin(*batch);
  s.batches.push_back(batch);
  submit_batch(self, *batch, false);
  if (!batch->records.empty() && s.to.keeper) tell_refused(self, *batch);
  if (!s.again) {  // others get their turn before the next batch
    s.again = true;
    caf_line::send(self, partition_consumer_actor(self), records_ready{});
  }
}

void leave_when_done(self_ptr self) {
  auto& s = self->state;
  if (!s.leaving || s.left) return;
  const bool clean = s.in_flight == 0;
  const nanos now = caf_line::now(self);
  const bool in_time = !s.leaving->lost && now < s.leaving->deadline;
  if (!clean && in_time && (!s.args.transactional || now < s.leaving->deadline - settle_at_most)) return;
  if (!clean && !s.waits) {
    s.waits = true;
    s.port->end();
    ask_to_settle(self);
  }
  // What is unfinished must not be committed once another member has the partition.
  if (s.args.transactional && !clean && in_time && !s.settled) return;
  s.store();
  s.left = true;
  s.args.queue->on_records({});
  s.args.metrics->partition_gone(s.args.queue->partition());  // nobody publishes it from now on
  if (s.leaving->done) s.leaving->done->set_value(clean);
  self->quit();
}

void publish(self_ptr self) {
  auto& s = self->state;
  observe::partition_line line;
  line.credit_records = s.in_flight;
  line.credit_bytes = s.in_flight_bytes;
  if (!s.batches.empty())
    line.oldest_age_seconds = static_cast<double>(caf_line::now(self) - s.batches.front()->arrived) * 1e-9;
  line.lag_records = s.args.queue->lag();
  line.lag_seconds = s.lag.seconds({s.wall_ms(), s.oldest_ms(), s.ledger.added(), line.lag_records});
  s.args.metrics->partition(s.args.queue->partition(), line);
  s.args.metrics->mailbox("partition_consumer " + std::to_string(s.args.queue->partition()),
                          caf_line::mailbox_depth(self));
}

partition_consumer_actor::behavior_type behavior(self_ptr self,
                                                 const std::shared_ptr<partition_consumer_args>& args,
                                                 const wiring& neighbours) {
  caf_line::die_of_exceptions(self);
  auto& st = self->state;
  st.args = *args;
  st.to = neighbours;
  st.parser.emplace(args->parser);
  st.ledger.reset(args->queue->generation());
  partition_consumer_actor me(self);
  st.port = std::make_shared<mailbox_port>(me);
  if (args->rewind && args->transactional) {
    st.waits = true;
    ask_to_settle(self);
  } else if (args->rewind) {
    args->queue->rewind();
  }
  args->queue->on_records([me] { caf_line::post(me, records_ready{}); });
  caf_line::send(self, me, records_ready{});
  caf_line::send_later(self, sweep, tick{});
  return {
      [self](records_ready) {
        self->state.again = false;
        poll(self);
      },
      [self](const delivered& m) {
        auto& s = self->state;
        s.finish(*m.rows);
        if (s.leaving) {
          leave_when_done(self);
        } else if (s.stalled && s.in_flight <= s.args.credit_records / 2 &&
                   s.in_flight_bytes <= s.args.credit_bytes / 2 + 1) {
          s.stalled = false;
          poll(self);
        }
      },
      [self](settled) {
        auto& s = self->state;
        if (!s.waits) return;
        if (s.leaving) {
          s.settled = true;
          return leave_when_done(self);
        }
        s.waits = false;
        s.args.queue->rewind();
        poll(self);
      },
      [self](const retire& m) {
        auto& s = self->state;
        if (s.leaving) {
          if (m.done) m.done->set_value(false);
          return;
        }
        s.leaving = m;
        leave_when_done(self);
      },
      [self](tick) {
        auto& s = self->state;
        s.store();
        publish(self);
        leave_when_done(self);
        if (s.left) return;
        if (s.waits && caf_line::now(self) - s.asked >= ask_again) ask_to_settle(self);
        if (s.stalled && s.has_credit()) s.stalled = false;
        poll(self);
        caf_line::send_later(self, sweep, tick{});
      },
      [self](const wiring& w) {
        auto& s = self->state;
        const bool lost_some =
            w.cache != s.to.cache || w.scheduler != s.to.scheduler || w.producer != s.to.producer;
        s.to = w;
        if (!lost_some) return;
        for (auto& b : s.batches)
          if (b) submit_batch(self, *b, true);
      },
      [](const crash& c) { throw std::runtime_error(c.why); },
  };
}

}  // namespace

partition_consumer_actor spawn_partition_consumer(caf_line::system& system, partition_consumer_args args,
                                                  const wiring& neighbours) {
  return system.spawn(behavior, std::make_shared<partition_consumer_args>(std::move(args)), neighbours);
}

}  // namespace troupe
