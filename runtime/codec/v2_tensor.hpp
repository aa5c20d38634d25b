#pragma once
// Tensors of the Open Inference Protocol (V2), as HTTP and gRPC both carry them: what an input of a request
// holds, and what an output of a response is.
// Protocol: https://github.com/kserve/open-inference-protocol and its binary tensor data extension.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace simdjson::dom {
class element;
}

namespace troupe::codec {

enum class v2_type : std::uint8_t {
  boolean,
  uint8,
  uint16,
  uint32,
  uint64,
  int8,
  int16,
  int32,
  int64,
  fp16,
  bf16,
  fp32,
  fp64,
  bytes
};

/// "BOOL", "UINT8", ..., "BYTES".
[[nodiscard]] std::string_view name_of(v2_type type);
[[nodiscard]] std::optional<v2_type> v2_type_of(std::string_view name);
/// Bytes of an element as raw data; 0 for BYTES, whose elements have a 4-byte length each.
[[nodiscard]] std::size_t size_of(v2_type type);

/// How the elements of an input are held. Views: they belong to the request.
struct v2_contents {
  enum class kind : std::uint8_t {
    none,
    json,     ///< `json`: nested by the shape, or flat
    raw,      ///< `raw`: packed little-endian elements of the datatype
    boolean,  ///< the rest: gRPC's typed contents, `count` elements at `data`
    int32,
    int64,
    uint32,
    uint64,
    fp32,
    fp64,
    texts  ///< `texts`
  };
  kind held = kind::none;
  const simdjson::dom::element* json = nullptr;
  std::string_view raw;
  const void* data = nullptr;
  std::size_t count = 0;
  std::span<const std::string_view> texts;
};

struct v2_input {
  std::string_view name;
  std::string_view datatype;
  std::span<const std::int64_t> shape;
  v2_contents contents;
};

}  // namespace troupe::codec
