#include "runtime/registry/registry_poller.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "runtime/registry/mlmodel.hpp"
#include "runtime/registry/version_cache.hpp"

namespace troupe::registry {
namespace {

namespace fs = std::filesystem;
using model::version_on_disk;

constexpr std::size_t most_example_rows = 64;

policy::nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void write_text(const fs::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) throw std::runtime_error(file.string() + ": cannot be written");
}

std::string convert_hint(const version_info& v) {
  return "; convert it: troupe models import models:/" + v.name + "/" + v.version + " --register";
}

/// XGBoost names its files as the user likes; what is in them tells JSON from UBJSON (ubjson.org, where a
/// key's length and its type come first) from the old binary.
const char* xgboost_file_name(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  char head[2] = {0, 0};
  in.read(head, 2);
  if (head[0] != '{') return nullptr;
  return std::string_view("iUIlL$#").find(head[1]) != std::string_view::npos ? "model.ubj" : "model.json";
}

/// Rows as the directory of models takes them: lists in the order of the features.
std::string rows_text(const example_rows& example) {
  nlohmann::json all = nlohmann::json::array();
  for (const auto& row : example.rows) {
    if (all.size() == most_example_rows) break;
    nlohmann::json one = nlohmann::json::array();
    for (const double v : row) one.push_back(std::isnan(v) ? nlohmann::json() : nlohmann::json(v));
    all.push_back(std::move(one));
  }
  return all.dump() + "\n";
}

}  // namespace

struct registry_poller::impl {
  /// What a reference stands for.
  struct usage {
    version_on_disk now;
    version_on_disk before;  // without a name: none
  };

  poller_options options;
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::condition_variable wake;
  bool soon = false;
  std::atomic<std::uint64_t> begun{0};
  std::thread thread;
  std::unique_ptr<mlflow_client> client;
  version_cache cache;
  policy::registry_watch watch;
  std::vector<policy::model_reference> references;
  std::map<std::string, usage> in_use;       // by reference
  std::map<std::string, std::string> wrong;  // by reference
  struct refusal {
    std::string why;
    policy::nanos wait = 0;  // until the next try, as it was planned last
    policy::nanos again = 0;
  };
  std::map<std::string, refusal> refused;  // by what the registry says of the version
  bool first = true;

  mutable std::mutex shown_mutex;  // guards the next two
  model::model_source_update update;
  poller_status shown;

  explicit impl(poller_options o)
      : options(std::move(o)), cache(options.cache_directory), watch(options.watch, options.seed) {
    for (const auto& text : options.references) {
      auto r = policy::parse_model_reference(text);
      if (!r)
        throw std::invalid_argument("mlflow.models: '" + text +
                                    "' is no reference; write models:/NAME/3, models:/NAME/latest, "
                                    "models:/NAME/Production or models:/NAME@champion");
      references.push_back(*r);
    }
    options.client.stop = [this] { return stopping.load(); };
    client = std::make_unique<mlflow_client>(options.client);
    update.source = source_name;
    if (!options.clock) options.clock = steady_now;
  }

  /// Tells registries apart, and a model that was deleted and made anew under the same name.
  [[nodiscard]] std::string origin_of(const version_info& v) const {
    return options.client.uri + "#" + std::to_string(v.created_ms);
  }

  void problem(poll_report& report, const std::string& reference, const std::string& what) {
    auto& before = wrong[reference];
    if (before == what) return;
    before = what;
    report.problems.push_back(reference + ": " + what);
  }

  [[nodiscard]] version_on_disk at(const std::string& name, const std::string& version,
                                   const fs::path& folder) const {
    return {name, version, folder, cache.stamp(folder)};
  }

  [[nodiscard]] version_on_disk fetch(const version_info& v) {
    const std::string origin = origin_of(v);
    auto folder = cache.find(v.name, v.version, origin);
    if (!folder) folder = cache.add(v.name, v.version, origin, [&](const fs::path& into) { fill(v, into); });
    return at(v.name, v.version, *folder);
  }

  void fill(const version_info& v, const fs::path& into) {
    const std::string id = v.name + " version " + v.version;
    const auto bad = [&](const std::string& what) {
      throw registry_error(failure::bad_answer, id + ": " + what);
    };
    const auto listed = client->list(v.name, v.version);
    const auto find = [&](const std::string& path) -> const artifact* {
      if (!listed) return nullptr;
      const auto it = std::find_if(listed->begin(), listed->end(),
                                   [&](const auto& a) { return !a.directory && a.path == path; });
      return it == listed->end() ? nullptr : &*it;
    };
    if (listed && !find("MLmodel")) bad("has no MLmodel among its files");
    const std::string text = client->read(v.name, v.version, "MLmodel");
    mlmodel m;
    try {
      m = parse_mlmodel(text);
    } catch (const std::runtime_error& e) {
      bad(e.what());
    }
    if (m.kind == flavour::none)
      bad("holds nothing that can be served without Python (flavours: " + m.others + ")" + convert_hint(v));
    write_text(into / "MLmodel", text);

    artifact file{m.file, false, 0};
    const bool top = m.file.find('/') == std::string::npos;
    if (listed && top) {
      const artifact* a = find(m.file);
      if (!a) bad("has no " + m.file + ", the file that its MLmodel names");
      file = *a;
    }
    if (file.size > options.max_version_bytes)
      bad("has " + std::to_string(file.size) + " bytes, more than the limit of " +
          std::to_string(options.max_version_bytes) + " (mlflow.max_version_bytes)");
    const fs::path fetched = into / ".fetched";
    client->download(v.name, v.version, file, fetched, listed && top);
    const char* name = "model.onnx";
    if (m.kind == flavour::skops) name = "model.skops";
    if (m.kind == flavour::lightgbm) name = "model.txt";
    if (m.kind == flavour::xgboost) name = xgboost_file_name(fetched);
    if (!name) bad("is in XGBoost's old binary format, which is not read" + convert_hint(v));
    fs::rename(fetched, into / name);
    if (m.kind == flavour::onnx && !m.features.empty()) {
      // JSON is YAML, and its quoting is safe whatever a column is called.
      write_text(into / "model.yaml", "features: " + nlohmann::json(m.features).dump() + "\n");
    }
    if (!m.input_example.empty() && (!listed || find(m.input_example))) {
      try {
        const auto example = parse_input_example(client->read(v.name, v.version, m.input_example));
        if (!example.rows.empty()) write_text(into / "input_example.json", rows_text(example));
      } catch (const registry_error& e) {
        if (e.kind == failure::stopped || e.kind == failure::unreachable) throw;
      } catch (const std::runtime_error&) {  // no rows of numbers: it does without
      }
    }
  }

  /// What the last process served; its files are checked. True when nothing is missing.
  bool recall() {
    for (const auto& r : references) {
      const auto known = cache.recall(options.client.uri, r.text());
      if (!known) continue;
      const auto folder = cache.find(known->first, known->second, "");
      if (!folder) continue;
      auto v = at(known->first, known->second, *folder);
      if (options.verify && !options.verify(v).empty()) continue;
      in_use[r.text()] = {std::move(v), {}};
    }
    return in_use.size() == references.size();
  }

  /// Another text: the registry has changed something about the version, maybe its files.
  [[nodiscard]] std::string state_of(const version_info& v) const {
    return v.name + "/" + v.version + " " + origin_of(v) + " " + std::to_string(v.updated_ms);
  }

  /// Fetches a version and tries it; `why` is why it can't be served. A refused one is not kept, since the
  /// registry may have a better one under its number; until it is time to look, nothing is fetched.
  [[nodiscard]] std::optional<version_on_disk> fetch_good(const version_info& v, const std::string& reference,
                                                          std::string& why) {
    const std::string state = state_of(v);
    const auto known = refused.find(state);
    if (known != refused.end() && options.clock() < known->second.again) {
      why = known->second.why;
      return std::nullopt;
    }
    auto there = fetch(v);
    if (in_use[reference].now == there) return there;
    why = options.verify ? options.verify(there) : std::string();
    if (why.empty()) {
      refused.erase(state);
      return there;
    }
    std::error_code error;
    if (!fs::exists(there.path / "model.onnx", error)) why += convert_hint(v);
    const bool runs = std::any_of(in_use.begin(), in_use.end(), [&](const auto& u) {
      return u.second.now == there || u.second.before == there;
    });
    if (!runs) cache.discard(there.name, there.version, there.stamp);
    refusal& r = refused[state];
    r.why = why;
    r.wait = std::min(r.wait == 0 ? options.watch.interval : 2 * r.wait, options.refusal_max);
    r.again = options.clock() + r.wait;
    return std::nullopt;
  }

  poll_report poll() {
    poll_report report;
    ++begun;
    const policy::nanos began = steady_now();
    const bool had_problems = !wrong.empty();
    if (std::exchange(first, false)) client->attempts(recall() ? 1 : options.client.attempts);
    std::map<std::string, std::string> answers;
    std::map<std::string, version_info> infos;
    report.reached = true;
    for (const auto& r : references) {
      try {
        auto v = client->resolve(r);
        answers[r.text()] = v.version + "#" + std::to_string(v.created_ms);
        infos[r.text()] = std::move(v);
      } catch (const registry_error& e) {
        if (e.kind == failure::stopped) return report;
        report.reached &= e.kind == failure::not_found;
        problem(report, r.text(), e.what());
        if (e.kind == failure::unreachable) break;  // the others would wait for it as long
      }
    }
    client->attempts(options.client.attempts);
    std::set<std::string> pending;
    for (const auto& change : watch.changes(answers)) {
      const version_info& v = infos[change.reference];
      pending.insert(change.reference);
      try {
        std::string why;
        auto there = fetch_good(v, change.reference, why);
        if (!there) {
          if (wrong[change.reference] != why) report.rejected.push_back(v.name);
          problem(report, change.reference, why);
          continue;
        }
        auto& use = in_use[change.reference];
        if (use.now != *there) use.before = std::exchange(use.now, std::move(*there));
        watch.accept(change);
        cache.remember(options.client.uri, change.reference, {v.name, v.version},
                       in_use[change.reference].now.stamp);
        pending.erase(change.reference);
      } catch (const registry_error& e) {
        if (e.kind == failure::stopped) return report;
        report.reached &= e.kind != failure::unreachable;
        if (e.kind != failure::unreachable && wrong[change.reference] != e.what())
          report.rejected.push_back(v.name);
        problem(report, change.reference, e.what());
      } catch (const std::runtime_error& e) {  // the cache's disk is full, say
        problem(report, change.reference, e.what());
      }
    }
    if (report.reached) {
      std::set<std::string> states;
      for (const auto& [reference, v] : infos) states.insert(state_of(v));
      std::erase_if(refused, [&](const auto& r) { return !states.contains(r.first); });
    }
    for (const auto& [reference, version] : answers)
      if (!pending.contains(reference)) wrong.erase(reference);
    report.recovered = had_problems && wrong.empty();
    auto next = update_now();
    report.changed = next != update;
    std::set<version_cache::resolved> used;
    for (const auto& v : next.versions) used.emplace(v.name, v.version);
    show(std::move(next), report.reached);
    cache.prune(options.cache_versions, used);
    watch.polled(report.reached, began, steady_now());
    return report;
  }

  void show(model::model_source_update next, bool reached) {
    const std::lock_guard lock(shown_mutex);
    update = std::move(next);
    shown.polls = begun;
    shown.reached = reached;
    shown.references.clear();
    for (const auto& r : references) {
      poller_status::line line{r.text(), r.name, {}, {}};
      if (const auto it = in_use.find(line.reference); it != in_use.end())
        line.version = it->second.now.version;
      if (const auto it = wrong.find(line.reference); it != wrong.end()) line.problem = it->second;
      shown.references.push_back(std::move(line));
    }
  }

  /// The production version of a model is that of its first reference.
  [[nodiscard]] model::model_source_update update_now() const {
    model::model_source_update u;
    u.source = source_name;
    std::set<std::pair<std::string, std::string>> named;
    const auto add = [&](const version_on_disk& v) {
      if (!v.name.empty() && named.emplace(v.name, v.version).second) u.versions.push_back(v);
    };
    for (const auto& r : references)
      if (const auto it = in_use.find(r.text()); it != in_use.end() && !it->second.now.name.empty()) {
        u.production.emplace(it->second.now.name, it->second.now.version);
        add(it->second.now);
      }
    for (const auto& [reference, use] : in_use) add(use.before);
    std::sort(u.versions.begin(), u.versions.end(), [](const auto& a, const auto& b) {
      return a.name != b.name ? a.name < b.name : std::stoull(a.version) < std::stoull(b.version);
    });
    return u;
  }

  void run(const listener& on_poll) {
    std::unique_lock lock(mutex);
    while (!stopping) {
      const auto wait = std::max<policy::nanos>(0, watch.next() - steady_now());
      wake.wait_for(lock, std::chrono::nanoseconds(wait), [this] { return stopping || soon; });
      if (stopping) return;
      if (std::exchange(soon, false))
        for (auto& [state, r] : refused) r.again = 0;
      lock.unlock();
      poll_report report;
      try {
        report = poll();
      } catch (const std::exception& e) {  // out of memory, or a bug: the models that run go on
        report.problems.emplace_back(e.what());
        watch.polled(false, steady_now(), steady_now());
        const std::lock_guard show(shown_mutex);
        shown.polls = begun;
      }
      if (!stopping) on_poll(update, report);
      lock.lock();
    }
  }
};

registry_poller::registry_poller(poller_options options)
    : impl_(std::make_unique<impl>(std::move(options))) {}

registry_poller::~registry_poller() {
  stop();
}

poll_report registry_poller::poll_once() {
  return impl_->poll();
}

model::model_source_update registry_poller::current() const {
  const std::lock_guard lock(impl_->shown_mutex);
  return impl_->update;
}

poller_status registry_poller::status() const {
  const std::lock_guard lock(impl_->shown_mutex);
  auto now = impl_->shown;
  now.begun = std::max(now.polls, impl_->begun.load());
  return now;
}

void registry_poller::start(listener on_poll) {
  impl_->thread = std::thread([i = impl_.get(), on_poll = std::move(on_poll)] { i->run(on_poll); });
}

std::uint64_t registry_poller::poll_soon() {
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->soon = true;
    number = impl_->begun + 1;
  }
  impl_->wake.notify_all();
  return number;
}

void registry_poller::stop() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_all();
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace troupe::registry
