#include "actors/model_keeper.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "runtime/model/model.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"

namespace troupe {
namespace {

constexpr nanos sweep = 100'000'000;
constexpr std::size_t kept_history = 20;

using observe::level;
using state = keeper_memory::state;

std::int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string number(double v) {
  std::string text = std::to_string(v);
  while (text.find('.') != std::string::npos && (text.back() == '0' || text.back() == '.')) {
    const bool point = text.back() == '.';
    text.pop_back();
    if (point) break;
  }
  return text;
}

/// What a crash may take: the windows.
struct watch {
  policy::rollout_guard guard;
  policy::rollout_steps steps;
  std::uint64_t old_ok = 0, old_failed = 0, new_ok = 0, new_failed = 0;  // not yet in the metrics
};

struct keeper_state {
  static inline const char* name = "model_keeper";

  model_keeper_args args;
  wiring to;
  std::map<std::uint64_t, watch> watches;

  keeper_memory& memory() { return *args.memory; }

  void log(level l, std::string_view event, std::string_view text, const observe::fields& more) {
    observe::log(l, "model_keeper", event, text, more);
  }

  keeper_memory::version* find(const std::string& model, const std::string& version) {
    const auto it = memory().versions.find({model, version});
    return it == memory().versions.end() ? nullptr : &it->second;
  }

  const model::loaded_model* production_of(const std::string& model) {
    const auto it = memory().production.find(model);
    if (it == memory().production.end()) return nullptr;
    const auto* v = find(model, it->second);
    return v ? v->model.get() : nullptr;
  }

  /// The loaded version with the highest number; empty: none.
  std::string highest(const std::string& model) {
    std::string best;
    for (const auto& [key, v] : memory().versions) {
      if (key.first != model || !v.model) continue;
      const bool longer = key.second.size() != best.size();
      if (best.empty() || (longer ? key.second.size() > best.size() : key.second > best)) best = key.second;
    }
    return best;
  }

  // --- the table
  // ----------------------------------------------------------------------------------------------------------

  /// The configured one, or the one of the start. Where the start had none: the only model there is, loaded
  /// or not, so that an unload never gives a model's requests to another one.
  const std::string& default_model() {
    auto& m = memory();
    if (m.default_model.empty() && !m.versions.empty() &&
        m.versions.begin()->first.first == m.versions.rbegin()->first.first)
      m.default_model = m.versions.begin()->first.first;
    return m.default_model;
  }

  /// Puts what memory says into force.
  bool publish() {
    auto& m = memory();
    std::vector<std::shared_ptr<const model::loaded_model>> models;
    model::model_table::options how;
    how.fallback = m.fallback;
    for (const auto& [key, v] : m.versions)
      if (v.model) models.push_back(v.model);
    for (const auto& [of, version] : m.production)
      if (production_of(of)) how.production[of] = version;
    how.default_stays = true;
    how.default_model = default_model();
    for (const auto& [of, r] : m.rollouts)
      how.splits[of] = {r.id, r.spec.version, policy::route(r.spec.strategy, r.share, of), r.spec.header};
    try {
      auto table = std::make_shared<const model::model_table>(std::move(models), how);
      std::erase_if(m.tables, [](const auto& t) { return t.expired(); });
      m.tables.push_back(args.live->publish(std::move(table)));
      return true;
    } catch (const model::load_error& e) {
      log(level::error, "model_table_refused", e.what(), {});
      return false;
    }
  }

  /// After publish(): `model` is in no new table; its actors end when the old ones are gone.
  void let_go(std::shared_ptr<const model::loaded_model> model) {
    auto& m = memory();
    keeper_memory::leaving l;
    l.address = model.get();
    l.name = model->name();
    l.version = model->version();
    l.engine = model->engine().kind();
    for (const auto& t : m.tables) {
      const auto table = t.lock();
      if (table && std::find(table->all().begin(), table->all().end(), model) != table->all().end())
        l.tables.push_back(t);
    }
    l.since_ms = wall_ms();
    log(level::info, "model_unloading", "the version gets no more requests; what was given to it is answered",
        {{"model", l.name}, {"version", l.version}});
    l.model = std::move(model);
    m.left.push_back(std::move(l));
  }

  template <class Self>
  void sweep_left(Self* self) {
    auto& left = memory().left;
    for (auto it = left.begin(); it != left.end();) {
      auto& l = *it;
      if (!l.dismissed) {
        std::erase_if(l.tables, [](const auto& t) { return t.expired(); });
        if (l.tables.empty()) {
          args.stop(l.address);
          l.held = l.model->lifetime();
          l.place = l.model;
          l.model.reset();
          l.dismissed = true;
        }
        ++it;
        continue;
      }
      if (!l.held.expired()) {
        ++it;
        continue;
      }
      caf_line::send(self, to.scheduler, model_gone{l.address});
      caf_line::send(self, to.cache, model_gone{l.address});
      args.metrics->model_unloaded(l.address);
      args.gone(l.address);
      log(level::info, "model_unloaded", "the version is unloaded",
          {{"model", l.name},
           {"version", l.version},
           {"drained_ms", std::to_string(wall_ms() - l.since_ms)}});
      it = left.erase(it);
    }
  }

  // --- versions
  // -----------------------------------------------------------------------------------------------------------

  void begin_load(keeper_memory::version& v) {
    v.is = state::loading;
    v.error.clear();
    v.since_ms = wall_ms();
    log(level::info, "model_loading", "loading a version beside the others",
        {{"model", v.disk.name}, {"version", v.disk.version}, {"path", v.disk.path.string()}});
    args.load(v.disk);
  }

  void unload(keeper_memory::version& v, state then) {
    v.is = then;
    v.since_ms = wall_ms();
    auto model = std::exchange(v.model, nullptr);
    if (!model) return;
    publish();
    let_go(std::move(model));
  }

  /// The whole model goes, its production version too; that stays its production version for when it is
  /// loaded again.
  command_result unload_all(const std::string& model) {
    auto& m = memory();
    if (m.rollouts.contains(model))
      return {409, "model " + model + " is being rolled out; roll back or end it first"};
    std::vector<std::shared_ptr<const model::loaded_model>> gone;
    for (auto& [key, v] : m.versions) {
      if (key.first != model || !v.model) continue;
      v.is = state::unloaded;
      v.since_ms = wall_ms();
      gone.push_back(std::exchange(v.model, nullptr));
    }
    if (gone.empty()) return {404, "model " + model + " is not loaded"};
    publish();
    for (auto& one : gone) let_go(std::move(one));
    return {202, "unloading"};
  }

  void set_production(const std::string& model, const std::string& version, std::string_view why) {
    auto& m = memory();
    const std::string before = m.production[model];
    m.production[model] = version;
    if (before == version) return;
    if (!before.empty()) m.previous[model] = before;
    log(level::info, "production_changed", why, {{"model", model}, {"version", version}, {"before", before}});
  }

  template <class Self>
  void update(Self* self, const model::model_source_update& u) {
    auto& m = memory();
    std::map<std::pair<std::string, std::string>, const model::version_on_disk*> there;
    for (const auto& v : u.versions) there[{v.name, v.version}] = &v;
    for (const auto& [key, disk] : there) {
      auto [it, fresh] = m.versions.try_emplace(key);
      auto& v = it->second;
      if (!fresh && v.disk.stamp == disk->stamp && v.disk.path == disk->path) {
        v.source = u.source;
        continue;
      }
      v.source = u.source;
      v.disk = *disk;
      begin_load(v);
    }
    std::vector<std::pair<std::string, std::string>> lost;
    for (const auto& [key, v] : m.versions)
      if (v.source == u.source && !there.contains(key)) lost.push_back(key);
    for (const auto& key : lost) lose(self, key.first, key.second);
    for (const auto& [model, version] : u.production) {
      auto& said = m.said_by_source[u.source + "/" + model];
      if (said == version) continue;
      const auto* v = find(model, version);
      if (!v || !v->model) continue;  // once it is loaded
      said = version;
      if (const auto r = m.rollouts.find(model); r != m.rollouts.end() && r->second.spec.version == version) {
        finish(self, model, "promoted", "", "the source names it as the production version");
      } else if (r != m.rollouts.end()) {
        finish(self, model, "ended", "", "the source names another production version");
      }
      set_production(model, version, "the source names another production version");
      publish();
    }
    wanted_production_[u.source] = u.production;
  }

  /// A source no longer has it.
  template <class Self>
  void lose(Self* self, const std::string& model, const std::string& version) {
    auto& m = memory();
    auto it = m.versions.find({model, version});
    if (!it->second.model) {
      m.versions.erase(it);
      return;
    }
    if (const auto r = m.rollouts.find(model); r != m.rollouts.end()) {
      if (r->second.spec.version == version || m.production[model] == version)
        finish(self, model, "rolled_back", "removed", "a version of the rollout was removed from its source");
    }
    it->second.error.clear();  // whatever was wrong with its files, they are gone
    auto loaded = std::exchange(it->second.model, nullptr);
    if (m.production[model] == version) {
      std::string next = m.previous[model];
      const auto* known = next.empty() ? nullptr : find(model, next);
      if (!known || !known->model) next = highest(model);
      if (next.empty()) {
        it->second.model = std::move(loaded);
        it->second.source.clear();
        log(level::warn, "model_kept",
            "the last version of the model was removed from its source; it stays loaded",
            {{"model", model}, {"version", version}});
        return;
      }
      set_production(model, next, "the production version was removed from its source");
    }
    if (m.previous[model] == version) m.previous.erase(model);
    m.versions.erase(it);
    publish();
    let_go(std::move(loaded));
  }

  template <class Self>
  void loaded(Self* self, const load_ended& e) {
    auto& m = memory();
    args.metrics->model_load(e.model != nullptr);
    auto* v = find(e.version->name, e.version->version);
    if (!v || v->disk.stamp != e.version->stamp || v->is == state::unloaded) return;  // no longer wanted
    v->since_ms = wall_ms();
    if (!e.model) {
      v->is = v->model ? state::loaded : state::failed;
      v->error = e.text;
      const auto* production = production_of(v->disk.name);
      log(level::error, "model_load_failed", e.text,
          {{"model", v->disk.name},
           {"version", v->disk.version},
           {"running", v->model     ? "kept"
                       : production ? production->version()
                                    : "none"}});
      if (const std::string next = highest(v->disk.name); !production && !next.empty()) {
        m.production[v->disk.name] = next;
        publish();
      }
      return;
    }
    auto before = std::exchange(v->model, e.model);
    v->is = state::loaded;
    v->error.clear();
    args.metrics->model_loaded(*e.model);
    args.start(e.model);
    const std::string model = v->disk.name;
    const std::string version = v->disk.version;
    // A whole model that is loaded again: another version may be first.
    if (const auto* p = find(model, m.production[model]);
        !production_of(model) && (!p || p->is != state::loading))
      m.production[model] = version;
    const auto& wanted = wanted_production_[v->source];
    if (const auto w = wanted.find(model); w != wanted.end() && w->second == version) {
      m.said_by_source[v->source + "/" + model] = version;
      if (!m.rollouts.contains(model))
        set_production(model, version, "the source names it as the production version");
    }
    publish();
    log(level::info, "model_loaded", "the version is loaded and warm",
        {{"model", model},
         {"version", version},
         {"engine", std::string(e.model->engine().kind())},
         {"production", m.production[model]},
         {"warm_up", e.text}});
    if (before) let_go(std::move(before));
    begin_waiting(self);
  }

  // --- rollouts
  // -----------------------------------------------------------------------------------------------------------

  watch& watch_of(nanos now, const keeper_memory::rollout& r) {
    const auto it = watches.find(r.id);
    if (it != watches.end()) return it->second;
    policy::guard_config g = policy::guard_of(r.spec);
    if (const auto* p = production_of(r.spec.model); p && p->output().kind == model::task::classification)
      g.drift.classes = p->output().width;
    auto shares = policy::shares_of(r.spec.steps);
    std::erase_if(shares, [&](double s) { return s < r.share; });  // a successor goes on where it was
    auto& w =
        watches
            .emplace(r.id,
                     watch{policy::rollout_guard(g),
                           policy::rollout_steps(std::move(shares), r.spec.step_every, r.spec.min_samples)})
            .first->second;
    w.steps.begin(now, 0);
    return w;
  }

  template <class Self>
  command_result begin(Self* self, policy::rollout_spec spec) {
    auto& m = memory();
    spec.version = std::string(model::plain_version(spec.version));
    if (const std::string wrong = policy::complaint(spec); !wrong.empty()) return {400, wrong};
    const auto* v = find(spec.model, spec.version);
    if (!production_of(spec.model)) return {404, "model " + spec.model + " is not loaded"};
    if (!v || !v->model)
      return {404, "version " + spec.version + " of model " + spec.model + " is not loaded; load it first"};
    if (m.production[spec.model] == spec.version)
      return {409, "version " + spec.version + " is the production version already"};
    const auto& now_output = production_of(spec.model)->output();
    if (now_output.kind != v->model->output().kind || now_output.width != v->model->output().width)
      return {409, "the two versions predict different things (another task or another number of outputs)"};
    const auto running = m.rollouts.find(spec.model);
    const auto steps = policy::shares_of(spec.steps);
    const double share =
        spec.strategy == policy::rollout_strategy::blue_green ? 1
        : spec.strategy == policy::rollout_strategy::canary || spec.strategy == policy::rollout_strategy::ab
            ? (steps.empty() ? spec.percent / 100 : steps.front())
            : 0;
    if (running != m.rollouts.end()) {
      auto& r = running->second;
      if (r.spec.version == spec.version && r.spec.strategy == spec.strategy && spec.steps.empty() &&
          r.spec.steps.empty()) {  // another share or other bounds: it goes on
        const bool same_bounds = [&] {
          auto a = r.spec;
          a.percent = spec.percent;
          a.header = spec.header;
          return a == spec;
        }();
        r.spec = spec;
        r.share = share;
        r.said = false;
        if (!same_bounds) watches.erase(r.id);
        publish();
        log(level::info, "rollout_changed", "the rollout goes on with other values",
            {{"model", spec.model}, {"version", spec.version}, {"share", number(share)}});
        return {200, "changed"};
      }
      finish(self, spec.model, "ended", "", "another rollout of the model was begun");
    }
    keeper_memory::rollout r;
    r.id = m.next_id++;
    r.spec = spec;
    r.share = share;
    r.since_ms = wall_ms();
    m.rollouts[spec.model] = r;
    for (const auto reason : policy::rollback_reasons)
      args.metrics->may_roll_back(spec.model, std::string(policy::to_string(reason)));
    if (!publish()) {
      m.rollouts.erase(spec.model);
      return {409, "the rollout can't be put into force; the log has the reason"};
    }
    (void)watch_of(caf_line::now(self), r);
    log(level::info, "rollout_started", "a new version is rolled out",
        {{"model", spec.model},
         {"version", spec.version},
         {"against", m.production[spec.model]},
         {"strategy", std::string(policy::to_string(spec.strategy))},
         {"share", number(share)}});
    return {200, "started"};
  }

  template <class Self>
  rollout_report describe(Self* self, const keeper_memory::rollout& r) {
    const nanos now = caf_line::now(self);
    auto& w = watch_of(now, r);
    rollout_report out;
    out.model = r.spec.model;
    out.strategy = policy::to_string(r.spec.strategy);
    out.share = r.share;
    out.since_ms = r.since_ms;
    const auto side = [&](policy::arm who, std::string version) {
      const auto read = w.guard.read(now, who);
      return side_report{std::move(version), read.requests, read.failed,
                         static_cast<double>(read.p95) * 1e-9};
    };
    out.old_side = side(policy::arm::old_version, memory().production[r.spec.model]);
    out.new_side = side(policy::arm::new_version, r.spec.version);
    if (const auto d = w.guard.drifted()) {
      out.psi = d->psi;
      out.psi_noise = d->noise;
    }
    return out;
  }

  /// The rollout of the model is over; the caller says which version answers and publishes.
  template <class Self>
  void finish(Self* self, const std::string& model, const std::string& how, const std::string& reason,
              const std::string& text) {
    auto& m = memory();
    const auto it = m.rollouts.find(model);
    if (it == m.rollouts.end()) return;
    rollout_report r = describe(self, it->second);
    r.ended = how;
    r.reason = reason;
    r.text = text;
    r.ended_ms = wall_ms();
    flush_counts(it->second);
    watches.erase(it->second.id);
    m.rollouts.erase(it);
    args.metrics->rollout_gone(model);
    observe::fields more = {{"model", model},
                            {"version", r.new_side.version},
                            {"against", r.old_side.version},
                            {"after_ms", std::to_string(r.ended_ms - r.since_ms)}};
    if (how == "rolled_back") {
      args.metrics->rolled_back(model, reason);
      more.emplace_back("reason", reason);
      log(level::warn, "rollout_rolled_back", text, more);
    } else if (how == "ended") {
      log(level::info, "rollout_ended", text, more);
    }
    m.history.insert(m.history.begin(), std::move(r));
    if (m.history.size() > kept_history) m.history.resize(kept_history);
  }

  template <class Self>
  command_result promote(Self* self, const std::string& model, std::string version) {
    auto& m = memory();
    if (!production_of(model)) return {404, "model " + model + " is not loaded"};
    const auto running = m.rollouts.find(model);
    if (version.empty() && running != m.rollouts.end()) version = running->second.spec.version;
    if (version.empty()) return {400, "no rollout of model " + model + " runs: name the version"};
    const auto* v = find(model, version);
    if (!v || !v->model) return {404, "version " + version + " of model " + model + " is not loaded"};
    if (m.production[model] == version)
      return {409, "version " + version + " is the production version already"};
    if (running != m.rollouts.end())
      finish(self, model, running->second.spec.version == version ? "promoted" : "ended", "", "promoted");
    set_production(model, version, "promoted");
    publish();
    args.metrics->promoted(model);
    log(level::info, "model_promoted", "the version answers all requests that name none",
        {{"model", model}, {"version", version}, {"before", m.previous[model]}});
    return {200, "version " + version + " is the production version"};
  }

  template <class Self>
  command_result roll_back(Self* self, const std::string& model, const std::string& reason,
                           const std::string& text) {
    auto& m = memory();
    if (m.rollouts.contains(model)) {
      finish(self, model, "rolled_back", reason, text);
      publish();
      return {200, "version " + m.production[model] + " answers all requests that name none"};
    }
    if (!production_of(model)) return {404, "model " + model + " is not loaded"};
    const auto before = m.previous.find(model);
    const auto* v = before == m.previous.end() ? nullptr : find(model, before->second);
    if (!v || !v->model) {
      std::string others;
      for (const auto& [key, one] : m.versions)
        if (key.first == model && one.model && key.second != m.production[model])
          others += (others.empty() ? "" : ", ") + key.second;
      return {409, "no rollout of model " + model + " runs, and " +
                       (before == m.previous.end() || before->second.empty()
                            ? "no version that answered before version " + m.production[model] + " is known"
                            : "version " + before->second + ", the one before, is not loaded") +
                       (others.empty() ? "; no other version is loaded"
                                       : "; to go to another one (loaded: " + others +
                                             "): troupe models promote " + model + " VERSION")};
    }
    const std::string left = m.production[model];
    set_production(model, std::string(before->second), "rolled back");
    publish();
    args.metrics->rolled_back(model, reason);
    log(level::warn, "rollout_rolled_back", text,
        {{"model", model}, {"version", left}, {"against", m.production[model]}, {"reason", reason}});
    return {200, "version " + m.production[model] + " answers all requests that name none"};
  }

  /// Configured rollouts whose version was not there yet.
  template <class Self>
  void begin_waiting(Self* self) {
    auto specs = std::exchange(memory().waiting, {});
    for (auto& spec : specs) {
      const auto* v = find(spec.model, std::string(model::plain_version(spec.version)));
      if (!v || !v->model || !production_of(spec.model)) {
        memory().waiting.push_back(std::move(spec));
        continue;
      }
      const auto result = begin(self, spec);
      if (result.status != 200)
        log(level::warn, "rollout_refused", result.text, {{"model", spec.model}, {"version", spec.version}});
    }
  }

  template <class Self>
  void configure(Self* self, const std::vector<policy::rollout_spec>& specs) {
    auto& m = memory();
    for (const auto& before : m.configured) {
      const bool kept =
          std::any_of(specs.begin(), specs.end(), [&](const auto& s) { return s.model == before.model; });
      const auto r = m.rollouts.find(before.model);
      if (!kept && r != m.rollouts.end() && r->second.spec.version == model::plain_version(before.version)) {
        finish(self, before.model, "ended", "", "it was taken out of the configuration");
        publish();
      }
    }
    m.waiting.clear();
    for (const auto& s : specs)
      if (std::find(m.configured.begin(), m.configured.end(), s) == m.configured.end())
        m.waiting.push_back(s);
    m.configured = specs;
    begin_waiting(self);
    for (const auto& s : m.waiting)
      log(level::info, "rollout_waiting", "the rollout begins when its version is loaded",
          {{"model", s.model}, {"version", s.version}});
  }

  void flush_counts(const keeper_memory::rollout& r) {
    const auto it = watches.find(r.id);
    if (it == watches.end()) return;
    auto& w = it->second;
    args.metrics->rollout_requests(r.spec.model, false, std::exchange(w.old_ok, 0),
                                   std::exchange(w.old_failed, 0));
    args.metrics->rollout_requests(r.spec.model, true, std::exchange(w.new_ok, 0),
                                   std::exchange(w.new_failed, 0));
  }

  void count(nanos now, const scored& s) {
    for (const auto& [model, r] : memory().rollouts) {
      if (r.id != s.rollout) continue;
      auto& w = watch_of(now, r);
      w.guard.record(now, s.arm, s.ok, s.failed, s.took);
      if (s.predictions)
        for (const double v : *s.predictions) w.guard.predicted(s.arm, v);
      const bool fresh = s.arm == rollout_arm::new_version;
      (fresh ? w.new_ok : w.old_ok) += s.ok;
      (fresh ? w.new_failed : w.old_failed) += s.failed;
    }
  }

  /// The new version can't answer while the old one does: the more of its requests are refused or wait, the
  /// fewer samples there are to judge it by.
  [[nodiscard]] std::optional<policy::verdict> stalled(const keeper_memory::rollout& r) {
    const auto* v = find(r.spec.model, r.spec.version);
    const auto* production = production_of(r.spec.model);
    if (!args.stalls || !v || !v->model || !production || args.stalls->of(production)) return std::nullopt;
    const auto stall = args.stalls->of(v->model.get());
    if (!stall) return std::nullopt;
    return policy::verdict{
        policy::rollback_reason::unavailable,
        "it can't answer: " +
            (stall->hung != 0 ? model::why_hung(*stall) : "it keeps failing, its breaker is open")};
  }

  template <class Self>
  void judge(Self* self) {
    const nanos now = caf_line::now(self);
    std::vector<std::string> models;
    for (const auto& [model, r] : memory().rollouts) models.push_back(model);
    for (const auto& model : models) {
      auto& r = memory().rollouts.at(model);
      auto& w = watch_of(now, r);
      flush_counts(r);
      const auto drifted = w.guard.drifted();
      args.metrics->rollout(model, r.spec.version, std::string(policy::to_string(r.spec.strategy)), r.share,
                            drifted ? drifted->psi : 0);
      auto verdict = w.guard.judge(now);
      if (!verdict) verdict = stalled(r);
      if (verdict) {
        const std::string reason(policy::to_string(verdict->reason));
        if (r.spec.automatic) {
          (void)roll_back(self, model, reason, verdict->text);
        } else if (!std::exchange(r.said, true)) {
          log(level::warn, "rollout_out_of_bounds", verdict->text,
              {{"model", model}, {"version", r.spec.version}, {"reason", reason}});
        }
        continue;
      }
      const auto move = w.steps.due(now, w.guard.new_requests());
      if (!move) continue;
      if (move->promote) {
        (void)promote(self, model, r.spec.version);
        continue;
      }
      r.share = move->share;
      publish();
      log(level::info, "rollout_step", "the share of the new version grows",
          {{"model", model}, {"version", r.spec.version}, {"share", number(r.share)}});
    }
  }

  // --- commands and reports
  // -----------------------------------------------------------------------------------------------

  template <class Self>
  command_result run(Self* self, const model_command& c) {
    const std::string version(model::plain_version(c.version));
    auto& m = memory();
    switch (c.op) {
      case model_command::what::rollout:
        return c.spec ? begin(self, *c.spec) : command_result{400, "no rollout is named"};
      case model_command::what::promote:
        return promote(self, c.model, version);
      case model_command::what::rollback:
        return roll_back(self, c.model, "asked", "rolled back as asked");
      case model_command::what::end:
        if (!m.rollouts.contains(c.model)) return {409, "no rollout of model " + c.model + " runs"};
        finish(self, c.model, "ended", "", "ended as asked");
        publish();
        return {200, "ended"};
      case model_command::what::load: {
        if (c.model.empty() || version.empty()) return {400, "name the model and the version"};
        if (c.model.find('/') != std::string::npos || c.model[0] == '.' ||
            version.find_first_not_of("0123456789") != std::string::npos)
          return {400, "a model is named by its folder, a version by its number"};
        auto* v = find(c.model, version);
        if (v && v->is == state::loading) return {202, "it is being loaded"};
        if (v && v->model) return {409, "version " + version + " of model " + c.model + " is loaded"};
        if (!v) {
          v = &m.versions[{c.model, version}];
          v->disk = {c.model, version, args.directory / c.model / version, 0};
          std::error_code error;
          if (!std::filesystem::is_directory(v->disk.path, error)) {
            const auto other = args.directory / c.model / ("v" + version);
            if (!std::filesystem::is_directory(other, error)) {
              const std::string path = v->disk.path.string();
              m.versions.erase({c.model, version});
              return {404, path + " is no folder"};
            }
            v->disk.path = other;
          }
        }
        begin_load(*v);
        return {202, "loading"};
      }
      case model_command::what::unload: {
        if (version.empty()) return unload_all(c.model);
        auto* v = find(c.model, version);
        if (!v || !v->model) return {404, "version " + version + " of model " + c.model + " is not loaded"};
        if (m.production[c.model] == version)
          return {409, "version " + version + " is the production version; promote another one first"};
        if (const auto r = m.rollouts.find(c.model);
            r != m.rollouts.end() && r->second.spec.version == version)
          return {409, "version " + version + " is being rolled out; roll back first"};
        if (const auto p = m.previous.find(c.model); p != m.previous.end() && p->second == version)
          m.previous.erase(p);
        unload(*v, state::unloaded);
        return {202, "unloading"};
      }
    }
    return {400, "unknown command"};
  }

  template <class Self>
  void report(Self* self) {
    auto& m = memory();
    models_report out;
    std::vector<observe::metrics::model_line> lines;
    for (const auto& [key, v] : m.versions) {
      version_report one;
      one.model = key.first;
      one.version = key.second;
      one.error = v.error;
      one.since_ms = v.since_ms;
      constexpr const char* names[] = {"loading", "failed", "unloaded", "loaded"};
      one.state = names[static_cast<std::size_t>(v.is)];
      if (v.model) {
        const auto r = m.rollouts.find(key.first);
        const bool production = m.production[key.first] == key.second;
        const bool candidate = r != m.rollouts.end() && r->second.spec.version == key.second;
        if (v.is == state::loaded) one.state = production ? "production" : candidate ? "candidate" : "loaded";
        const double share = r == m.rollouts.end() ? 0 : r->second.share;
        one.share = production ? 1 - share : candidate ? share : 0;
        one.engine = v.model->engine().kind();
        const auto use = args.metrics->use_of(v.model.get());
        one.rows = use.rows;
        one.errors = use.failed;
        one.latency_seconds = use.latency_seconds;
      }
      lines.push_back({one.model, one.version, one.state, one.engine});
      out.versions.push_back(std::move(one));
    }
    for (const auto& l : m.left) {
      version_report one;
      one.model = l.name;
      one.version = l.version;
      one.state = "draining";
      one.engine = l.engine;
      one.since_ms = l.since_ms;
      const observe::metrics::model_line line{one.model, one.version, one.state, one.engine};
      if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
      out.versions.push_back(std::move(one));
    }
    for (const auto& [model, r] : m.rollouts) out.rollouts.push_back(describe(self, r));
    out.history = m.history;
    args.metrics->models(lines);
    args.memory->show(std::move(out));
  }

  /// What the node loaded at its start.
  void adopt() {
    auto& m = memory();
    if (std::exchange(m.begun, true)) return;
    const auto table = args.live->current();
    for (const auto& one : table->all()) {
      auto& v =
          m.versions[{one->name(), one->version()}];  // disk and source are there when a source named it
      if (v.disk.name.empty()) v.disk = {one->name(), one->version(), one->path().parent_path(), 0};
      v.model = one;
      v.is = state::loaded;
      v.since_ms = wall_ms();
      if (m.production[one->name()].empty())
        m.production[one->name()] = table->find(one->name(), "").model->version();
    }
    (void)default_model();
  }

 private:
  std::map<std::string, std::map<std::string, std::string>> wanted_production_;  // by source, then model
};

using self_ptr = model_keeper_actor::stateful_pointer<keeper_state>;

model_keeper_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<model_keeper_args>& args,
                                           const wiring& neighbours) {
  caf_line::die_of_exceptions(self);
  auto& st = self->state;
  st.args = *args;
  st.to = neighbours;
  const bool again = st.memory().begun;
  st.adopt();
  if (again) {  // what was on its way to a predecessor is lost
    for (auto& [key, v] : st.memory().versions)
      if (v.is == state::loading) st.begin_load(v);
    if (st.args.look) st.args.look();
  }
  st.begin_waiting(self);
  st.report(self);
  caf_line::send_later(self, sweep, tick{});
  return {
      [self](const source_changed& m) {
        self->state.update(self, *m.update);
        self->state.report(self);
      },
      [self](const load_ended& m) {
        self->state.loaded(self, m);
        self->state.report(self);
      },
      [self](const model_command& m) {
        auto result = self->state.run(self, m);
        self->state.report(self);
        if (m.result) m.result->set_value(std::move(result));
      },
      [self](const model_settings& m) {
        auto& s = self->state;
        auto& mem = s.memory();
        if (mem.default_model != m.default_model || mem.fallback != m.fallback) {
          mem.default_model = m.default_model;
          mem.fallback = m.fallback;
          s.publish();
        }
        if (m.rollouts) s.configure(self, *m.rollouts);
        s.report(self);
      },
      [self](const scored& m) { self->state.count(caf_line::now(self), m); },
      [self](tick) {
        auto& s = self->state;
        s.judge(self);
        s.sweep_left(self);
        s.report(self);
        caf_line::send_later(self, sweep, tick{});
      },
      [self](const wiring& w) { self->state.to = w; },
      [](const crash& c) { throw std::runtime_error(c.why); },
  };
}

}  // namespace

model_keeper_actor spawn_model_keeper(caf_line::system& system, model_keeper_args args,
                                      const wiring& neighbours) {
  return system.spawn(behavior, std::make_shared<model_keeper_args>(std::move(args)), neighbours);
}

}  // namespace troupe
