#pragma once
// V2's answers about the server and its models, as JSON. Not hot.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/codec/v2_tensor.hpp"

namespace troupe::codec {

struct v2_server_info {
  std::string name = "troupe";
  std::string version;
  std::vector<std::string> extensions = {"binary_tensor_data", "classification",  "model_configuration",
                                         "model_repository",   "schedule_policy", "statistics"};
};
[[nodiscard]] std::string v2_server_metadata(const v2_server_info& info);

/// {"name", "versions", "platform", "inputs", "outputs"} of a model with these versions loaded.
[[nodiscard]] std::string v2_model_metadata(const model::loaded_model& m,
                                            std::span<const std::string> versions);

struct v2_config_info {
  std::int64_t max_batch_size = 10'000;  ///< rows of one request
  std::vector<std::int64_t> versions;    ///< loaded, numbers
  std::uint64_t default_timeout_us = 0;  ///< of the door
  std::uint32_t priority_levels = 0;
};
/// As Triton's ModelConfig in JSON: what its clients and perf_analyzer read. dims are without the rows.
[[nodiscard]] std::string v2_model_config(const model::loaded_model& m, const v2_config_info& info);

/// "TYPE_FP32", ...; BYTES is TYPE_STRING.
[[nodiscard]] std::string v2_config_type(v2_type type);

struct v2_duration {
  std::uint64_t count = 0;
  std::uint64_t ns = 0;
};
struct v2_batch_stats {
  std::uint64_t batch_size = 0;
  v2_duration compute_input, compute_infer, compute_output;
};
struct v2_model_stats {
  std::string name, version;
  std::uint64_t last_inference = 0;   ///< epoch milliseconds
  std::uint64_t inference_count = 0;  ///< rows scored; cache hits do not count
  std::uint64_t execution_count = 0;  ///< batches run
  v2_duration success, fail, queue, compute_input, compute_infer, compute_output, cache_hit, cache_miss;
  std::vector<v2_batch_stats> batches;
};
/// {"model_stats": [...]}
[[nodiscard]] std::string v2_statistics(std::span<const v2_model_stats> models);

struct v2_index_entry {
  std::string name, version, state, reason;  ///< state: READY, UNAVAILABLE, LOADING, UNLOADING; empty: none
};
/// The bare array of the model repository extension.
[[nodiscard]] std::string v2_repository_index(std::span<const v2_index_entry> models);

}  // namespace troupe::codec
