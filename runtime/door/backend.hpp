#pragma once
// What the doors whose callers wait (HTTP, gRPC) ask the node besides predictions: whether it lives and is
// ready, its models, their statistics, and to load or unload one.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "messages/models.hpp"

namespace troupe::model {
class model_table;
}

namespace troupe::serving {

struct duration_count {
  std::uint64_t count = 0;
  std::uint64_t ns = 0;  ///< all together
};

struct batch_statistics {
  std::uint64_t batch_size = 0;
  duration_count compute_input;
  duration_count compute_infer;
  duration_count compute_output;
};

/// Since the process began.
struct model_statistics {
  std::string name;
  std::string version;
  std::uint64_t last_inference_ms = 0;  ///< epoch milliseconds
  std::uint64_t inference_count = 0;    ///< rows that were scored; those from the cache do not count
  std::uint64_t execution_count = 0;    ///< batches
  duration_count success;
  duration_count fail;
  duration_count queue;
  duration_count compute_input;
  duration_count compute_infer;
  duration_count compute_output;
  duration_count cache_hit;
  duration_count cache_miss;
  std::vector<batch_statistics> batches;
};

struct index_entry {
  std::string name;
  std::string version;
  std::string state;   ///< READY, LOADING, UNAVAILABLE
  std::string reason;  ///< of a state other than READY; may be empty
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
  /// An empty name means all models, an empty version all loaded versions.
  [[nodiscard]] virtual std::vector<model_statistics> statistics(std::string_view name,
                                                                 std::string_view version) const = 0;
  [[nodiscard]] virtual std::vector<index_entry> index(bool ready_only) const = 0;
  /// An empty version: all that there are. These two may block until it is done.
  [[nodiscard]] virtual command_result load(std::string_view name, std::string_view version) = 0;
  [[nodiscard]] virtual command_result unload(std::string_view name, std::string_view version) = 0;
};

}  // namespace troupe::serving
