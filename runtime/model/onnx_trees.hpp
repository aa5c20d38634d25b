#pragma once
// Trees as ONNX keeps them: ai.onnx.ml TreeEnsembleRegressor and TreeEnsembleClassifier, see
// https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html.

#include <cstddef>

#include "runtime/model/ensemble.hpp"
#include "runtime/model/onnx.hpp"

namespace troupe::model {

/// The transform an operator's post_transform attribute names. Throws load_error for the ones not built in.
[[nodiscard]] post_transform post_transform_of(const onnx::node& n);

/// `n` is one of the two operators, over rows of `width` columns; `float_input`: they hold float32 values.
/// Every index is checked: children exist, each node has one parent, each tree one root. Throws load_error.
[[nodiscard]] ensemble read_trees(const onnx::node& n, std::size_t width, bool float_input,
                                  const onnx::limits& most);

}  // namespace troupe::model
