#pragma once
// The calls of the HTTP door: a request that is to be scored, read and answered in its protocol.

#include <memory>
#include <string>

#include "messages/call.hpp"
#include "runtime/codec/infer_terms.hpp"
#include "runtime/door/caller.hpp"
#include "runtime/http/exchange.hpp"

namespace troupe::serving {

struct door_options {
  codec::infer_options infer;
  std::string deployment = "troupe";  ///< in the metadata of /score
  nanos retry_after = 1'000'000'000;  ///< of a 503 whose failure knows no better
};

/// What is shared by many calls and replaced as a whole.
using door_options_ptr = std::shared_ptr<const door_options>;

/// POST /v2/models/{model}[/versions/{version}]/infer. Both names decoded; an empty version is the production
/// version. Errors are {"error": "..."}.
[[nodiscard]] std::unique_ptr<call> make_v2_call(http::exchange_ptr exchange, door_options_ptr options,
                                                 std::string model, std::string version, caller who = {});

/// POST /score: the default model. JSON; or, for a model that takes those, the bytes of an image or file
/// (content type image/... or application/octet-stream), or a form that uploads one (multipart/form-data).
[[nodiscard]] std::unique_ptr<call> make_score_call(http::exchange_ptr exchange, door_options_ptr options,
                                                    caller who = {});

/// POST /invocations: the default model; POST /v1/models/{model}:predict: that one, decoded. JSON, or
/// text/csv. Errors are {"error": "..."}.
[[nodiscard]] std::unique_ptr<call> make_invocations_call(http::exchange_ptr exchange,
                                                          door_options_ptr options, std::string model = {},
                                                          caller who = {});

/// 400 invalid_json and invalid_features, 413 too_large, 404 model_not_found, 504 deadline_exceeded,
/// 500 model_failed, 503 unavailable.
[[nodiscard]] int http_status_of(error_code code);

}  // namespace troupe::serving
