#include "actors/supervisor.hpp"

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "messages/own_thread.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"

namespace troupe {
namespace {

struct child {
  std::shared_ptr<const child_spec> spec;
  caf_line::any_actor handle;  // none while it waits to be started again
  std::uint64_t restarts = 0;
  std::string last_reason;
  nanos start_at = 0;
  std::shared_ptr<retire> leaving;  // dismissed: its end is no crash
  policy::restart_policy backoff;   // its own; the budget is everybody's
};

/// The delays of `config` without its budget.
policy::restart_config backoff_of(policy::restart_config config) {
  config.intensity = UINT32_MAX;
  return config;
}

struct supervisor_state {
  static inline const char* name = "supervisor";

  supervisor_args args;
  std::optional<policy::restart_policy> budget;
  std::vector<child> children;
  std::mt19937_64 random;
  bool escalated = false;

  ~supervisor_state() {
    for (auto& c : children) caf_line::end(c.handle);
  }

  child* find(const std::string& wanted) {
    const auto it = std::find_if(children.begin(), children.end(),
                                 [&](const child& c) { return c.spec->name == wanted; });
    return it == children.end() ? nullptr : &*it;
  }

  void erase(const std::string& wanted) {
    std::erase_if(children, [&](const child& c) { return c.spec->name == wanted; });
  }
};

using self_ptr = supervisor_actor::stateful_pointer<supervisor_state>;

void crashed(self_ptr self, child& c, const std::string& why);

void start(self_ptr self, child& c, bool restart) {
  auto& s = self->state;
  try {
    c.handle = c.spec->start(restart);
  } catch (const std::exception& e) {
    crashed(self, c, std::string("could not be started: ") + e.what());
    return;
  }
  caf_line::monitor(self, c.handle);
  if (restart) {
    ++c.restarts;
    s.args.metrics->restarted(c.spec->kind);
    observe::log(
        observe::level::warn, "supervisor", "actor_restarted", "started again after a crash",
        {{"actor", c.spec->name}, {"reason", c.last_reason}, {"restarts", std::to_string(c.restarts)}});
  }
  const auto changed = s.args.started(*c.spec, c.handle, restart);
  if (!changed) return;
  for (auto& other : s.children) caf_line::post_urgent(other.handle, *changed);
}

void crashed(self_ptr self, child& c, const std::string& why) {
  auto& s = self->state;
  c.handle = {};
  c.last_reason = why;
  const auto decision = s.budget->on_crash(caf_line::now(self));
  if (decision.escalate) {
    if (s.escalated) return;
    s.escalated = true;
    s.args.escalate("actor " + c.spec->name + " crashed (" + why + ") and the budget of " +
                    std::to_string(s.args.restarts.intensity) + " restarts in " +
                    std::to_string(s.args.restarts.period / 1'000'000'000) +
                    " s is spent; see supervision.intensity and supervision.period");
    return;
  }
  const nanos after = c.backoff.on_crash(caf_line::now(self)).after;
  c.start_at = caf_line::now(self) + after;
  caf_line::send_later(self, after, tick{});
}

void down(self_ptr self, const caf_line::address& who, bool normal, const std::string& why) {
  auto& s = self->state;
  const auto it = std::find_if(s.children.begin(), s.children.end(),
                               [&](const child& c) { return c.handle && c.handle->address() == who; });
  if (it == s.children.end()) return;
  if (it->leaving || normal) {
    s.children.erase(it);
    return;
  }
  crashed(self, *it, why);
}

supervisor_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<supervisor_args>& args) {
  auto& st = self->state;
  st.args = *args;
  st.budget.emplace(args->restarts, args->seed);
  st.random.seed(args->seed);
  caf_line::on_down(self, [self](const caf_line::address& who, bool normal, const std::string& why) {
    down(self, who, normal, why);
  });
  return {
      [self](const supervise& m) {
        auto& s = self->state;
        s.children.push_back({m.child,
                              {},
                              0,
                              {},
                              0,
                              nullptr,
                              policy::restart_policy(backoff_of(s.args.restarts), s.random())});
        start(self, s.children.back(), false);
      },
      [self](const dismiss& m) {
        auto& s = self->state;
        child* c = s.find(m.name);
        if (!c || !c->handle) {  // unknown, or waiting to be started again: nothing to bring to rest
          if (m.how && m.how->done) m.how->done->set_value(false);
          s.erase(m.name);
          return;
        }
        c->leaving = m.how ? m.how : std::make_shared<retire>();
        if (m.how)
          caf_line::post_urgent(c->handle, *m.how);
        else
          caf_line::end(c->handle);
      },
      [self](const kill_child& m) {
        auto& s = self->state;
        std::vector<child*> alive;
        for (auto& c : s.children)
          if (c.handle && !c.leaving && (m.name.empty() || c.spec->name == m.name)) alive.push_back(&c);
        if (alive.empty()) {
          m.killed->set_value({});
          return;
        }
        child* victim = alive[(m.seed ? m.seed : s.random()) % alive.size()];
        caf_line::post_urgent(victim->handle, crash{"injected fault"});
        m.killed->set_value(victim->spec->name);
      },
      [self](const report_tree& m) {
        std::vector<child_report> out;
        for (const auto& c : self->state.children)
          out.push_back({c.spec->name, c.spec->kind, static_cast<bool>(c.handle), c.restarts, c.last_reason});
        m.result->set_value(std::move(out));
      },
      [self](tick) {
        auto& s = self->state;
        const nanos now = caf_line::now(self);
        for (auto& c : s.children)
          if (!c.handle && !s.escalated && c.start_at <= now) start(self, c, true);
      },
  };
}

}  // namespace

supervisor_actor spawn_supervisor(caf_line::system& system, supervisor_args args) {
  return caf_line::spawn_on_own_thread(system, behavior, std::make_shared<supervisor_args>(std::move(args)));
}

}  // namespace troupe
