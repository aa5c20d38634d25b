#pragma once
// Spans in the JSON of OTLP (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): ids in
// hexadecimal, enumerations and flags as numbers, 64-bit integers as text.

#include <span>
#include <string>

#include "runtime/observe/trace.hpp"

namespace troupe::observe {

/// Who sends: the resource's attributes, and the instrumentation scope's version.
struct otlp_sender {
  observe::attributes resource;
  std::string version;
};

/// The body of an ExportTraceServiceRequest. Text that is not UTF-8 is replaced.
[[nodiscard]] std::string otlp_request(const otlp_sender& from, std::span<const span> spans);

/// How many spans an ExportTraceServiceResponse says were not taken, and why.
struct otlp_refusal {
  std::size_t spans = 0;
  std::string why;
};
/// `body` may be anything; 0 spans for what is no such response.
[[nodiscard]] otlp_refusal otlp_response(std::string_view body);

}  // namespace troupe::observe
