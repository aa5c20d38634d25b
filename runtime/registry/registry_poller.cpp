#include "runtime/registry/registry_poller.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "runtime/registry/mlmodel.hpp"
#include "runtime/registry/version_cache.hpp"

namespace troupe::registry {
namespace {

namespace fs = std::filesystem;
using policy::version_on_disk;

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

}  // namespace

struct registry_poller::impl {
  poller_options options;
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::condition_variable wake;
  std::thread thread;
  std::unique_ptr<mlflow_client> client;
  version_cache cache;
  policy::registry_watch watch;
  std::vector<policy::model_reference> references;
  std::map<std::string, version_on_disk> in_use;  // by reference
  std::map<std::string, std::string> known_problems;
  policy::model_source_update update;
  bool first = true;

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
  }

  [[nodiscard]] std::string origin_of(const version_info& v) const {
    return options.client.uri + "#" + std::to_string(v.created_ms);
  }

  void problem(poll_report& report, const std::string& about, const std::string& what) {
    auto& before = known_problems[about];
    if (before == what) return;
    before = what;
    report.problems.push_back(about + ": " + what);
  }

  [[nodiscard]] version_on_disk fetch(const version_info& v) {
    const std::string origin = origin_of(v);
    auto folder = cache.find(v.name, v.version, origin);
    if (!folder) folder = cache.add(v.name, v.version, origin, [&](const fs::path& into) { fill(v, into); });
    return {v.name, v.version, folder->string()};
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
          std::to_string(options.max_version_bytes));
    const fs::path to =
        into / (m.kind == flavour::onnx ? fs::path("model.onnx") : fs::path(m.file).filename());
    client->download(v.name, v.version, file, to, listed && top);
    if (m.kind == flavour::onnx && !m.features.empty()) {
      // JSON is YAML, and its quoting is safe whatever a column is called.
      write_text(into / "model.yaml", "features: " + nlohmann::json(m.features).dump() + "\n");
    }
    if (!m.input_example.empty() && (!listed || find(m.input_example))) {
      try {
        write_text(into / "input_example.json", client->read(v.name, v.version, m.input_example));
      } catch (const registry_error& e) {
        if (e.kind == failure::stopped || e.kind == failure::unreachable) throw;  // else it does without
      }
    }
  }

  /// What the last process served; its files are checked.
  void recall() {
    for (const auto& r : references) {
      const auto known = cache.recall(options.client.uri, r.text());
      if (!known) continue;
      const auto folder = cache.find(known->first, known->second, "");
      if (!folder) continue;
      version_on_disk v{known->first, known->second, folder->string()};
      if (options.verify && !options.verify(v).empty()) continue;
      watch.remember(r.text(), v.version);
      in_use[r.text()] = std::move(v);
    }
  }

  poll_report poll() {
    poll_report report;
    if (std::exchange(first, false)) recall();
    std::map<std::string, std::string> answers;
    std::map<std::string, version_info> infos;
    report.reached = true;
    for (const auto& r : references) {
      try {
        auto v = client->resolve(r);
        answers[r.text()] = v.version;
        infos[r.text()] = std::move(v);
        known_problems.erase(r.text());
      } catch (const registry_error& e) {
        if (e.kind == failure::stopped) return report;
        report.reached &= e.kind == failure::not_found;
        problem(report, r.text(), e.what());
        if (e.kind == failure::unreachable) break;  // the others would wait for it as long
      }
    }
    for (const auto& change : watch.changes(answers)) {
      const version_info& v = infos[change.reference];
      const std::string id = v.name + "/" + v.version;
      try {
        auto there = fetch(v);
        const std::string why = options.verify ? options.verify(there) : std::string();
        if (!why.empty()) throw registry_error(failure::bad_answer, why + convert_hint(v));
        in_use[change.reference] = std::move(there);
        watch.accept(change);
        cache.remember(options.client.uri, change.reference, {v.name, v.version});
        known_problems.erase(id);
      } catch (const registry_error& e) {
        if (e.kind == failure::stopped) return report;
        report.reached &= e.kind != failure::unreachable;
        if (e.kind != failure::unreachable && known_problems[id] != e.what())
          report.rejected.push_back(v.name);
        problem(report, id, e.what());
      } catch (const std::runtime_error& e) {
        problem(report, id, e.what());
      }
    }
    auto next = update_now();
    report.changed = next != update;
    update = std::move(next);
    std::set<version_cache::resolved> used;
    for (const auto& v : update.versions) used.emplace(v.name, v.version);
    cache.prune(options.cache_versions, used);
    watch.polled(report.reached, steady_now());
    return report;
  }

  /// The production version of a model is that of its first reference.
  [[nodiscard]] policy::model_source_update update_now() const {
    policy::model_source_update u;
    for (const auto& r : references) {
      const auto it = in_use.find(r.text());
      if (it == in_use.end()) continue;
      const auto& v = it->second;
      u.production.emplace(v.name, v.version);
      if (std::find(u.versions.begin(), u.versions.end(), v) == u.versions.end()) u.versions.push_back(v);
    }
    std::sort(u.versions.begin(), u.versions.end(), [](const auto& a, const auto& b) {
      return a.name != b.name ? a.name < b.name : std::stoull(a.version) < std::stoull(b.version);
    });
    return u;
  }

  void run(const listener& on_poll) {
    std::unique_lock lock(mutex);
    while (!stopping) {
      const auto wait = std::max<policy::nanos>(0, watch.next() - steady_now());
      if (wake.wait_for(lock, std::chrono::nanoseconds(wait), [this] { return stopping.load(); })) return;
      lock.unlock();
      poll_report report;
      try {
        report = poll();
      } catch (const std::exception& e) {  // the cache's disk is full, say
        report.problems.emplace_back(e.what());
        watch.polled(false, steady_now());
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

const policy::model_source_update& registry_poller::current() const {
  return impl_->update;
}

policy::version_on_disk registry_poller::fetch(const version_info& version) {
  return impl_->fetch(version);
}

void registry_poller::start(listener on_poll) {
  impl_->thread = std::thread([i = impl_.get(), on_poll = std::move(on_poll)] { i->run(on_poll); });
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
