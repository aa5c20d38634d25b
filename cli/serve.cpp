#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
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
    n.reload(read_settings(common).values);
  } catch (const std::runtime_error& e) {  // config_error, kafka::property_error
    observe::log(observe::level::error, "serve", "config_refused",
                 "the configuration can't be used; what was in force stays", {{"error", e.what()}});
  }
}

}  // namespace

int serve(const serve_options& options) {
  common_options common = options.common;
  if (common.json) common.set.push_back("log.format=json");
  auto loaded = settings_of(common, false);
  const auto& stop = stop_requested();
  std::signal(SIGHUP, [](int) { hang_up = true; });
  node n(std::move(loaded.values));
  bool was_ready = false;
  while (!stop && n.failure().empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (hang_up.exchange(false)) reload(n, common);
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
