#pragma once
// What the doors whose callers wait (HTTP, gRPC) ask the node besides predictions: whether it lives and is
// ready, its models, their statistics, and to load or unload one.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "messages/models.hpp"
#include "runtime/codec/v2_metadata.hpp"

namespace troupe::model {
class loaded_model;
class model_table;
}  // namespace troupe::model

namespace troupe::serving {

/// Whether calls to a loaded model are let in.
struct model_state {
  bool ready = true;
  std::string why = {};   ///< not ready: one line
  nanos retry_after = 0;  ///< not ready: when it is tried again
};

/// Called from any thread, by several at once. What is not said to block must be quick.
class backend {
 public:
  backend() = default;
  backend(const backend&) = delete;
  backend& operator=(const backend&) = delete;
  virtual ~backend() = default;

  [[nodiscard]] virtual bool live() const = 0;
  [[nodiscard]] virtual bool ready() const = 0;
  /// Never null.
  [[nodiscard]] virtual std::shared_ptr<const model::model_table> models() const = 0;
  /// Not ready while each call would be refused at once: a readiness that waited for the next success would
  /// keep the calls away that the model is probed with.
  [[nodiscard]] virtual model_state state_of(const model::loaded_model& m) const = 0;
  /// Since the process began. An empty name means all models, an empty version all loaded versions.
  [[nodiscard]] virtual std::vector<codec::v2_model_stats> statistics(std::string_view name,
                                                                      std::string_view version) const = 0;
  [[nodiscard]] virtual std::vector<codec::v2_index_entry> index(bool ready_only) const = 0;
  /// An empty version: all that there are. These two may block until it is done.
  [[nodiscard]] virtual command_result load(std::string_view name, std::string_view version) = 0;
  [[nodiscard]] virtual command_result unload(std::string_view name, std::string_view version) = 0;
};

}  // namespace troupe::serving
