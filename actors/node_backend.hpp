#pragma once
// What the doors whose callers wait ask the node besides predictions (runtime/door/backend.hpp), answered
// from the table of models, the metrics and the model_keeper's report. Owns nothing.

#include <functional>
#include <memory>

#include "messages/models.hpp"
#include "runtime/door/backend.hpp"

namespace troupe::model {
class live_models;
class stalls;
}  // namespace troupe::model

namespace troupe::observe {
class metrics;
}

namespace troupe {

struct node_backend_args {
  std::shared_ptr<model::live_models> models;
  std::shared_ptr<observe::metrics> metrics;
  std::function<models_report()> report;
  std::function<bool()> ready;
  std::function<command_result(model_command)> command;  ///< waits a few seconds at most
  std::shared_ptr<const model::stalls> stalls;
  std::function<nanos()> now;  ///< the clock of the stalls
};

class node_backend final : public serving::backend {
 public:
  explicit node_backend(node_backend_args args);

  [[nodiscard]] bool live() const override { return true; }
  [[nodiscard]] bool ready() const override { return args_.ready(); }
  [[nodiscard]] std::shared_ptr<const model::model_table> models() const override;
  [[nodiscard]] serving::model_state state_of(const model::loaded_model& m) const override;
  [[nodiscard]] std::vector<codec::v2_model_stats> statistics(std::string_view name,
                                                              std::string_view version) const override;
  [[nodiscard]] std::vector<codec::v2_index_entry> index(bool ready_only) const override;
  /// Waits until the versions are loaded, or for a minute.
  [[nodiscard]] command_result load(std::string_view name, std::string_view version) override;
  [[nodiscard]] command_result unload(std::string_view name, std::string_view version) override;

 private:
  [[nodiscard]] std::vector<version_report> versions_of(std::string_view name) const;
  [[nodiscard]] command_result await(const std::string& name, const std::vector<std::string>& versions,
                                     bool loaded) const;

  node_backend_args args_;
};

}  // namespace troupe
