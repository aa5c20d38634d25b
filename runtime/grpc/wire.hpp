#pragma once
// ModelInferRequest and ModelInferResponse (inference.proto) as bytes: read in place, without a copy of names
// and raw tensors, and written straight from views. protobuf's encoding:
// https://protobuf.dev/programming-guides/encoding/
//
// What reads here reads as protobuf's own parser does, fields in any order, packed or not, unknown ones
// skipped, the last of several winning, with two exceptions that are errors: more elements than allowed, and
// an input whose elements are in several fields at once.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/codec/v2_tensor.hpp"

namespace troupe::rpc {

struct parameter {
  enum class kind : std::uint8_t { none, boolean, integer, text, real, natural };
  std::string_view name;
  kind held = kind::none;
  bool boolean = false;
  std::int64_t integer = 0;
  std::uint64_t natural = 0;
  double real = 0;
  std::string_view text;
};

struct requested_output {
  std::string_view name;
  std::uint32_t parameters_begin = 0;  ///< into infer_request::output_parameters
  std::uint32_t parameters_count = 0;
};

/// Views into the message, and into the request's own buffers. Kept and filled anew, it allocates nothing
/// for requests of a size that it has seen.
class infer_request {
 public:
  std::string_view model_name;
  std::string_view model_version;
  std::string_view id;
  std::vector<codec::v2_input> inputs;
  std::vector<parameter> parameters;
  std::vector<requested_output> outputs;
  std::vector<parameter> output_parameters;
  std::vector<std::string_view> raw;  ///< raw_input_contents; already given to the inputs

  /// Empty: all is well. Else what is wrong: `too_many` says whether it is too large, or no such message.
  [[nodiscard]] std::string read(std::string_view message, std::size_t max_elements);
  [[nodiscard]] bool too_many() const { return too_many_; }
  /// The first parameter of that name; null: none.
  [[nodiscard]] const parameter* find(std::string_view name) const;

 private:
  class reader;
  struct extent {  ///< where an input's elements and shape are, while the buffers still grow
    std::uint32_t shape_begin = 0;
    std::uint32_t shape_count = 0;
    std::uint32_t begin = 0;
  };

  std::vector<extent> extents_;
  std::vector<std::int64_t> shapes_;
  std::vector<std::uint8_t> booleans_;
  std::vector<std::int32_t> int32s_;
  std::vector<std::int64_t> int64s_;
  std::vector<std::uint32_t> uint32s_;
  std::vector<std::uint64_t> uint64s_;
  std::vector<float> fp32s_;
  std::vector<double> fp64s_;
  std::vector<std::string_view> texts_;
  bool too_many_ = false;
};

/// An output of a response: as raw data, or typed in the field of its datatype.
struct output_tensor {
  std::string_view name;
  std::string_view datatype;
  std::span<const std::int64_t> shape;
  codec::v2_contents contents;  ///< raw, or typed; never json
};

struct infer_response {
  std::string_view model_name;
  std::string_view model_version;
  std::string_view id;
  std::span<const parameter> parameters;
  std::span<const output_tensor> outputs;
  bool raw = true;  ///< contents of all outputs are raw
};

/// Appends the message.
void write(std::string& out, const infer_response& response);
/// Appends ModelStreamInferResponse; an error has no more of a response than its id.
void write_streamed(std::string& out, const infer_response& response);
void write_streamed_error(std::string& out, std::string_view error, std::string_view id);

/// Appends google.rpc.Status with a RetryInfo in it: the value of the trailing metadata
/// grpc-status-details-bin.
void write_retry_details(std::string& out, int code, std::string_view message, std::int64_t retry_after_ns);

}  // namespace troupe::rpc
