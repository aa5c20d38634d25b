#pragma once
// Who listens on a port of this machine.

#include <string>
#include <vector>

namespace troupe::cli {

struct listening_process {
  long pid = 0;
  std::string name;  ///< its program's, without the folder
};

/// Those that a server on bind:port would be in the way of. Other users' and other containers' processes are
/// not seen.
[[nodiscard]] std::vector<listening_process> listening_on(const std::string& bind, int port);

}  // namespace troupe::cli
