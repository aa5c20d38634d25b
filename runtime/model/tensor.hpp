#pragma once
// Values of any rank and type, as graphs take and give them, and the check of what is given against what a
// graph declares.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::model {

/// The numbers of ONNX' TensorProto.DataType.
enum class element_type : std::uint8_t {
  undefined = 0,
  float32 = 1,
  uint8 = 2,
  int8 = 3,
  uint16 = 4,
  int16 = 5,
  int32 = 6,
  int64 = 7,
  string = 8,
  boolean = 9,
  float16 = 10,
  float64 = 11,
  uint32 = 12,
  uint64 = 13
};

/// "float32", "int64", ...; "another type" for what is not in the list.
[[nodiscard]] std::string_view name_of(element_type type);
/// Bytes of an element; 0 for strings and what is not in the list.
[[nodiscard]] std::size_t size_of(element_type type);

/// What a graph declares of one input or output. A dimension that may be anything is -1.
struct tensor_spec {
  std::string name;
  element_type type = element_type::undefined;
  std::vector<std::int64_t> shape;
  std::vector<std::string> symbols;  ///< names of the dimensions, empty where they have none
  bool is_tensor = true;             ///< false: a sequence or a map
};

/// One value. Row-major and packed: `data` holds the elements of every type but string, `strings` those.
struct tensor {
  std::string name;
  element_type type = element_type::undefined;
  std::vector<std::int64_t> shape;  ///< none: a scalar
  std::vector<std::byte> data;
  std::vector<std::string> strings;
};

/// "[2, 3]"; -1 reads as the symbol, or as "?".
[[nodiscard]] std::string shape_text(std::span<const std::int64_t> shape,
                                     std::span<const std::string> symbols = {});

/// The elements that a shape has. Throws model_error for a negative dimension or a product beyond `most`.
[[nodiscard]] std::size_t element_count(std::span<const std::int64_t> shape, std::size_t most = 1U << 30);

/// Throws model_error unless `given` are exactly the tensors that `declared` asks for, in any order: names,
/// types, ranks, fixed dimensions, one value for each symbol, and as much data as the shape says. The text
/// names the input, what is expected and what came.
void check(std::span<const tensor_spec> declared, std::span<const tensor> given);

}  // namespace troupe::model
