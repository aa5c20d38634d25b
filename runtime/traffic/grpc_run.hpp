#pragma once
// Loads a gRPC server with unary calls whose messages are made beforehand; replies are not read. Calls are
// begun by one thread and ended by another.

#include <string>
#include <utility>
#include <vector>

#include "runtime/traffic/http_run.hpp"
#include "runtime/traffic/run.hpp"

namespace troupe::traffic {

struct grpc_target {
  std::string host;
  std::string port;
  std::string method = "/inference.GRPCInferenceService/ModelInfer";
  bool tls = false;
  tls_files files;
  std::vector<std::pair<std::string, std::string>> metadata;  ///< names in lower case
};

/// Of HOST:PORT, or http://HOST:PORT, https://HOST:PORT. Throws std::invalid_argument (one line).
[[nodiscard]] grpc_target read_grpc_address(const std::string& text);

/// Sends the messages by turns, over `connections` connections: with a rate as many calls at a time as it
/// takes, at most 100 a connection; without one a call a connection. All connections are made first; throws
/// std::runtime_error (one line) when one can't be. Error codes are the names of gRPC's statuses.
[[nodiscard]] report run_grpc(const grpc_target& to, const std::vector<std::string>& messages, const plan& p,
                              const observer& who);

}  // namespace troupe::traffic
