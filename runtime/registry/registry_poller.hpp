#pragma once
// Keeps the versions that the configured references name on disk, and says when they change.
//
//   poll_once()  asks the registry, fetches what is new, checks it, and makes an update of what is in use
//   start()      does so on a thread of its own, every interval, and calls back after a change
//
// A version that can't be fetched or loaded does not replace the one in use: the reason is reported, once a
// version. While the registry is away, and at a start without it, what the cache remembers is used.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/policy/model_source.hpp"
#include "runtime/registry/mlflow_client.hpp"

namespace troupe::registry {

struct poller_options {
  client_options client;
  std::vector<std::string> references;
  std::string cache_directory = "models/.registry";
  std::size_t cache_versions = 5;                            ///< of a model
  std::uint64_t max_version_bytes = std::uint64_t{8} << 30;  ///< all files of a version
  policy::watch_config watch;
  std::uint64_t seed = 1;
  /// Whether a version can be served: empty, or why not. On the poller's thread.
  std::function<std::string(const policy::version_on_disk&)> verify;
};

struct poll_report {
  bool reached = false;               ///< every reference was answered, were it with an error
  bool changed = false;               ///< the update differs from the last one
  std::vector<std::string> problems;  ///< new ones; one line each
  std::vector<std::string> rejected;  ///< models of which a version was refused now
};

class registry_poller {
 public:
  /// Throws registry_error for an address, std::invalid_argument for a reference, std::runtime_error for the
  /// cache.
  explicit registry_poller(poller_options options);
  ~registry_poller();
  registry_poller(const registry_poller&) = delete;
  registry_poller& operator=(const registry_poller&) = delete;

  poll_report poll_once();
  /// What is in use. Not beside a poll_once() on another thread.
  [[nodiscard]] const policy::model_source_update& current() const;
  /// Puts one version on disk, cached or fetched. Throws registry_error, std::runtime_error.
  [[nodiscard]] policy::version_on_disk fetch(const version_info& version);

  using listener = std::function<void(const policy::model_source_update&, const poll_report&)>;
  /// Called after each poll, on the poller's thread.
  void start(listener on_poll);
  /// Ends a download, too. No call after it.
  void stop();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::registry
