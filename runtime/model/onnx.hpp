#pragma once
// Reads an ONNX file: the part of onnx.proto that inference graphs of classic models use, straight from
// protobuf's wire format (https://protobuf.dev/programming-guides/encoding), every length checked against
// what is left. Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe::model::onnx {

/// TensorProto.DataType, as far as it is read here.
enum class element : std::int32_t {
  none = 0,
  float32 = 1,
  int32 = 6,
  int64 = 7,
  string = 8,
  boolean = 9,
  float64 = 11
};

/// A constant. Numbers are widened to double, which holds every float exactly; int64 keeps its own.
struct tensor {
  std::string_view name;
  element type = element::none;
  std::vector<std::int64_t> dims;  ///< none: a scalar
  std::vector<double> numbers;     ///< float32, float64, int32, boolean
  std::vector<std::int64_t> ints;  ///< int64
};

struct attribute {
  std::string_view name;
  float f = 0;
  std::int64_t i = 0;
  std::string_view s;
  std::vector<float> floats;
  std::vector<std::int64_t> ints;
  std::vector<std::string_view> strings;
  std::vector<tensor> t;  ///< at most one
};

struct node {
  std::string_view op;
  std::string_view
      domain;  ///< "" or "ai.onnx" for the standard operators, "ai.onnx.ml" for those of classic models
  std::string_view name;
  std::vector<std::string_view> inputs;
  std::vector<std::string_view> outputs;
  std::vector<attribute> attributes;

  [[nodiscard]] const attribute* find(std::string_view attribute_name) const;
};

/// An input or output of the graph. A dimension that is not a number is -1.
struct value_info {
  std::string_view name;
  element type = element::none;  ///< none: not a tensor (a sequence or map), or unknown
  bool has_shape = false;
  std::vector<std::int64_t> dims;
};

/// All texts are views into the file's bytes, which have to outlive it.
struct graph {
  std::vector<node> nodes;
  std::vector<tensor> initializers;
  std::vector<value_info> inputs;
  std::vector<value_info> outputs;
  std::vector<std::pair<std::string_view, std::string_view>> metadata;

  [[nodiscard]] const tensor* initializer(std::string_view name) const;
};

/// What a file may hold at most; beyond it is a load_error, not a large allocation.
struct limits {
  std::size_t file_bytes = 512U << 20;
  std::size_t graph_nodes = 10'000;
  std::size_t tree_nodes = 50'000'000;
  std::size_t features = 100'000;
  std::size_t cells = 1'000'000;  ///< of a row of tensors
  std::size_t outputs = 10'000;
};

/// Throws load_error, whose text says what is wrong without naming the file: the caller knows it.
[[nodiscard]] graph read(std::string_view file, const limits& most = {});

}  // namespace troupe::model::onnx
