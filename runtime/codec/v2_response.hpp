#pragma once
// What a model takes and answers in V2's terms, and the answer itself: as JSON, as JSON with binary tensors
// behind it, or output by output for gRPC.
//
//   classifier   probabilities FP32 [rows, classes], predicted_class BYTES [rows]
//   with top_k   top_k_probabilities FP32 [rows, k], top_k_classes BYTES [rows, k], the likeliest first, and
//                predicted_class
//   regressor    prediction FP64 [rows], or [rows, targets]; with several outputs each by its name

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/codec/request_head.hpp"
#include "runtime/codec/v2_request.hpp"
#include "runtime/codec/v2_tensor.hpp"

namespace troupe::codec {

struct v2_tensor_spec {
  std::string name;
  v2_type type = v2_type::fp32;
  std::vector<std::int64_t> shape;  ///< -1 in front: the rows
};

/// The inputs that metadata shows; v2_rows.hpp says what else is taken.
[[nodiscard]] std::vector<v2_tensor_spec> v2_inputs_of(const model::loaded_model& m);
[[nodiscard]] std::vector<v2_tensor_spec> v2_outputs_of(const model::loaded_model& m);
/// "troupe_forest", "troupe_onnxruntime", ...: troupe_ and the engine's kind.
[[nodiscard]] std::string v2_platform_of(const model::loaded_model& m);

/// The outputs that a request gets.
struct v2_plan {
  struct item {
    std::uint32_t output = 0;          ///< index of v2_outputs_of
    std::uint32_t classification = 0;  ///< not 0: BYTES [rows, min(classification, numbers of a row)]
    bool binary = false;
  };
  std::vector<item> items;
};

/// Owns texts of the models it met, and buffers; not thread safe.
class v2_response_writer {
 public:
  v2_response_writer();
  ~v2_response_writer();
  v2_response_writer(v2_response_writer&&) noexcept;
  v2_response_writer& operator=(v2_response_writer&&) noexcept;

  /// All outputs as the request wishes them; a fault (invalid_features) for one that the model does not have.
  [[nodiscard]] request_fault plan(const model::loaded_model& m, const v2_request& request, v2_plan& into);

  struct answer {
    const double* outputs = nullptr;  ///< rows x output width, row-major
    std::string_view id;              ///< a JSON string token; empty: none was given
    std::string_view explanation;     ///< as explanation_writer writes it; goes to parameters.explanation
  };
  /// Appends the body. `header_length` is that of its JSON part where tensors follow (the value of
  /// Inference-Header-Content-Length), else none. False, and nothing appended: an output is not finite.
  [[nodiscard]] bool write(std::string& out, const record& request, const answer& a, const v2_plan& plan,
                           std::optional<std::size_t>& header_length);

  /// What write() would say of one output, good until the next call.
  struct described {
    std::string_view name;
    v2_type type = v2_type::fp32;
    std::span<const std::int64_t> shape;
  };
  [[nodiscard]] described describe(const record& request, const v2_plan::item& item);
  /// Appends one output's raw data: little-endian, row-major; BYTES with a 4-byte length each.
  void append_raw(std::string& out, const record& request, const double* outputs, const v2_plan::item& item);

 private:
  struct model_text;
  struct work;
  std::unique_ptr<work> work_;
};

/// {"error":"..."}
[[nodiscard]] std::string v2_error(std::string_view message);

}  // namespace troupe::codec
