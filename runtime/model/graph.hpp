#pragma once
// Turns an ONNX graph of classic models into an engine: a list of steps over blocks of rows, all in double.
//
// A value that the graph holds as float32 is rounded to float32 after every step, which gives exactly what
// float32 arithmetic would (a sum, product or quotient of two floats, computed in double, rounds to the same
// float). So a graph that scales in float32 answers as it does elsewhere, and one that scales in double as
// scikit-learn does: scaling is never folded into thresholds, because rows of real data sit on thresholds.
//
// Built in: TreeEnsembleRegressor, TreeEnsembleClassifier, LinearRegressor, LinearClassifier, Scaler,
// Imputer, Normalizer, Binarizer, Add, Sub, Mul, Div, MatMul, Gemm, Relu, Sigmoid, Tanh, Softmax, Cast
// between float32 and float64, Concat, ArrayFeatureExtractor, Gather, Constant; Identity, ZipMap, Reshape,
// Flatten where they change nothing. Any other operator on the way to the answer is a load_error that names
// it.

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/input_step.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/onnx.hpp"

namespace troupe::model {

/// What the graph itself may not say.
struct graph_hints {
  std::vector<std::string> features;
  std::vector<std::string> classes;
  bool explain = false;  ///< keep what explanations need beside the engine
  /// What only ONNX Runtime's rows know: see onnxruntime::table_hints.
  input_step input = {};
  std::map<std::string, std::vector<std::int64_t>> shapes = {};
  std::vector<std::string> outputs = {};
  bool softmax = false;
  std::size_t top_k = 0;

  /// The built-in engines are passed over.
  [[nodiscard]] bool beyond_tables() const {
    return input.is != input_step::kind::none || !shapes.empty() || !outputs.empty() || softmax;
  }
};

struct compiled_graph {
  model::schema schema;
  output_spec output;
  std::unique_ptr<const model::engine> engine;
  std::shared_ptr<const explainer> explain = {};  ///< of that engine, which has to outlive it
  std::string unexplained = {};                   ///< why there is none
};

/// `g` and the bytes that it looks into are needed during the call only. Throws load_error without naming the
/// file.
[[nodiscard]] compiled_graph compile(const onnx::graph& g, const graph_hints& hints,
                                     const onnx::limits& most);

/// The same of an ONNX file's bytes.
[[nodiscard]] compiled_graph compile(std::string_view file, const graph_hints& hints = {},
                                     const onnx::limits& most = {});

}  // namespace troupe::model
