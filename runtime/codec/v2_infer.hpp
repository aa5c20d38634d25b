#pragma once
// A V2 inference request, by HTTP or gRPC, to a record.

#include <optional>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/codec/infer_terms.hpp"
#include "runtime/codec/v2_request.hpp"
#include "runtime/codec/v2_response.hpp"

namespace troupe::codec {

/// What reads and answers V2 requests on one thread.
struct v2_tools {
  v2_request_parser parser;
  v2_request request;
  v2_response_writer writer;
  infer_terms terms;
};

/// Reads `request` into `r`, the newest record of `batch`, with the outputs it wants in `plan`. Of `head` the
/// model, version, fallback_id, arrival and headers count; the rest is the request's. `fault`: found before.
void read_v2(const v2_request& request, infer_head head, const infer_options& options, v2_tools& tools,
             record& r, record_batch& batch, v2_plan& plan, const request_fault& fault = {});

/// An HTTP body; `header_length` as v2_request_parser::parse takes it, 0: raw data of the only input.
/// `own_id`: the request has an id.
void read_v2_body(std::string_view body, std::optional<std::size_t> header_length, infer_head head,
                  const infer_options& options, v2_tools& tools, record& r, record_batch& batch,
                  v2_plan& plan, bool& own_id);

}  // namespace troupe::codec
