#pragma once
// model_keeper: one a node.
// Owns which versions are loaded, which of them answers, and the guards of the rollouts that run.
// Promises: a version is loaded beside the others and gets requests only once it is warm; a switch is one new
// model_table, so a request is answered by one version or the other and none is lost; a version that is taken
// away keeps its shards until the last row that was given to it is done, then its memory goes; a load that
// fails changes nothing; a rollout whose new version leaves its bounds is rolled back by itself, with the
// reason. A promotion holds until the process ends: a restart goes by the source (production in model.yaml,
// else the highest version). Dies of: an exception of its own. What is loaded and which rollouts run is kept
// in keeper_memory, so a successor goes on with them; their windows begin anew.

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "messages/interfaces.hpp"
#include "runtime/model/live_models.hpp"
#include "runtime/model/source.hpp"
#include "runtime/policy/rollout_spec.hpp"

namespace troupe::model {
class stalls;
}

namespace troupe::observe {
class metrics;
}

namespace troupe {

/// What outlives a crash of the keeper. Only the keeper touches it, but for report().
class keeper_memory {
 public:
  enum class state : std::uint8_t { loading, failed, unloaded, loaded };

  struct version {
    model::version_on_disk disk;
    std::string source;  ///< which source named it; empty: loaded by hand
    state is = state::loading;
    std::shared_ptr<const model::loaded_model> model;  ///< may be there while a changed one is loading
    std::string error;
    std::int64_t since_ms = 0;
  };
  struct rollout {
    std::uint64_t id = 0;
    policy::rollout_spec spec;
    double share = 0;
    std::int64_t since_ms = 0;
    bool said = false;  ///< out of bounds, and not rolled back by itself
  };
  /// Taken out of the table; its rows are being answered.
  struct leaving {
    std::shared_ptr<const model::loaded_model> model;
    std::vector<std::weak_ptr<const model::model_table>> tables;  ///< that name it
    std::weak_ptr<const void> held;                               ///< by its actors
    std::weak_ptr<const model::loaded_model>
        place;  ///< no other model gets its address before all know it went
    const model::loaded_model* address = nullptr;
    std::string name;
    std::string version;
    std::string engine;
    bool dismissed = false;
    std::int64_t since_ms = 0;
  };

  std::map<std::pair<std::string, std::string>, version> versions;  ///< by model and version
  std::map<std::string, std::string> production;
  std::map<std::string, std::string> previous;        ///< the production version before the last promotion
  std::map<std::string, std::string> said_by_source;  ///< what the sources last named as production
  std::map<std::string, rollout> rollouts;            ///< by model
  std::vector<policy::rollout_spec> configured;
  std::vector<policy::rollout_spec> waiting;  ///< configured, their version is not loaded yet
  std::vector<leaving> left;
  std::vector<std::weak_ptr<const model::model_table>> tables;  ///< that may still be in use
  std::vector<rollout_report> history;
  std::string default_model;  ///< answers requests that name no model, loaded or not; empty: none
  bool fallback = true;
  std::uint64_t next_id = 1;
  bool begun = false;

  // From any thread.

  /// Whether there is a report yet; before, an empty one says nothing.
  [[nodiscard]] bool shown() const {
    const std::lock_guard lock(mutex_);
    return shown_;
  }
  [[nodiscard]] models_report report() const {
    const std::lock_guard lock(mutex_);
    return report_;
  }
  void show(models_report r) {
    const std::lock_guard lock(mutex_);
    report_ = std::move(r);
    shown_ = true;
  }

 private:
  mutable std::mutex mutex_;
  models_report report_;
  bool shown_ = false;
};

struct model_keeper_args {
  std::shared_ptr<keeper_memory> memory;
  std::shared_ptr<model::live_models> live;  ///< holds what is loaded at the start
  std::filesystem::path directory;           ///< where a version is looked for that is loaded by hand
  std::shared_ptr<observe::metrics> metrics;
  std::shared_ptr<const model::stalls> stalls = {};  ///< which versions can't answer; may be null
  /// Begins a load; load_ended follows.
  std::function<void(model::version_on_disk)> load;
  /// Makes the source say what it has, after a crash; may be empty.
  std::function<void()> look;
  /// Starts the actors of a version, before it gets requests.
  std::function<void(const std::shared_ptr<const model::loaded_model>&)> start;
  /// Ends them; nothing is left for them to do.
  std::function<void(const model::loaded_model*)> stop;
  /// Nobody holds it any more.
  std::function<void(const model::loaded_model*)> gone;
};

[[nodiscard]] model_keeper_actor spawn_model_keeper(caf_line::system& system, model_keeper_args args,
                                                    const wiring& neighbours);

}  // namespace troupe
