#include "runtime/faults/injector.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <ctime>
#include <map>
#include <thread>
#include <utility>

#include "runtime/config/units.hpp"
#include "runtime/faults/broken_link.hpp"

namespace troupe::faults {
namespace {

constexpr std::size_t slice = std::size_t{16} << 20;  // of memory that is taken at once

/// Memory that is really there. What can't be had is left.
class ballast {
 public:
  explicit ballast(std::size_t bytes) {
    for (std::size_t have = 0; have < bytes; have += slice) {
      const std::size_t n = std::min(slice, bytes - have);
      void* at =
          ::mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
      if (at == MAP_FAILED) break;
      slices_.emplace_back(at, n);
      size_ += n;
    }
  }
  ~ballast() {
    for (const auto& [at, n] : slices_) ::munmap(at, n);
  }
  ballast(const ballast&) = delete;
  ballast& operator=(const ballast&) = delete;
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::vector<std::pair<void*, std::size_t>> slices_;
  std::size_t size_ = 0;
};

/// Stops the whole process for so long: a child of it sends the two signals. Does nothing else, since only
/// what is safe in a signal handler may be called between fork and the end. False: there was no child.
bool stand_still(nanos duration) {
  const pid_t self = ::getpid();
  const timespec length{static_cast<std::time_t>(duration / 1'000'000'000),
                        static_cast<long>(duration % 1'000'000'000)};
  const pid_t child = ::fork();
  if (child < 0) return false;
  if (child == 0) {
    ::close_range(0, ~0U, 0);
    (void)::kill(self, SIGSTOP);
    timespec left = length;
    while (::nanosleep(&left, &left) != 0) {
    }
    if (::getppid() == self) (void)::kill(self, SIGCONT);
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return true;
}

broken_link::mode mode_of(kind k) {
  switch (k) {
    case kind::redis_cut:
    case kind::kafka_cut:
    case kind::registry_cut:
      return broken_link::mode::cut;
    case kind::redis_slow:
    case kind::kafka_slow:
    case kind::registry_slow:
      return broken_link::mode::slow;
    default:
      return broken_link::mode::corrupt;
  }
}

bool is_link(point p) {
  return p == point::cache || p == point::link || p == point::registry;
}

std::string_view place_of(point p) {
  return p == point::cache ? "Redis" : p == point::link ? "Kafka" : "the registry";
}

}  // namespace

struct injector::impl {
  injector_options options;
  fault_points points;
  std::map<point, std::shared_ptr<broken_link>> links;

  // What the links draw from outlives them only through this: a client may hold its link longer than the
  // node.
  std::mutex doing;  // one fault begins or ends at a time
  std::map<std::uint64_t, std::unique_ptr<ballast>> memory;
  bool stopped = false;

  std::mutex mutex;
  std::condition_variable wake;
  bool ending = false;
  bool changed = false;
  std::map<std::uint64_t, nanos> next_strike;  // of faults that strike by themselves
  std::vector<nanos> freezes;
  std::thread thread;

  explicit impl(injector_options o) : options(std::move(o)), points(options.seed) {}

  void add_link(point p, broken_link::protocol speaks) {
    links[p] = std::make_shared<broken_link>(
        speaks,
        [this, p] {
          for (const auto& k : kinds())
            if (k.at == p && is_link(p)) points.struck(k.what);
        },
        options.seed + static_cast<std::uint64_t>(p));
  }

  [[nodiscard]] std::shared_ptr<broken_link> link_at(point p) const {
    const auto it = links.find(p);
    return it == links.end() ? nullptr : it->second;
  }

  void tell(const report& r) const {
    if (options.tell) options.tell(r);
  }

  report inject(const fault& f) {
    find_target(f);
    if (f.what == kind::actor_crash && f.every == 0) return crash_once(f);
    const std::lock_guard lock(doing);
    const kind_info& of = info(f.what);
    check(f, of);
    std::unique_ptr<ballast> taken;
    if (f.what == kind::memory_pressure) {
      taken = std::make_unique<ballast>(f.size);
      if (taken->size() == 0) throw cannot_inject("memory_pressure: the system gives no memory");
    }
    const nanos began = injector::now();
    const std::uint64_t id = points.start(f, began);
    try {
      begin(id, f, of, std::move(taken));
    } catch (const std::exception& e) {
      (void)points.end(id, injector::now(), e.what());
      throw cannot_inject(std::string(of.name) + ": " + e.what());
    }
    report r{id, f, began, began + f.duration, 0, {}};
    tell(r);
    for (const auto& now : points.list())
      if (now.id == id) r.strikes = now.strikes;
    wake_thread();
    return r;
  }

  /// One that nothing here could ever meet is a mistake of whoever asks, such as a mistyped name.
  void find_target(const fault& f) const {
    if (f.what == kind::actor_crash && f.actor != "random" && options.actors) {
      const auto names = options.actors();
      if (!names.empty() && std::find(names.begin(), names.end(), f.actor) == names.end())
        throw no_such_target("actor: there is no actor " + shown(f.actor) + " on this node; " +
                             meant(f.actor, names) + "troupe tree (GET /admin/tree) lists them");
    }
    if (f.model.empty() || !options.versions) return;
    std::map<std::string, std::vector<std::string>> there;
    for (const auto& [model, version] : options.versions()) {
      auto& versions = there[model];
      if (std::find(versions.begin(), versions.end(), version) == versions.end()) versions.push_back(version);
    }
    const auto model = there.find(f.model);
    if (model == there.end()) {
      std::vector<std::string> names, with_versions;
      for (const auto& [name, versions] : there) {
        names.push_back(name);
        with_versions.push_back(name + " (" + listed(versions) + ")");
      }
      throw no_such_target(
          "model: there is no model " + shown(f.model) + " on this node; " + meant(f.model, names) +
          (names.empty() ? std::string("it has none yet") : "it has " + listed(with_versions)));
    }
    if (!f.version.empty() &&
        std::find(model->second.begin(), model->second.end(), f.version) == model->second.end())
      throw no_such_target("version: there is no version " + shown(f.version) + " of " + f.model +
                           " on this node; it has " + listed(model->second));
  }

  /// Under `doing`.
  void check(const fault& f, const kind_info& of) const {
    if (stopped) throw cannot_inject("the node is stopping");
    if (is_link(of.at)) {
      if (!link_at(of.at))
        throw cannot_inject(std::string(of.name) + ": this node has no connection to " +
                            std::string(place_of(of.at)));
      for (const auto& k : kinds())
        if (k.at == of.at)
          if (const auto id = points.active(k.what))
            throw cannot_inject(std::string(k.name) + " is active on that link: stop fault " +
                                std::to_string(id) + " first");
    }
    const bool report = of.at == point::produce;
    if ((f.what == kind::rebalance_storm || f.what == kind::clock_jump || report) && !options.kafka)
      throw cannot_inject(std::string(of.name) + ": this node has no connection to Kafka");
    if (report && !options.reports)
      throw cannot_inject(std::string(of.name) +
                          ": with kafka.delivery: exactly_once there are no reports, but transactions");
    if (f.what == kind::freeze && ::getpid() == 1)
      throw cannot_inject(
          "freeze: the kernel does not stop PID 1 of a container; run the node under an init (docker run "
          "--init, shareProcessNamespace: true)");
    if (of.at == point::process || f.what == kind::rebalance_storm)
      if (const auto id = points.active(f.what))
        throw cannot_inject(std::string(of.name) + " is active: stop fault " + std::to_string(id) + " first");
  }

  report crash_once(const fault& f) {
    const std::string victim = options.crash ? options.crash(f.actor == "random" ? "" : f.actor) : "";
    if (victim.empty())
      throw no_such_target("no actor of that name runs now (it may be restarting); /admin/tree lists them");
    fault done = f;
    done.actor = victim;
    const nanos now = injector::now();
    const std::uint64_t id = points.start(done, now);
    points.struck(id);
    tell({id, done, now, now, 1, {}});
    const auto r = points.end(id, now, "done");
    if (r) tell(*r);
    return *r;
  }

  void begin(std::uint64_t id, const fault& f, const kind_info& of, std::unique_ptr<ballast> taken) {
    if (is_link(of.at)) link_at(of.at)->begin(mode_of(f.what), f.delay, f.probability);
    if (f.what == kind::memory_pressure) points.struck(id);
    if (taken) memory[id] = std::move(taken);
    const std::lock_guard lock(mutex);
    if (f.what == kind::actor_crash || f.what == kind::rebalance_storm) next_strike[id] = injector::now();
    // Later by what the answer to whoever asked for it needs.
    if (f.what == kind::freeze) next_strike[id] = injector::now() + 100'000'000;
  }

  /// Undoes what a fault did. Under `doing`.
  void finish(const report& r) {
    const kind_info& of = info(r.what.what);
    if (is_link(of.at)) link_at(of.at)->end();
    memory.erase(r.id);
    {
      const std::lock_guard lock(mutex);
      next_strike.erase(r.id);
    }
    tell(r);
  }

  bool end(std::uint64_t id) {
    const std::lock_guard lock(doing);
    const auto r = points.end(id, injector::now());
    if (r) finish(*r);
    return r.has_value();
  }

  void wake_thread() {
    {
      const std::lock_guard lock(mutex);
      changed = true;
    }
    wake.notify_one();
  }

  // --- the thread

  void run() {
    ::pthread_setname_np(::pthread_self(), "faults");
    std::unique_lock lock(mutex);
    while (!ending) {
      auto next = points.next_end();
      for (const auto& [id, at] : next_strike) next = std::min(next.value_or(at), at);
      const auto roused = [this] { return ending || changed; };
      if (next)
        wake.wait_for(lock, std::chrono::nanoseconds(std::max<nanos>(0, *next - injector::now())), roused);
      else
        wake.wait(lock, roused);
      changed = false;
      std::vector<std::uint64_t> due;
      for (const auto& [id, at] : next_strike)
        if (at <= injector::now()) due.push_back(id);
      lock.unlock();
      for (const auto id : due) strike(id);
      {
        const std::lock_guard one(doing);
        for (const auto& r : points.sweep(injector::now())) finish(r);
      }
      lock.lock();
    }
  }

  void strike(std::uint64_t id) {
    fault f;
    nanos until = 0;
    for (const auto& r : points.list())
      if (r.id == id && r.ended.empty()) {
        f = r.what;
        until = r.until;
      }
    if (f.what == kind::actor_crash) {
      if (!options.crash(f.actor == "random" ? "" : f.actor).empty()) points.struck(id);
    } else if (f.what == kind::rebalance_storm) {
      if (options.rejoin()) points.struck(id);
    } else if (f.what == kind::freeze) {
      if (stand_still(until - injector::now())) points.struck(id);
    }
    const std::lock_guard lock(mutex);
    const auto it = next_strike.find(id);
    if (it == next_strike.end()) return;
    if (f.every > 0)
      it->second = injector::now() + f.every;
    else
      next_strike.erase(it);
  }
};

injector::injector(injector_options options) : impl_(std::make_unique<impl>(std::move(options))) {
  impl& i = *impl_;
  if (i.options.kafka) i.add_link(point::link, broken_link::protocol::kafka);
  if (i.options.redis) i.add_link(point::cache, broken_link::protocol::redis);
  if (i.options.registry) i.add_link(point::registry, broken_link::protocol::http);
  i.thread = std::thread([&i] { i.run(); });
}

injector::~injector() {
  stop();
}

fault_points& injector::points() {
  return impl_->points;
}
const limits& injector::bounds() const {
  return impl_->options.bounds;
}
std::shared_ptr<policy::socket_watch> injector::kafka() const {
  return impl_->link_at(point::link);
}
std::shared_ptr<policy::socket_watch> injector::redis() const {
  return impl_->link_at(point::cache);
}
std::shared_ptr<policy::socket_watch> injector::registry() const {
  return impl_->link_at(point::registry);
}

report injector::inject(const fault& f) {
  return impl_->inject(f);
}
void injector::check(const fault& f) const {
  impl_->find_target(f);
  const std::lock_guard lock(impl_->doing);
  impl_->check(f, info(f.what));
}
bool injector::end(std::uint64_t id) {
  return impl_->end(id);
}

std::size_t injector::end_all() {
  std::size_t n = 0;
  for (const auto& r : impl_->points.list())
    if (r.ended.empty()) n += impl_->end(r.id);
  return n;
}

std::vector<report> injector::list() const {
  return impl_->points.list();
}

nanos injector::now() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

void injector::stop() {
  {
    const std::lock_guard lock(impl_->doing);
    impl_->stopped = true;
  }
  (void)end_all();
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->wake.notify_one();
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace troupe::faults
