#include <chrono>
#include <cstdio>
#include <thread>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "runtime/observe/log.hpp"

namespace troupe::cli {

int serve(const serve_options& options) {
  common_options common = options.common;
  if (common.json) common.set.push_back("log.format=json");
  auto loaded = settings_of(common, false);
  const auto& stop = stop_requested();
  node n(std::move(loaded.values));
  bool was_ready = false;
  while (!stop && n.failure().empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
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
