#pragma once
// A message that a client has compressed (grpc-encoding: gzip or deflate), unpacked within a limit: gRPC
// itself would unpack however much there is.

#include <cstddef>
#include <string>
#include <string_view>

namespace troupe::rpc {

/// Whether it begins as gzip (RFC 1952) or zlib (RFC 1950, which is gRPC's deflate) with its usual window of
/// 32 KiB. No message of ours begins so: as protobuf that is a field 3 of a type that there is none, or a
/// field 15.
[[nodiscard]] bool packed(std::string_view message);

enum class unpacked { done, broken, too_large };
[[nodiscard]] unpacked unpack(std::string_view message, std::size_t limit, std::string& to);

}  // namespace troupe::rpc
