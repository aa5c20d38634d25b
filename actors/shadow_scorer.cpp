#include "actors/shadow_scorer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "messages/own_thread.hpp"
#include "runtime/model/model.hpp"
#include "runtime/observe/metrics.hpp"

namespace troupe {
namespace {

struct shadow_state {
  static inline const char* name = "shadow_scorer";

  shadow_scorer_args args;
  wiring to;
  // Where the new version's columns are in a row of the old one, -1: nowhere. Of the last pair.
  const model::loaded_model* from = nullptr;
  const model::loaded_model* candidate = nullptr;
  std::vector<int> columns;
  bool fits = false;

  void match(const model::loaded_model& old_one, const model::loaded_model& new_one) {
    if (from == &old_one && candidate == &new_one) return;
    from = &old_one;
    candidate = &new_one;
    columns.clear();
    const auto& features = new_one.schema().features;
    fits = old_one.schema().inputs == new_one.schema().inputs;
    if (!old_one.schema().named || !new_one.schema().named) {
      fits = fits && features.size() == old_one.schema().features.size();
      for (std::size_t i = 0; i < features.size(); ++i) columns.push_back(static_cast<int>(i));
      return;
    }
    for (const auto& f : features) {
      columns.push_back(old_one.schema().index_of(f.name));
      // What the old one's rules made of a value cannot be undone.
      const auto* before =
          columns.back() < 0 ? nullptr
                             : old_one.schema().features[static_cast<std::size_t>(columns.back())].rule.get();
      fits = fits && (columns.back() < 0 || (before ? f.rule && *before == *f.rule : !f.rule));
    }
  }
};

using self_ptr = shadow_scorer_actor::stateful_pointer<shadow_state>;

void run(self_ptr self, const shadow_work& w) {
  auto& s = self->state;
  const model::loaded_model& m = *w.candidate;
  const std::size_t width = m.schema().features.size();
  const std::size_t out_width = m.output().width;
  scored result;
  result.rollout = w.rollout;
  result.arm = rollout_arm::new_version;
  std::vector<double> values;
  std::vector<const record*> taken;
  for (const record* r : *w.rows) {
    if (r->arm == rollout_arm::none || r->rows == 0) continue;
    s.match(*r->model, m);
    const double* row = r->batch->row(*r, 0, r->model->schema().features.size());
    bool usable = s.fits;
    const std::size_t at = values.size();
    for (std::size_t i = 0; usable && i < width; ++i) {
      const double v = s.columns[i] < 0 ? std::numeric_limits<double>::quiet_NaN() : row[s.columns[i]];
      usable = !std::isnan(v) || m.schema().missing_allowed(i);
      values.push_back(v);
    }
    if (usable) {
      taken.push_back(r);
    } else {
      values.resize(at);
      ++result.failed;
    }
  }
  std::vector<const double*> rows;
  for (std::size_t i = 0; i < taken.size(); ++i) rows.push_back(values.data() + i * width);
  std::vector<double> out(taken.size() * out_width);
  auto predictions = std::make_shared<std::vector<double>>();
  if (!rows.empty()) {
    const auto begin = std::chrono::steady_clock::now();
    bool failed = false;
    try {
      m.engine().score(rows, out.data());
    } catch (const model::model_error&) {
      failed = true;
    }
    result.took =
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - begin)
            .count();
    for (std::size_t i = 0; i < taken.size(); ++i) {
      const double* o = out.data() + i * out_width;
      if (failed || !std::all_of(o, o + out_width, [](double v) { return std::isfinite(v); })) {
        ++result.failed;
        continue;
      }
      ++result.ok;
      const bool classes = m.output().kind == model::task::classification;
      predictions->push_back(classes ? static_cast<double>(std::max_element(o, o + out_width) - o) : *o);
    }
  }
  s.args.metrics->shadowed(result.ok + result.failed, 0);
  result.predictions = std::move(predictions);
  if (result.ok + result.failed != 0) caf_line::send(self, s.to.keeper, std::move(result));
}

shadow_scorer_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<shadow_scorer_args>& args,
                                            const wiring& neighbours) {
  caf_line::die_of_exceptions(self);
  self->state.args = *args;
  self->state.to = neighbours;
  if (args->modest) caf_line::be_modest();
  args->gate->waiting = 0;  // what waited for a predecessor is gone
  return {
      [self](const shadow_work& w) {
        auto& waiting = self->state.args.gate->waiting;
        std::uint32_t n = waiting.load();
        while (n != 0 && !waiting.compare_exchange_weak(n, n - 1)) {
        }
        run(self, w);
        self->state.from = self->state.candidate = nullptr;  // addresses may be others' by the next batch
      },
      [self](const wiring& w) { self->state.to = w; },
      [](const crash& c) { throw std::runtime_error(c.why); },
  };
}

}  // namespace

shadow_scorer_actor spawn_shadow_scorer(caf_line::system& system, shadow_scorer_args args,
                                        const wiring& neighbours) {
  // An engine that hangs takes its own thread with it.
  return caf_line::spawn_on_own_thread(system, behavior,
                                       std::make_shared<shadow_scorer_args>(std::move(args)), neighbours);
}

}  // namespace troupe
