#pragma once
// How a gRPC call ends: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md

#include <string>
#include <string_view>

#include "messages/errors.hpp"

namespace troupe::rpc {

enum class status_code : int {
  ok = 0,
  cancelled = 1,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
  unauthenticated = 16,
};

/// As the protocol writes it: "NOT_FOUND".
[[nodiscard]] constexpr std::string_view name_of(status_code code) {
  switch (code) {
    case status_code::ok:
      return "OK";
    case status_code::cancelled:
      return "CANCELLED";
    case status_code::unknown:
      return "UNKNOWN";
    case status_code::invalid_argument:
      return "INVALID_ARGUMENT";
    case status_code::deadline_exceeded:
      return "DEADLINE_EXCEEDED";
    case status_code::not_found:
      return "NOT_FOUND";
    case status_code::permission_denied:
      return "PERMISSION_DENIED";
    case status_code::resource_exhausted:
      return "RESOURCE_EXHAUSTED";
    case status_code::failed_precondition:
      return "FAILED_PRECONDITION";
    case status_code::unimplemented:
      return "UNIMPLEMENTED";
    case status_code::internal:
      return "INTERNAL";
    case status_code::unavailable:
      return "UNAVAILABLE";
    case status_code::unauthenticated:
      return "UNAUTHENTICATED";
  }
  return "UNKNOWN";
}

struct status {
  status_code code = status_code::ok;
  std::string message;
  [[nodiscard]] bool ok() const { return code == status_code::ok; }
};

[[nodiscard]] constexpr status_code status_of(error_code code) {
  switch (code) {
    case error_code::none:
      return status_code::ok;
    case error_code::invalid_json:
    case error_code::invalid_features:
      return status_code::invalid_argument;
    case error_code::too_large:
      return status_code::resource_exhausted;
    case error_code::model_not_found:
      return status_code::not_found;
    case error_code::deadline_exceeded:
      return status_code::deadline_exceeded;
    case error_code::model_failed:
      return status_code::internal;
    case error_code::unavailable:
      return status_code::unavailable;
  }
  return status_code::internal;
}

/// Of what the guard refuses, by the status that HTTP has for it.
[[nodiscard]] constexpr status_code status_of_http(int status) {
  switch (status) {
    case 401:
      return status_code::unauthenticated;
    case 403:
      return status_code::permission_denied;
    case 429:
      return status_code::resource_exhausted;
    default:
      return status_code::unavailable;
  }
}

}  // namespace troupe::rpc
