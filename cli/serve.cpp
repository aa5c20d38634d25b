#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "runtime/observe/log.hpp"

namespace troupe::cli {
namespace {

std::atomic<bool> hang_up{false};

/// SIGHUP: read the configuration again, look at the models.
void reload(node& n, const common_options& common) {
  try {
    n.reload(read_settings(common, settings_for::node).values);
  } catch (const std::runtime_error& e) {  // config_error, startup_error
    std::string all = e.what();
    for (std::size_t end = 0; (end = all.find('\n', end)) != std::string::npos;) all.replace(end, 1, "; ");
    observe::log(observe::level::error, "serve", "config_refused",
                 "the configuration can't be used; what was in force stays", {{"error", all}});
  }
}

/// Says, in every door's log and not often, that no records come, or that the start waits for it.
class kafka_watch {
 public:
  void look(const std::string& awaited, const std::string& away) {
    const auto now = std::chrono::steady_clock::now();
    if (!awaited.empty()) {
      if (now - since_ < start_patience || (waits_ && now - last_ < often)) return;
      waits_ = true;
      last_ = now;
      observe::log(observe::level::warn, "serve", "kafka_awaited",
                   "not ready before Kafka has let this node in, or kafka.ready_timeout is over",
                   {{"error", awaited}});
      return;
    }
    if (away.empty()) {
      if (told_) observe::log(observe::level::info, "serve", "kafka_back", "records come again");
      told_ = false;
      since_ = now;
      return;
    }
    if (now - since_ < patience || (told_ && now - last_ < often)) return;
    told_ = true;
    last_ = now;
    observe::log(observe::level::warn, "serve", "kafka_away",
                 "no records come from Kafka; the other doors go on, and it is tried again and again",
                 {{"error", away}});
  }

 private:
  static constexpr auto start_patience = std::chrono::seconds(2);
  static constexpr auto patience = std::chrono::seconds(10);  // a group is joined in less
  static constexpr auto often = std::chrono::minutes(5);
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now(), last_{};
  bool told_ = false;
  bool waits_ = false;
};

/// Ends a start that can come to nothing. One broker of several may be behind the others: it has to last.
class refusal_watch {
 public:
  /// The reason, when it is time to give up.
  std::string look(const std::string& refused) {
    const auto now = std::chrono::steady_clock::now();
    if (refused.empty()) since_ = now;
    return now - since_ < patience ? std::string() : refused;
  }

 private:
  static constexpr auto patience = std::chrono::seconds(3);
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

}  // namespace

int serve(const serve_options& options) {
  common_options common = options.common;
  if (common.json) common.set.push_back("log.format=json");
  auto loaded = settings_of(common, false, settings_for::node);
  const auto& stop = stop_requested();
  std::signal(SIGHUP, [](int) { hang_up = true; });
  node n(std::move(loaded.values));
  constexpr auto between_looks = std::chrono::seconds(5);  // two of them, and a changed file counts
  auto next_look = std::chrono::steady_clock::now() + between_looks;
  bool was_ready = false;
  kafka_watch kafka;
  refusal_watch refusal;
  while (!stop && n.failure().empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (hang_up.exchange(false)) reload(n, common);
    if (const auto now = std::chrono::steady_clock::now(); now >= next_look) {
      next_look = now + between_looks;
      n.look_at_files();
    }
    if (const std::string why = refusal.look(n.kafka_refused()); !why.empty()) {
      std::fprintf(stderr, "troupe: Kafka: %s\n", why.c_str());
      return failed;
    }
    kafka.look(n.kafka_awaited(), n.kafka_away());
    const bool ready = n.ready();
    if (ready != was_ready) {
      was_ready = ready;
      if (ready)
        observe::log(observe::level::info, "serve", "ready", "ready");
      else
        observe::log(observe::level::warn, "serve", "not_ready", "not ready; /ready has the reason");
    }
  }
  if (const std::string why = n.failure(); !why.empty()) {
    std::fprintf(stderr, "troupe: %s\n", why.c_str());
    return failed;  // what was in flight is read again by the next process
  }
  return n.drain() ? ok : failed;
}

}  // namespace troupe::cli
