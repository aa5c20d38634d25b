#pragma once
// The JSON body of an inference request of the Open Inference Protocol (V2), with the extensions for binary
// tensors, classification and scheduling:
// https://github.com/kserve/open-inference-protocol,
// https://github.com/triton-inference-server/server/tree/main/docs/protocol

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/codec/request_head.hpp"
#include "runtime/codec/v2_tensor.hpp"

namespace troupe::codec {

/// What a request says of one output.
struct v2_output_wish {
  std::string_view name;
  std::optional<bool> binary;        ///< overrides v2_request::binary_output
  std::uint32_t classification = 0;  ///< so many of the largest, as "value:index:label"; 0: the numbers
};

/// Whatever door it came by. Views belong to the door's request or its parser.
struct v2_request {
  std::string_view id;  ///< empty: none
  double priority = 0;
  double timeout_us = 0;  ///< 0: the door's own
  bool binary_output = false;
  bool explain = false;
  std::vector<v2_input> inputs;
  std::vector<v2_output_wish> outputs;  ///< none: all, as binary_output says
};

struct v2_limits {
  std::size_t max_elements = 100'000;  ///< of all inputs
  std::size_t max_tensors = 10'000;    ///< inputs, and outputs
};

inline constexpr std::size_t max_v2_rank = 16;

/// Product of the dimensions; none for a negative one or a product beyond `most`.
[[nodiscard]] std::optional<std::size_t> v2_elements(std::span<const std::int64_t> shape, std::size_t most);

/// Not thread safe. Keeps the buffers that usual requests need.
class v2_request_parser {
 public:
  v2_request_parser();
  ~v2_request_parser();
  v2_request_parser(v2_request_parser&&) noexcept;
  v2_request_parser& operator=(v2_request_parser&&) noexcept;

  /// Reads a body. `header_length`: of the JSON part as Inference-Header-Content-Length gives it, the rest
  /// being tensors in the inputs' order; none: all is JSON; 0: the body is the raw data of a model's only
  /// input, to be taken with raw(). `into` is overwritten and good until the next call; it is complete, or
  /// there is a fault. Names are unique, datatypes known, shapes within the limits and, of raw data, of its
  /// size; JSON data is not looked at (v2_rows.hpp does). Throws nothing but a failed allocation.
  [[nodiscard]] request_fault parse(std::string_view body, std::optional<std::size_t> header_length,
                                    const v2_limits& limits, v2_request& into);

  /// A request that is nothing but the raw data of one input without a name, of `datatype` and
  /// `shape`[0, rank).
  void raw(std::string_view body, std::string_view name, std::string_view datatype,
           std::vector<std::int64_t> shape, v2_request& into);

 private:
  class work;
  std::unique_ptr<work> work_;
};

/// The value of an Inference-Header-Content-Length header; a fault for what is no length within the body.
[[nodiscard]] request_fault read_header_length(std::string_view text, std::size_t body,
                                               std::optional<std::size_t>& length);

}  // namespace troupe::codec
