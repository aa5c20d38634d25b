// troupe engine: the process that scores for a node (runtime/model/engine_process.hpp). Not for people.

#include <csignal>
#include <cstdio>

#include "cli/commands.hpp"
#include "runtime/model/engine_process.hpp"

namespace troupe::cli {

int engine() {
  // A node that drains still needs its engines: they end when it closes their sockets, or with it.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_IGN);
  constexpr int socket = 3;
  const int status = model::serve_engine(socket);
  if (status == bad_usage)
    std::fprintf(stderr, "troupe: engine is started by troupe serve, it has no use on its own\n");
  return status;
}

}  // namespace troupe::cli
