#pragma once
// The node: wires all actors to their ports and to one another, follows the consumer group's assignments, and
// takes everything down in order. The only file that knows every actor.

#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/config/options.hpp"
#include "runtime/store/redis.hpp"

namespace troupe::model {
struct repository_options;
}

namespace troupe::observe {
struct otlp_options;
}

namespace troupe {

/// Where and how models are loaded, by the settings.
[[nodiscard]] model::repository_options model_options(const config::settings& settings);

/// The node can't start: one line that names what is wrong and what to do. Commands end with exit code 2.
struct startup_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// How the configured Redis is reached; without a log.
[[nodiscard]] store::redis_options redis_options_of(const config::settings& settings);

/// How the configured receiver of traces is reached, without metrics. Throws startup_error for an address or
/// headers that can't be used.
[[nodiscard]] observe::otlp_options otlp_options_of(const config::tracing_settings& settings);

/// Why a node's clients of Kafka can't be made with these properties, without asking any broker; files (of
/// certificates) are left to those who are.
[[nodiscard]] std::vector<config::misfit> kafka_misfits(const config::settings& settings);

/// The transactional id of a node with this configuration; where it is a new one each start, what all of
/// them begin with.
[[nodiscard]] std::string transactional_id_of(const config::kafka_settings& settings);

class node {
 public:
  /// Loads the models, opens the metrics port and the links to Kafka and Redis; throws startup_error,
  /// kafka::property_error.
  /// Returns while the group is still being joined.
  explicit node(config::settings settings);
  node(const node&) = delete;
  node& operator=(const node&) = delete;
  /// Ends at once what drain() did not.
  ~node();

  /// 200 on /ready: models loaded, the brokers have let us in once, or were waited for long enough; where
  /// Kafka is the only door, the group is joined.
  [[nodiscard]] bool ready() const;

  /// Why no records can come from Kafka; empty: they can, or Kafka is off.
  [[nodiscard]] std::string kafka_away() const;
  /// What the brokers have yet to let us in for, before the node is ready; empty: nothing, or it does
  /// without.
  [[nodiscard]] std::string kafka_awaited() const;
  /// Why no broker has ever let us in, nor will: credentials or certificates. Empty: one may, or has.
  [[nodiscard]] std::string kafka_refused() const;
  /// Where clients reach the broker: the configured one, or the embedded one's address.
  [[nodiscard]] std::string brokers() const;

  /// The metrics port in use (metrics.port = 0 picks a free one).
  [[nodiscard]] int metrics_port() const;

  /// Puts the options of `settings` that are live into force and says of the others that changed that they
  /// need a restart. Looks at the directory of models at once.
  void reload(config::settings settings);
  /// Reads certificates and keys of the HTTP door again that changed since; gRPC looks by itself. On the
  /// thread of reload(), now and then: a change counts from the second look on that finds it.
  void look_at_files();

  /// Why the node can't go on (a restart budget is spent, credentials are refused); empty while it can. May
  /// be polled from any thread; `on_failure` is called once, from any thread.
  [[nodiscard]] std::string failure() const;
  void on_failure(std::function<void()> f);

  [[nodiscard]] static std::string caf_version();

  /// Not ready, stop intake, drain to the deadline, flush, commit, leave. True when nothing was left in
  /// flight.
  bool drain();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe
