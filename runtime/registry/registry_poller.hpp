#pragma once
// Keeps the versions that the configured references name on disk, and says when they change.
//
//   poll_once()  asks the registry, fetches what is new, checks it, and makes an update of what is in use
//   start()      does so on a thread of its own, every interval, and calls back after each poll
//
// A version that can't be fetched or loaded does not replace the one in use: the reason is reported when it
// is new. One that `verify` refuses leaves the cache, and is fetched and tried again after a wait that
// doubles from `watch.interval` to `refusal_max`, or at once when the registry says that it was changed and
// when poll_soon() asks. A reference that the registry answers with nothing keeps its version. While the
// registry is away, and at a start without it, what the cache remembers is used.
//
// An update names the version of each reference and the one it named before, so that the old one goes on
// until the new one is loaded, and going back is at once.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/model/source.hpp"
#include "runtime/registry/mlflow_client.hpp"

namespace troupe::registry {

struct poller_options {
  client_options client;
  std::vector<std::string> references;
  std::string cache_directory = "registry-cache";
  std::size_t cache_versions = 5;  ///< of a model
  std::uint64_t max_version_bytes = std::uint64_t{8} << 30;
  policy::watch_config watch;
  std::uint64_t seed = 1;
  policy::nanos refusal_max =
      3600 * policy::second;             ///< between two tries of a version that `verify` refuses
  std::function<policy::nanos()> clock;  ///< none: the steady clock
  /// Whether a version can be served: empty, or why not. On the poller's thread.
  std::function<std::string(const model::version_on_disk&)> verify;
};

struct poll_report {
  bool reached = false;               ///< every reference was answered, were it with an error
  bool changed = false;               ///< the update differs from the last one
  bool recovered = false;             ///< there were problems before, and there are none now
  std::vector<std::string> problems;  ///< new ones; one line each
  std::vector<std::string> rejected;  ///< models of which a version was refused now
};

/// As of the last poll that ended.
struct poller_status {
  struct line {
    std::string reference;
    std::string name;
    std::string version;  ///< in use; empty: none
    std::string problem;
  };
  std::uint64_t polls = 0;  ///< ended
  std::uint64_t begun = 0;  ///< one more than `polls` while one runs
  bool reached = false;
  std::vector<line> references;
};

class registry_poller {
 public:
  static constexpr const char* source_name = "registry";

  /// Throws registry_error for an address, std::invalid_argument for a reference, std::runtime_error for the
  /// cache.
  explicit registry_poller(poller_options options);
  ~registry_poller();
  registry_poller(const registry_poller&) = delete;
  registry_poller& operator=(const registry_poller&) = delete;

  /// Not beside start(). The first one tries the registry but once when the cache has all that is wanted.
  poll_report poll_once();
  /// What is in use, and how the last poll went. From any thread.
  [[nodiscard]] model::model_source_update current() const;
  [[nodiscard]] poller_status status() const;

  using listener = std::function<void(const model::model_source_update&, const poll_report&)>;
  /// Called after each poll, on the poller's thread. The first poll comes after the interval.
  void start(listener on_poll);
  /// Polls at once, after the poll that runs. It is over when status() has that many polls.
  std::uint64_t poll_soon();
  /// Ends a download, too. No call after it.
  void stop();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::registry
