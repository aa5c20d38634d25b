#include "actors/breaker.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "runtime/model/model.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/notices.hpp"

namespace troupe {
namespace {

constexpr nanos sweep = 500'000'000;

struct breaker_state {
  static inline const char* name = "breaker";

  breaker_args args;
  wiring to;
  std::optional<policy::circuit> circuit;
  breaker_position told = breaker_position::closed;
};

using self_ptr = breaker_actor::stateful_pointer<breaker_state>;

breaker_position position_of(policy::circuit_state s) {
  switch (s) {
    case policy::circuit_state::open:
      return breaker_position::open;
    case policy::circuit_state::half_open:
      return breaker_position::half_open;
    case policy::circuit_state::closed:
      break;
  }
  return breaker_position::closed;
}

void tell(self_ptr self) {
  auto& s = self->state;
  caf_line::send_urgent(
      self, s.to.scheduler,
      breaker_changed{s.args.model.get(), s.told, s.args.circuit.probes, s.circuit->next_probe()});
}

/// Says to people how it stands.
void show(const breaker_state& s) {
  if (!s.args.notices) return;
  if (s.told == breaker_position::closed)
    s.args.notices->clear(s.args.name);
  else if (s.told == breaker_position::open)
    s.args.notices->raise(s.args.name, {"is open, the model keeps failing and its records wait", "next probe",
                                        s.circuit->next_probe()});
  else
    s.args.notices->raise(s.args.name, {"is half-open: the next batch probes the model", {}, 0});
}

void follow(self_ptr self) {
  auto& s = self->state;
  const auto at = position_of(s.circuit->state(caf_line::now(self)));
  if (at == s.told) return;
  s.told = at;
  show(s);
  const std::string model = std::string(s.args.model->name()) + "/" + std::string(s.args.model->version());
  s.args.metrics->breaker(model, static_cast<int>(at));
  if (at == breaker_position::open)
    observe::log(observe::level::error, "breaker", "breaker_open",
                 "the model keeps failing: its records wait until a probe succeeds", {{"model", model}});
  else
    observe::log(observe::level::warn, "breaker",
                 at == breaker_position::closed ? "breaker_closed" : "breaker_half_open",
                 at == breaker_position::closed ? "the model answers again" : "probing the model",
                 {{"model", model}});
  tell(self);
}

breaker_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<breaker_args>& args,
                                      const wiring& neighbours) {
  caf_line::die_of_exceptions(self);
  auto& st = self->state;
  st.args = *args;
  st.to = neighbours;
  st.circuit.emplace(args->circuit);
  st.args.metrics->breaker(std::string(args->model->name()) + "/" + std::string(args->model->version()), 0);
  show(st);
  tell(self);
  caf_line::send_later(self, sweep, tick{});
  return {
      [self](const outcome& m) {
        self->state.circuit->record(caf_line::now(self), m.ok, m.failed);
        follow(self);
      },
      [self](tick) {
        follow(self);
        caf_line::send_later(self, sweep, tick{});
      },
      [self](const wiring& w) {
        const bool other = w.scheduler != self->state.to.scheduler;
        self->state.to = w;
        if (other) tell(self);
      },
      [](const crash& c) { throw std::runtime_error(c.why); },
  };
}

}  // namespace

breaker_actor spawn_breaker(caf_line::system& system, breaker_args args, const wiring& neighbours) {
  return system.spawn(behavior, std::make_shared<breaker_args>(std::move(args)), neighbours);
}

}  // namespace troupe
