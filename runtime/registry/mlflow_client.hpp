#pragma once
// MLflow's model registry over its REST API (2.x and 3.x): resolve a reference, list versions, fetch files.
// Protocol: mlflow.org, "REST API", /api/2.0/mlflow; artifacts through the server's proxy
// (/api/2.0/mlflow-artifacts), or read by the server itself (/model-versions/get-artifact) when they lie in
// s3:, gs:, file: and so on.
//
// One connection is kept between calls. Not thread safe: one client a thread. Connection errors, 429, 5xx and
// downloads that stall are tried again with growing, jittered pauses, a call as long as its time budget
// lasts; not a 500 for an artifact, MLflow 2's answer for a file that is not there. Redirects are followed
// within the origin only, so credentials go nowhere else. Nothing of a credential appears in an error.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/policy/registry_watch.hpp"
#include "runtime/policy/socket_watch.hpp"

namespace troupe::registry {

enum class failure {
  unreachable,  ///< connection, time-out, 5xx: may pass
  refused,      ///< 401, 403
  not_found,    ///< no such model, version, alias, file
  bad_answer,   ///< what came is not what MLflow answers, or breaks a limit
  stopped
};

struct registry_error : std::runtime_error {
  registry_error(failure f, const std::string& what) : std::runtime_error(what), kind(f) {}
  failure kind;
};

struct client_options {
  std::string uri;  ///< http(s)://host[:port][/prefix]
  std::string username, password, token;
  std::string tls_ca;  ///< file; empty: the system's
  policy::nanos timeout =
      10 * policy::second;  ///< of a call and its repetitions; of a download without any byte
  int attempts = 3;
  policy::nanos pause = 200 * policy::millisecond;  ///< before the second attempt; then doubled
  std::size_t max_answer_bytes = std::size_t{8} << 20;
  std::uint64_t max_file_bytes = std::uint64_t{4} << 30;
  std::function<bool()> stop;  ///< polled: true ends the call with failure::stopped
  std::shared_ptr<policy::socket_watch> sockets = nullptr;  ///< null: nobody watches
};

struct version_info {
  std::string name, version, stage, status;
  std::int64_t created_ms = 0;
  std::int64_t updated_ms = 0;  ///< of its stage, tags or description too
  std::vector<std::string> aliases;
};

struct artifact {
  std::string path;
  bool directory = false;
  std::uint64_t size = 0;
};

class mlflow_client {
 public:
  /// Throws registry_error when the address can't be used.
  explicit mlflow_client(client_options options);
  ~mlflow_client();
  mlflow_client(const mlflow_client&) = delete;
  mlflow_client& operator=(const mlflow_client&) = delete;

  /// From now on, calls are tried so often.
  void attempts(int most);

  // All throw registry_error.
  [[nodiscard]] std::string server_version();
  [[nodiscard]] version_info resolve(const policy::model_reference& reference);
  /// Newest first. Aliases are filled in.
  [[nodiscard]] std::vector<version_info> versions(const std::string& name);
  /// Files beside MLmodel. nullopt: the storage can't be listed, only read through the server.
  [[nodiscard]] std::optional<std::vector<artifact>> list(const std::string& name,
                                                          const std::string& version);
  /// A small file.
  [[nodiscard]] std::string read(const std::string& name, const std::string& version,
                                 const std::string& path);
  /// Writes a new file `to`, synced; checks its size where the listing tells. Nothing is left on failure.
  void download(const std::string& name, const std::string& version, const artifact& file,
                const std::filesystem::path& to, bool size_known);

 private:
  struct impl;
  /// Newest versions first.
  [[nodiscard]] std::string search_path(const std::string& name, int most) const;
  std::unique_ptr<impl> impl_;
};

/// Whether a path from a listing or an MLmodel stays below its folder: relative, no `..`, nothing hidden.
[[nodiscard]] bool is_safe_path(std::string_view path);

}  // namespace troupe::registry
