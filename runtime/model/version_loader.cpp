#include "runtime/model/version_loader.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "runtime/model/directory_source.hpp"
#include "runtime/model/repository.hpp"

namespace troupe::model {

struct version_loader::impl {
  explicit impl(loader_options o) : options(std::move(o)), source(options.directory) {
    first = known = source.look(true);
    watching = options.watch;
    every = options.every;
    thread = std::thread([this] { run(); });
  }

  ~impl() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    wake.notify_all();
    thread.join();
  }

  void add(std::function<void()> job) {
    {
      const std::lock_guard lock(mutex);
      jobs.push_back(std::move(job));
    }
    wake.notify_all();
  }

  void run() {
    auto next = std::chrono::steady_clock::now() + every;
    std::unique_lock lock(mutex);
    while (!stop) {
      if (!jobs.empty()) {
        const auto job = std::move(jobs.front());
        jobs.pop_front();
        lock.unlock();
        job();
        lock.lock();
        continue;
      }
      if (watching && std::chrono::steady_clock::now() >= next) {
        lock.unlock();
        look(false);
        lock.lock();
        next = std::chrono::steady_clock::now() + every;
        continue;
      }
      const bool was = watching;
      const auto before = every;
      const auto changed = [&] { return stop || !jobs.empty() || watching != was || every != before; };
      if (watching)
        wake.wait_until(lock, next, changed);
      else
        wake.wait(lock, changed);
      if (watching != was || every != before) next = std::chrono::steady_clock::now() + every;
    }
  }

  void look(bool settled) {
    model_source_update now = source.look(settled);
    std::set<std::string> problems(source.problems().begin(), source.problems().end());
    for (const auto& p : problems)
      if (!told.contains(p)) options.problem(p);
    if (options.problems && problems != told) options.problems({problems.begin(), problems.end()});
    told = std::move(problems);
    if (now == known && !settled) return;
    known = now;
    options.found(std::move(now));
  }

  void load(const version_on_disk& v) {
    try {
      auto m = load_model(v.path, v.name, v.version, options.engines, options.explain);
      const auto warm = warm_up(*m, *options.recent);
      options.loaded(v, std::move(m), warm);
    } catch (const std::exception& e) {
      options.failed(v, e.what());
    }
  }

  loader_options options;
  directory_source source;
  model_source_update first;
  model_source_update known;
  std::set<std::string> told;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void()>> jobs;
  bool watching = false;
  std::chrono::milliseconds every{};
  bool stop = false;
  std::thread thread;
};

version_loader::version_loader(loader_options options) : impl_(std::make_unique<impl>(std::move(options))) {}
version_loader::~version_loader() = default;

void version_loader::load(version_on_disk v) {
  impl_->add([this, v = std::move(v)] { impl_->load(v); });
}

void version_loader::look_now() {
  impl_->add([this] { impl_->look(true); });
}

void version_loader::watch(bool on, std::chrono::milliseconds every) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->watching = on;
    impl_->every = every;
  }
  impl_->wake.notify_all();
}

void version_loader::then(std::function<void()> job) {
  impl_->add(std::move(job));
}

model_source_update version_loader::first() const {
  return impl_->first;
}

}  // namespace troupe::model
