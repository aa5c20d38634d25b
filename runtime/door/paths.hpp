#pragma once
// The HTTP routes of the inference door: what a method and a path mean.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::serving {

enum class page : std::uint8_t {
  none,         ///< no such path
  not_allowed,  ///< the path is there, the method is not
  root,
  health,
  ready,
  liveness,
  ping,  ///< SageMaker's: 200 while it can answer
  version,
  metrics,
  docs,
  openapi,
  score,
  invocations,
  v1_models,   ///< KServe's first protocol: names of models
  v1_predict,  ///< rows by one of them, as /invocations
  server_metadata,
  server_live,
  server_ready,
  model_metadata,
  model_ready,
  model_config,
  model_stats,  ///< of all models when none is named
  infer,
  repository_index,
  repository_load,
  repository_unload,
  batch_submit,
  batch_list,
  batch_status,  ///< of this and the next two, `model` is the id
  batch_results,
  batch_remove
};

struct destination {
  serving::page page = page::none;
  std::string model;            ///< percent-decoded; empty: none is named
  std::string version;          ///< empty: none is named
  std::string allow;            ///< of not_allowed: the methods there are, with commas
  std::string_view route = {};  ///< "v2/models/{m}/infer", in static memory; empty: none
};

/// `path` is as sent: segments are percent-decoded one by one, so that a name may hold a slash. One slash at
/// the end counts for nothing. HEAD is GET.
[[nodiscard]] destination find_page(std::string_view method, std::string_view path);

/// All there are, as "GET /v2/models/{m}/versions/{v}".
[[nodiscard]] std::vector<std::string> all_routes();

/// "v2/models/{m}/infer", as destination has it -> "/v2/models/{model}/infer"
[[nodiscard]] std::string template_of(std::string_view route);

/// "%2F" -> "/"; nullopt when a % is not followed by two hexadecimal digits, or stands for a zero byte.
[[nodiscard]] std::optional<std::string> percent_decoded(std::string_view text);

}  // namespace troupe::serving
