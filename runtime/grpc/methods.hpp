#pragma once
// The methods that are answered at once, from bytes to bytes: server and model state, repository, health,
// reflection.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/door/backend.hpp"
#include "runtime/grpc/status.hpp"
#include "runtime/guard/guard.hpp"

namespace troupe::rpc {

struct method {
  /// Writes the response message, or says why there is none. `who` asks; null: nobody was asked for, or may
  /// all.
  std::function<status(std::string_view request, std::string& response, const guard::client* who)> answer;
  bool blocking = false;
};

struct method_options {
  std::string server_name;
  std::string server_version;
  int max_batch_size = 0;  ///< of ModelConfig
};

/// By path: "/inference.GRPCInferenceService/ServerLive". `draining` outlives them.
[[nodiscard]] std::map<std::string, method, std::less<>> make_methods(
    std::shared_ptr<serving::backend> backend, const method_options& options,
    const std::atomic<bool>& draining);

/// As in HealthCheckResponse.
enum class health : int { unknown = 0, serving = 1, not_serving = 2, service_unknown = 3 };

[[nodiscard]] health health_of(const serving::backend& backend, bool draining, std::string_view service);
/// The service of a HealthCheckRequest; false: it is none.
[[nodiscard]] bool read_health_request(std::string_view message, std::string& service);
[[nodiscard]] std::string write_health(health state);

/// The model that a request of ModelReady, ModelMetadata, ModelConfig, ModelStatistics, RepositoryModelLoad
/// or RepositoryModelUnload names; empty: none, or it is another method.
[[nodiscard]] std::string model_named(std::string_view path, std::string_view request);

/// One answer of ServerReflectionInfo; false: it was no ServerReflectionRequest.
[[nodiscard]] bool reflect(std::string_view request, std::string& response);

}  // namespace troupe::rpc
