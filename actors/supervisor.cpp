#include "actors/supervisor.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "messages/own_thread.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/notices.hpp"
#include "runtime/policy/stuck_watch.hpp"

namespace troupe {
namespace {

using tree_id = policy::supervision_tree::id;

constexpr nanos least_patience = 200'000'000;
constexpr int hopeless = 10;  // times stuck_after: nobody can replace it and it does not come back

/// Children that are stopped and started together: the last to be started stops first, and nobody starts
/// before all have stopped.
struct restart_plan {
  nanos start_at = 0;
};

enum class standing : std::uint8_t { running, to_stop, ending, waiting };

struct child {
  std::shared_ptr<const child_spec> spec;
  caf_line::any_actor handle;  // none while it waits to be started again
  standing at = standing::waiting;
  std::shared_ptr<restart_plan> plan;  // none while it runs
  nanos end_by = 0;                    // while it is ending
  std::uint64_t restarts = 0;
  std::string last_reason;
  nanos since = 0;
  std::shared_ptr<retire> leaving;  // dismissed: its end is no crash
  std::shared_ptr<caf_line::pulse> pulse;
  std::optional<policy::stuck_watch> watch;
  nanos stuck_for = 0;
};

struct abandoned_child {
  caf_line::address who;
  std::string name;
};

double seconds(nanos n) {
  return static_cast<double>(n) * 1e-9;
}

struct supervisor_state {
  static inline const char* name = "supervisor";

  supervisor_args args;
  std::optional<policy::supervision_tree> tree;
  std::map<tree_id, child> children;
  std::set<tree_id> dismissed;  // groups whose last children are on their way out
  std::vector<abandoned_child> abandoned;
  std::mt19937_64 random;
  bool escalated = false;
  nanos began = 0;
  nanos watch_every = 0;
  nanos next_watch = 0;
  bool stopping = false;
  nanos stop_by = 0;  // when the patience with all of them is over
  std::shared_ptr<std::promise<std::vector<std::string>>> stopped;
  std::vector<std::string> left;

  ~supervisor_state() {
    for (auto& [id, c] : children) caf_line::end(c.handle);
    if (stopped) stopped->set_value(std::move(left));
  }

  std::map<tree_id, child>::iterator find(const std::string& wanted) {
    return std::find_if(children.begin(), children.end(),
                        [&](const auto& c) { return c.second.spec->name == wanted; });
  }
  std::map<tree_id, child>::iterator find(const caf_line::address& who) {
    return std::find_if(children.begin(), children.end(),
                        [&](const auto& c) { return c.second.handle && c.second.handle->address() == who; });
  }
  void forget(tree_id id) {
    const auto it = children.find(id);
    if (it == children.end()) return;
    if (it->second.stuck_for != 0) args.metrics->stuck(it->second.spec->name, false);
    if (args.notices) args.notices->clear(it->second.spec->name);
    children.erase(it);
    tree->remove(id);
    std::erase_if(dismissed, [&](tree_id group) {
      if (!tree->children(group).empty()) return false;
      tree->remove(group);
      return true;
    });
  }
  /// In the order in which they are started; one that leaves with its group is no longer among them.
  [[nodiscard]] std::vector<tree_id> in_order() const { return tree->children(); }

  [[nodiscard]] bool settled(const std::shared_ptr<restart_plan>& plan) const {
    return std::none_of(children.begin(), children.end(), [&](const auto& c) {
      return c.second.plan == plan && (c.second.at == standing::to_stop || c.second.at == standing::ending);
    });
  }
};

using self_ptr = supervisor_actor::stateful_pointer<supervisor_state>;

void crashed(self_ptr self, tree_id id, const std::string& why, bool blameless);
void go_on(self_ptr self);

void escalate(self_ptr self, const std::string& why) {
  auto& s = self->state;
  if (s.escalated) return;
  s.escalated = true;
  s.args.escalate(why);
}

void start(self_ptr self, tree_id id, bool restart, bool blameless = false) {
  auto& s = self->state;
  child& c = s.children.at(id);
  c.plan = nullptr;
  if (s.args.notices) s.args.notices->clear(c.spec->name);
  try {
    c.handle = c.spec->start(restart);
  } catch (const std::exception& e) {
    crashed(self, id, std::string("could not be started: ") + e.what(), false);
    return;
  }
  c.at = standing::running;
  c.since = caf_line::now(self);
  c.pulse = std::make_shared<caf_line::pulse>();
  if (s.watch_every != 0) c.watch.emplace(s.args.stuck_after, s.watch_every);
  caf_line::monitor(self, c.handle);
  s.args.metrics->started(c.spec->kind);
  if (restart) {
    ++c.restarts;
    s.args.metrics->restarted(c.spec->kind);
    const observe::fields which = {
        {"actor", c.spec->name}, {"reason", c.last_reason}, {"restarts", std::to_string(c.restarts)}};
    constexpr auto text = "started again after a crash";
    if (blameless)  // rows that are under suspicion end many in a row
      observe::log_every(observe::level::warn, "supervisor", "actor_restarted", 5, text, which);
    else
      observe::log(observe::level::warn, "supervisor", "actor_restarted", text, which);
  }
  const auto changed = s.args.started(*c.spec, c.handle, restart);
  if (!changed) return;
  // Whoever submits again does so at once: by then the others must know to whom their answers go.
  for (const bool submits : {false, true})
    for (auto& [other, o] : s.children)
      if (o.spec->submits() == submits) caf_line::post_urgent(o.handle, *changed);
}

/// Those who wait for this plan's time, to people.
void show(const supervisor_state& s, const std::shared_ptr<restart_plan>& plan) {
  if (!s.args.notices) return;
  for (const auto& [id, c] : s.children)
    if (c.plan == plan && !c.leaving)
      s.args.notices->raise(c.spec->name, {"is down", "next start", plan->start_at});
}

/// What the groups that gave up say, innermost first.
std::string words_of(const std::vector<std::string>& groups) {
  std::string out;
  for (const auto& g : groups) out += (out.empty() ? "" : ", ") + g;
  return out;
}

void crashed(self_ptr self, tree_id id, const std::string& why, bool blameless) {
  auto& s = self->state;
  child& c = s.children.at(id);
  const nanos now = caf_line::now(self);
  c.handle = {};
  c.last_reason = why;
  c.since = now;
  c.at = standing::waiting;
  c.plan = std::make_shared<restart_plan>();
  if (s.stopping) {
    go_on(self);
    return;
  }
  const auto d = s.tree->on_crash(id, now, blameless);
  if (d.give_up) {
    const auto& r = s.args.rules;
    std::string text = "actor " + c.spec->name + " crashed (" + why + ") and the budget of " +
                       std::to_string(r.children.intensity) +
                       (r.children.intensity == 1 ? " restart in " : " restarts in ") +
                       std::to_string(r.children.period / 1'000'000'000) + " s is spent";
    if (d.spent.size() > 1)
      text += " by group after group (" + words_of(d.spent) + "), the last within " +
              std::to_string(r.groups.period / 1'000'000'000) + " s";
    c.plan->start_at = INT64_MAX;
    if (s.args.notices)
      s.args.notices->raise(c.spec->name, {"is down, its budget of restarts is spent", {}, 0});
    escalate(self,
             text + "; see supervision.intensity and supervision.period" +
                 (d.spent.size() > 1 ? ", supervision.group_intensity and supervision.group_period" : ""));
    return;
  }
  if (blameless && d.stop.empty()) {
    start(self, id, true, true);
    return;
  }
  if (!d.spent.empty())
    observe::log(observe::level::error, "supervisor", "group_restarted",
                 "a group spent its budget of restarts: it is stopped and started again as a whole",
                 {{"group", words_of(d.spent)}, {"actor", c.spec->name}, {"reason", why}});
  auto plan = std::make_shared<restart_plan>();
  plan->start_at = now + d.after;
  // Whoever was being restarted with one of these goes with them.
  std::set<std::shared_ptr<restart_plan>> before = {c.plan};
  for (const tree_id other : d.stop) {
    child& o = s.children.at(other);
    if (o.leaving) continue;
    if (o.plan) before.insert(o.plan);
    if (o.at == standing::running) {
      o.at = standing::to_stop;
      o.last_reason = "stopped for " + c.spec->name + ": " + why;
    }
    o.plan = plan;
  }
  for (auto& [other, o] : s.children)
    if (o.plan && before.contains(o.plan)) o.plan = plan;
  show(s, plan);
  caf_line::send_later(self, d.after, tick{});
  go_on(self);
}

/// One that does not return to be ended: it goes on alone.
void leave_behind(self_ptr self, child& c, const std::string& why) {
  auto& s = self->state;
  caf_line::end(c.handle);  // when it returns
  s.abandoned.push_back({c.handle->address(), c.spec->name});
  c.handle = {};
  if (std::exchange(c.stuck_for, 0) != 0) s.args.metrics->stuck(c.spec->name, false);
  s.args.metrics->abandoned(s.abandoned.size());
  observe::log(
      observe::level::error, "supervisor", "actor_abandoned",
      "it does not come back from its work and can't be ended from outside: its thread is left alone",
      {{"actor", c.spec->name}, {"why", why}, {"abandoned", std::to_string(s.abandoned.size())}});
  if (s.abandoned.size() > s.args.max_abandoned)
    escalate(self, std::to_string(s.abandoned.size()) +
                       " threads hang in work that can't be ended, the last in " + c.spec->name + " (" + why +
                       "); see supervision.max_abandoned and models.time_limit");
}

/// Stops the next of each plan, and starts those whose plans have all stopped and whose time has come.
void go_on(self_ptr self) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  const auto order = s.in_order();
  std::set<std::shared_ptr<restart_plan>> busy;  // one of theirs is ending; children may be thousands
  for (const auto& [id, c] : s.children)
    if (c.at == standing::ending) busy.insert(c.plan);
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    child& c = s.children.at(*it);
    if (c.at != standing::to_stop || !busy.insert(c.plan).second) continue;
    c.at = standing::ending;
    // At the end of all, the patience is for all of them; whoever comes after it has still a moment.
    const nanos patience = s.stopping ? std::max(s.stop_by - now, least_patience) : s.args.patience;
    c.end_by = now + patience;
    caf_line::send_later(self, patience, tick{});
    caf_line::end(c.handle);
  }
  if (s.stopping) {
    for (const auto& [id, c] : s.children)
      if (c.at == standing::to_stop || c.at == standing::ending) return;
    self->quit();
    return;
  }
  for (const tree_id id : order) {
    const auto it = s.children.find(id);
    if (it == s.children.end() || s.escalated) continue;
    const child& c = it->second;
    if (c.at == standing::waiting && c.plan && c.plan->start_at <= now && s.settled(c.plan))
      start(self, id, true);
  }
}

/// Those who are to end and did not.
void end_patience(self_ptr self) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  bool moved = false;
  std::vector<tree_id> gone;
  for (auto& [id, c] : s.children) {
    if (c.at != standing::ending || now < c.end_by) continue;
    if (s.stopping) {
      s.left.push_back(c.spec->name);
      c.handle = {};
    } else if (c.spec->replaceable) {
      leave_behind(self, c, "it was to end");
    } else {
      continue;  // watched like any other
    }
    c.at = standing::waiting;
    moved = true;
    if (c.leaving) gone.push_back(id);
  }
  for (const tree_id id : gone) s.forget(id);
  if (moved) go_on(self);
}

void down(self_ptr self, const caf_line::ending& e) {
  auto& s = self->state;
  const auto lost = std::find_if(s.abandoned.begin(), s.abandoned.end(),
                                 [&](const abandoned_child& a) { return a.who == e.who; });
  if (lost != s.abandoned.end()) {
    observe::log(observe::level::warn, "supervisor", "actor_returned",
                 "an abandoned actor came back and ended", {{"actor", lost->name}});
    s.abandoned.erase(lost);
    s.args.metrics->abandoned(s.abandoned.size());
    return;
  }
  const auto it = s.find(e.who);
  if (it == s.children.end()) return;
  child& c = it->second;
  const tree_id id = it->first;
  if (c.leaving) {
    s.forget(id);
    go_on(self);
    return;
  }
  if (c.at == standing::to_stop || c.at == standing::ending) {
    c.handle = {};
    c.at = standing::waiting;
    c.since = caf_line::now(self);
    go_on(self);
    return;
  }
  if (e.normal) {
    s.forget(id);
    return;
  }
  if (std::exchange(c.stuck_for, 0) != 0) s.args.metrics->stuck(c.spec->name, false);
  crashed(self, id, e.why, e.of_its_work);
}

void abandon_child(self_ptr self, tree_id id, const std::string& why) {
  auto& s = self->state;
  child& c = s.children.at(id);
  leave_behind(self, c, why);
  if (c.leaving || s.stopping) {
    if (s.stopping) s.left.push_back(c.spec->name);
    s.forget(id);
    go_on(self);
    return;
  }
  if (c.at != standing::running) {  // it was to end
    c.at = standing::waiting;
    go_on(self);
    return;
  }
  c.last_reason = why;
  start(self, id, true);
}

void watch(self_ptr self) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  std::vector<tree_id> stuck;
  for (auto& [id, c] : s.children) {
    if (!c.handle || !c.watch) continue;
    const auto v = c.watch->look(now, c.pulse->answered.load(std::memory_order_acquire));
    if (v.ask != 0) caf_line::post_ping(c.handle, {v.ask, c.pulse});
    if (v.recovered) {
      s.args.metrics->stuck(c.spec->name, false);
      c.stuck_for = 0;
      observe::log(observe::level::warn, "supervisor", "actor_unstuck", "it handles messages again",
                   {{"actor", c.spec->name}});
    }
    if (v.stuck_for == 0) continue;
    if (std::exchange(c.stuck_for, v.stuck_for) == 0) {
      s.args.metrics->stuck(c.spec->name, true);
      observe::log(observe::level::error, "supervisor", "actor_stuck",
                   c.spec->replaceable
                       ? "it handles one message all this time; another takes its place"
                       : "it handles one message all this time; it can't be ended from outside",
                   {{"actor", c.spec->name},
                    {"seconds", std::to_string(v.stuck_for / 1'000'000'000)},
                    {"mailbox", std::to_string(c.pulse->depth.load(std::memory_order_relaxed))}});
    }
    stuck.push_back(id);
  }
  for (const tree_id id : stuck) {
    const auto it = s.children.find(id);
    if (it == s.children.end() || !it->second.handle) continue;
    const child& c = it->second;
    const std::string why = "stuck for " + std::to_string(c.stuck_for / 1'000'000'000) + " s";
    if (c.spec->replaceable)
      abandon_child(self, id, why);
    else if (c.stuck_for >= hopeless * s.args.stuck_after)
      escalate(self, "actor " + c.spec->name + " is " + why +
                         " and can't be replaced; see supervision.stuck_after");
  }
}

/// As for a restart, but nobody is started.
void dismiss_group(self_ptr self, tree_id group) {
  auto& s = self->state;
  auto plan = std::make_shared<restart_plan>();
  std::vector<tree_id> down;
  for (const tree_id id : s.tree->children(group)) {
    child& c = s.children.at(id);
    if (!c.handle) {
      down.push_back(id);
      continue;
    }
    if (!c.leaving) c.leaving = std::make_shared<retire>();
    if (c.at == standing::running) c.at = standing::to_stop;
    c.plan = plan;
  }
  if (s.tree->children(group).empty())
    s.tree->remove(group);
  else
    s.dismissed.insert(group);
  for (const tree_id id : down) s.forget(id);
  go_on(self);
}

tree_report report(self_ptr self) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  tree_report out;
  std::map<tree_id, std::string> names;
  for (const auto& g : s.tree->groups(now)) {
    const bool top = g.node == policy::supervision_tree::root;
    names[g.node] = g.name;
    out.groups.push_back({g.name, top ? "" : names[g.parent], std::string(to_string(g.strategy)), g.intensity,
                          seconds(g.period), g.left, g.groups_left, g.restarts,
                          seconds(now - (g.since != 0 ? g.since : s.began))});
  }
  for (const tree_id id : s.in_order()) {
    const child& c = s.children.at(id);
    out.children.push_back({c.spec->name,
                            c.spec->kind,
                            static_cast<bool>(c.handle),
                            c.restarts,
                            c.last_reason,
                            names[s.tree->parent_of(id)],
                            seconds(now - c.since),
                            seconds(c.stuck_for),
                            {}});
  }
  for (const auto& a : s.abandoned) out.abandoned.push_back(a.name);
  return out;
}

supervisor_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<supervisor_args>& args) {
  auto& st = self->state;
  st.args = *args;
  st.tree.emplace(args->name, args->rules, args->seed);
  st.random.seed(args->seed);
  st.began = caf_line::now(self);
  if (args->stuck_after > 0) {
    st.watch_every = std::clamp<nanos>(args->stuck_after / 4, 20'000'000, 5'000'000'000);
    st.next_watch = st.began + st.watch_every;
    caf_line::send_later(self, st.watch_every, tick{});
  }
  caf_line::on_down(self, [self](const caf_line::ending& e) { down(self, e); });
  return {
      [self](const supervise& m) {
        auto& s = self->state;
        if (s.stopping) return;
        const tree_id id = s.tree->add_child(s.tree->find_group(m.child->group), m.child->name);
        s.children[id].spec = m.child;
        start(self, id, false);
      },
      [self](const supervise_group& m) {
        auto& s = self->state;
        s.tree->add_group(s.tree->find_group(m.parent), m.name, *m.rules);
      },
      [self](const dismiss& m) {
        auto& s = self->state;
        const auto it = s.find(m.name);
        if (it == s.children.end()) {
          const tree_id group = s.tree->find_group(m.name);
          if (group != policy::supervision_tree::root) {
            dismiss_group(self, group);
          } else if (!m.again && !s.stopping) {
            // It overtook what was said before it: that may be where its child is announced.
            dismiss later = m;
            later.again = true;
            caf_line::send(self, supervisor_actor(self), std::move(later));
          } else if (m.how && m.how->done) {
            m.how->done->set_value(false);
          }
          return;
        }
        child& c = it->second;
        if (!c.handle) {  // waits to be started again: nothing to bring to rest
          if (m.how && m.how->done) m.how->done->set_value(false);
          s.forget(it->first);
          return;
        }
        c.leaving = m.how ? m.how : std::make_shared<retire>();
        if (m.how)
          caf_line::post_urgent(c.handle, *m.how);
        else
          caf_line::end(c.handle);
      },
      [self](const kill_child& m) {
        auto& s = self->state;
        std::vector<child*> alive;
        for (const tree_id id : s.in_order()) {
          child& c = s.children.at(id);
          if (c.handle && !c.leaving && (m.name.empty() || c.spec->name == m.name)) alive.push_back(&c);
        }
        if (alive.empty()) {
          m.killed->set_value({});
          return;
        }
        child* victim = alive[(m.seed ? m.seed : s.random()) % alive.size()];
        caf_line::post_urgent(victim->handle, crash{"injected fault"});
        m.killed->set_value(victim->spec->name);
      },
      [self](const abandon& m) {
        auto& s = self->state;
        const auto it = m.who ? s.find(m.who->address()) : s.children.end();
        if (it != s.children.end()) abandon_child(self, it->first, m.why);
      },
      [self](const report_tree& m) { m.result->set_value(report(self)); },
      [self](const stop_all& m) {
        auto& s = self->state;
        if (s.stopping) return;
        s.stopping = true;
        s.stopped = m.left;
        s.stop_by = caf_line::now(self) + m.patience;
        for (const auto& a : s.abandoned) s.left.push_back(a.name);
        auto all = std::make_shared<restart_plan>();
        for (auto& [id, c] : s.children) {
          if (c.at == standing::running && c.handle) c.at = standing::to_stop;
          c.plan = all;
        }
        go_on(self);
      },
      [self](tick) {
        auto& s = self->state;
        end_patience(self);
        if (s.stopping) return;
        go_on(self);
        if (s.watch_every == 0 || caf_line::now(self) < s.next_watch) return;
        s.next_watch = caf_line::now(self) + s.watch_every;
        watch(self);
        caf_line::send_later(self, s.watch_every, tick{});
      },
  };
}

}  // namespace

supervisor_actor spawn_supervisor(caf_line::system& system, supervisor_args args) {
  return caf_line::spawn_on_own_thread(system, behavior, std::make_shared<supervisor_args>(std::move(args)));
}

}  // namespace troupe
