#include "actors/model_shard.hpp"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "actors/answering.hpp"
#include "messages/own_thread.hpp"
#include "runtime/codec/class_scores.hpp"
#include "runtime/codec/explanation.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/faults/fault_points.hpp"
#include "runtime/model/engine_process.hpp"
#include "runtime/model/input_step.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/warm_up.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/trace.hpp"

namespace troupe {
namespace {

/// Why a record has no prediction.
struct failure {
  error_code code = error_code::none;
  std::string why;
  bool poison = false;  ///< to the dead letters: it ends what scores it
  bool away = false;    ///< no engine was there: it was not tried
};

struct shard_state {
  static inline const char* name = "model_shard";

  model_shard_args args;
  wiring to;
  codec::result_writer writer;
  codec::explanation_writer explanations;
  std::vector<const double*> rows;
  std::vector<bool> answered;  // by record of a batch
  nanos offered = INT64_MIN / 2;
  std::function<nanos()> now;   // of the node
  engine_work* work = nullptr;  // of the grant at hand

  /// Before each call of the engine.
  void begins() const {
    if (work) work->began.store(now(), std::memory_order_relaxed);
  }

  [[nodiscard]] static bool is_away(const model::model_error& e) {
    return dynamic_cast<const model::engine_away*>(&e) != nullptr;
  }

  /// One record again. `died`: the batch it was in ended the process that scores; if it does so again alone,
  /// it is poison.
  failure alone(std::span<const double* const> own, double* out, bool died) {
    const auto& m = *args.model;
    begins();
    try {
      m.engine().score(own, out);
      return {};
    } catch (const model::row_error& e) {
      return {error_code::invalid_features, e.what(), false};
    } catch (const model::model_error& e) {
      tell_failed(e.what());
      const bool poison = died && dynamic_cast<const model::engine_died*>(&e) != nullptr;
      return {error_code::model_failed, e.what(), poison, is_away(e)};
    }
  }

  void tell_failed(const char* why) const {
    observe::log_every(
        observe::level::error, "model_shard", "model_failed", 10, why,
        {{"model", std::string(args.model->name())}, {"version", std::string(args.model->version())}});
  }

  /// What an injected fault does to this batch; true: it fails.
  [[nodiscard]] bool faulty() {
    const auto hit = args.faults->at(faults::point::score, args.model->name(), args.model->version());
    if (!hit || hit.what == faults::kind::shard_fail) return static_cast<bool>(hit);
    args.faults->hold(hit.id, hit.what == faults::kind::shard_hang ? -1 : hit.delay);
    return false;
  }

  /// Scores everything; `failed`: by record, those that the engine would not score even alone. Empty: none.
  nanos score(const row_refs& refs, std::vector<double>& out, std::vector<failure>& failed) {
    const auto& m = *args.model;
    const std::size_t in_width = m.schema().features.size();
    const std::size_t out_width = m.output().width;
    rows.clear();
    for (const record* r : refs)
      for (std::uint32_t i = 0; i < r->rows; ++i) rows.push_back(r->batch->row(*r, i, in_width));
    out.resize(rows.size() * out_width);
    const nanos begin = args.clock();
    begins();
    if (args.faults && faulty()) {
      constexpr auto why = "injected fault: shard_fail";
      tell_failed(why);
      failed.assign(refs.size(), {error_code::model_failed, why, false});
      return args.clock() - begin;
    }
    begins();
    try {
      m.engine().score(rows, out.data());
    } catch (const model::model_error& e) {
      const bool died = dynamic_cast<const model::engine_died*>(&e) != nullptr;
      failed.resize(refs.size());
      failure away{error_code::model_failed, e.what(), false, is_away(e)};
      std::size_t at = 0;
      for (std::size_t i = 0; i < refs.size(); ++i) {
        const std::size_t n = refs[i].rows;
        if (away.away) {  // nor would it be for the others
          failed[i] = away;
        } else {
          failed[i] =
              alone(std::span<const double* const>(rows).subspan(at, n), out.data() + at * out_width, died);
          if (failed[i].away) away = failed[i];
        }
        at += n;
      }
    }
    return args.clock() - begin;
  }
};

using self_ptr = model_shard_actor::stateful_pointer<shard_state>;

constexpr nanos offer_every = 1'000'000'000;
constexpr std::size_t sample = 64;  // predictions of a batch that are looked at for drift

/// Rollouts: what became of the requests that were given to this version as one of two.
void tell_keeper(self_ptr self, const row_refs& refs, const std::vector<bool>& answered,
                 const std::vector<double>& outputs, nanos took) {
  auto& s = self->state;
  const auto& m = *s.args.model;
  const std::size_t width = m.output().width;
  const model::model_table* table = nullptr;
  const model::version_split* split = nullptr;
  scored one;
  auto values = std::make_shared<std::vector<double>>();
  const auto tell = [&] {
    if (one.ok + one.failed == 0) return;
    one.took = took;
    if (!values->empty()) one.predictions = std::exchange(values, std::make_shared<std::vector<double>>());
    caf_line::send(self, s.to.keeper, std::exchange(one, {}));
  };
  std::size_t at = 0;
  for (std::size_t i = 0; i < refs.size(); ++i) {
    const record& r = refs[i];
    const double* out = outputs.data() + at * width;
    at += r.rows;
    if (r.arm == rollout_arm::none) continue;
    if (r.batch->models.get() != table) {
      table = r.batch->models.get();
      split = table ? table->split_of(m) : nullptr;
    }
    if (!split) continue;
    if (one.rollout != split->id || one.arm != r.arm) {
      tell();
      one.rollout = split->id;
      one.arm = r.arm;
    }
    if (!answered[i]) {
      ++one.failed;
      continue;
    }
    ++one.ok;
    if (values->size() >= sample) continue;
    const bool classes = m.output().kind == model::task::classification;
    values->push_back(classes ? static_cast<double>(std::max_element(out, out + width) - out) : *out);
  }
  tell();
}

void send_to_shadow(self_ptr self, const grant& g) {
  auto& s = self->state;
  const record& first = (*g.rows)[0];
  const auto* split = first.batch->models ? first.batch->models->split_of(*s.args.model) : nullptr;
  if (!split || split->route.strategy() != policy::rollout_strategy::shadow) return;
  if (!s.args.gate || !s.to.shadow || split->candidate == s.args.model) return;
  std::size_t n = 0;
  for (const record* r : *g.rows) n += r->arm != rollout_arm::none;
  if (n == 0) return;
  if (s.args.gate->waiting.fetch_add(1) >= shadow_gate::most) {
    s.args.gate->waiting.fetch_sub(1);
    s.args.metrics->shadowed(0, n);
    return;
  }
  caf_line::send(self, s.to.shadow, shadow_work{split->id, g.rows, split->candidate});
}

/// What a batch was to one of its requests that is traced.
void tell_score(const record& r, const grant& g, std::uint32_t rows, nanos begin, nanos end,
                error_code error) {
  const auto& m = *r.model;
  r.trace->child("score", std::max(begin, r.trace->waits_since()), end,
                 {{"troupe.model.name", std::string(m.name())},
                  {"troupe.model.version", std::string(m.version())},
                  {"troupe.model.engine", std::string(m.engine().kind())},
                  {"troupe.rows", std::int64_t{r.rows}},
                  {"troupe.batch.id", static_cast<std::int64_t>(g.id)},
                  {"troupe.batch.rows", std::int64_t{rows}},
                  {"troupe.batch.requests", static_cast<std::int64_t>(g.rows->size())}},
                 error == error_code::none ? std::string_view() : to_string(error));
}

/// Of all rows of a request: how sure a classifier is of the class that it predicts.
double confidence_of(const double* outputs, std::size_t rows, std::size_t width) {
  double sum = 0;
  for (std::size_t i = 0; i < rows; ++i, outputs += width)
    sum += codec::probability(outputs[codec::likeliest(outputs, width)]);
  return sum;
}

void run(self_ptr self, const grant& g) {
  auto& s = self->state;
  const auto& m = *s.args.model;
  const std::size_t width = m.output().width;
  const bool classifies =
      m.output().kind == model::task::classification && m.output().parts.empty() && width > 0;
  const row_refs& refs = *g.rows;
  s.work = g.work.get();
  auto outputs = std::make_shared<std::vector<double>>();
  std::vector<failure> failed;
  const nanos took = s.score(refs, *outputs, failed);
  if (s.work) s.work->began.store(0, std::memory_order_relaxed);
  const record* traced = nullptr;
  for (const record* r : refs)
    if (r->trace) traced = r;
  const nanos scored_at = traced ? traced->trace->now() : 0;

  answering out(s.writer);
  out.expect(refs.size());
  s.answered.assign(refs.size(), true);
  std::uint32_t bad = 0;    // the model's fault
  bool unanswered = false;  // any without a prediction
  std::shared_ptr<row_refs> back;
  std::size_t at = 0;
  double confidence = 0;
  std::size_t confident = 0;  // rows that it is the sum of
  for (std::size_t i = 0; i < refs.size(); ++i) {
    const record& r = refs[i];
    failure why;
    if (!failed.empty()) why = std::move(failed[i]);
    if (why.code == error_code::none &&
        !out.predicted(r, outputs->data() + at * width,
                       r.explain ? std::string_view(s.explanations.write(r)) : std::string_view()))
      why = {error_code::model_failed, "the model gave no finite prediction for this request", false};
    if (r.trace)
      tell_score(r, g, static_cast<std::uint32_t>(s.rows.size()), scored_at - took, scored_at, why.code);
    if (why.code != error_code::none) {
      bad += why.code == error_code::model_failed;
      unanswered = true;
      s.answered[i] = false;
      if (why.away && r.batch->via == door::kafka) {  // it can wait until one is
        if (!back) back = std::make_shared<row_refs>();
        back->add(&r);
        at += r.rows;
        continue;
      }
      if (why.poison)
        out.poison(r, "scoring this record ended the engine process twice: " + why.why);
      else
        out.failed(r, why.code, why.why);
    } else if (classifies) {
      confidence += confidence_of(outputs->data() + at * width, r.rows, width);
      confident += r.rows;
    }
    at += r.rows;
  }
  const auto rows = static_cast<std::uint32_t>(at);
  const bool all_failed = bad == refs.size();
  bool divided = false;
  for (const record* r : refs) divided |= r->arm != rollout_arm::none;
  if (divided) {
    tell_keeper(self, refs, s.answered, *outputs, took);
    send_to_shadow(self, g);
  }
  if (s.args.recent && m.schema().inputs.empty()) {
    const nanos now = caf_line::now(self);
    if (now - s.offered >= offer_every) {
      s.offered = now;
      s.args.recent->offer(m.name(), s.rows, m.schema().features.size());
    }
  }
  caf_line::send(self, s.to.scheduler, grant_done{s.args.id, g.id, rows, took, all_failed, std::move(back)});
  out.hand_over(took,
                [&](answer_set_ptr set) { caf_line::send(self, s.to.producer, answers{std::move(set)}); });
  if (!unanswered && s.to.cache) caf_line::send(self, s.to.cache, learned{g.rows, std::move(outputs), took});
  if (s.to.breakers) {
    const auto it = s.to.breakers->find(&m);
    if (it != s.to.breakers->end())
      caf_line::send(self, it->second, outcome{static_cast<std::uint32_t>(refs.size()) - bad, bad});
  }
  s.args.metrics->model_batch(m, rows, static_cast<double>(took) * 1e-9, bad,
                              traced ? traced->trace->id() : std::string());
  if (confident != 0) s.args.metrics->confidence(m, confidence, confident);
}

model_shard_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<model_shard_args>& args,
                                          const wiring& neighbours) {
  caf_line::die_of_exceptions(self);
  self->state.args = *args;
  self->state.to = neighbours;
  self->state.now = [self] { return caf_line::now(self); };
  if (args->modest) caf_line::be_modest();
  caf_line::send(self, neighbours.scheduler,
                 shard_idle{args->id, args->model.get(), model_shard_actor(self), args->express});
  return {
      [self](const grant& g) {
        // A scheduler that is gone: its rows are submitted to its successor, which has given its own numbers.
        if (!caf_line::sent_by(self, self->state.to.scheduler)) return;
        if (!g.on_trial) return run(self, g);
        try {
          run(self, g);
        } catch (const std::exception& e) {
          throw caf_line::died_of_its_work(e.what());
        } catch (...) {
          throw caf_line::died_of_its_work("unknown exception");
        }
      },
      [self](const wiring& w) {
        auto& s = self->state;
        const bool other = w.scheduler != s.to.scheduler;
        s.to = w;
        // A new scheduler knows no shards; it takes them as they offer themselves.
        if (other)
          caf_line::send(self, s.to.scheduler,
                         shard_idle{s.args.id, s.args.model.get(), model_shard_actor(self), s.args.express});
      },
      [](const crash& c) { throw std::runtime_error(c.why); },
  };
}

}  // namespace

nanos steady_time() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

model_shard_actor spawn_model_shard(caf_line::system& system, model_shard_args args,
                                    const wiring& neighbours) {
  // An engine that hangs takes its own thread with it, not one that others need.
  return caf_line::spawn_on_own_thread(system, behavior, std::make_shared<model_shard_args>(std::move(args)),
                                       neighbours);
}

}  // namespace troupe
