#pragma once
// A message that a client has compressed (grpc-encoding: gzip), unpacked within a limit: gRPC itself would
// unpack however much there is.

#include <cstddef>
#include <string>
#include <string_view>

namespace troupe::rpc {

/// Whether it is gzip's. No message of ours begins so: it would be a field 3 of a type that there is none.
[[nodiscard]] bool packed(std::string_view message);

enum class unpacked { done, broken, too_large };
[[nodiscard]] unpacked unpack(std::string_view message, std::size_t limit, std::string& to);

}  // namespace troupe::rpc
