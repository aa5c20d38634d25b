#pragma once
// What the doors whose callers wait (HTTP, gRPC) ask the node besides predictions: whether it lives and is
// ready, its models, their statistics, and to load or unload one.

#include <memory>
#include <string_view>
#include <vector>

#include "messages/models.hpp"
#include "runtime/codec/v2_metadata.hpp"

namespace troupe::model {
class model_table;
}

namespace troupe::serving {

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
  /// Since the process began. An empty name means all models, an empty version all loaded versions.
  [[nodiscard]] virtual std::vector<codec::v2_model_stats> statistics(std::string_view name,
                                                                      std::string_view version) const = 0;
  [[nodiscard]] virtual std::vector<codec::v2_index_entry> index(bool ready_only) const = 0;
  /// An empty version: all that there are. These two may block until it is done.
  [[nodiscard]] virtual command_result load(std::string_view name, std::string_view version) = 0;
  [[nodiscard]] virtual command_result unload(std::string_view name, std::string_view version) = 0;
};

}  // namespace troupe::serving
