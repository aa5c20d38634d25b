#pragma once
// Reads an XGBoost model as Booster.save_model writes it, JSON or UBJSON
// (https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html): boosters gbtree and dart, splits by
// numbers and by sets of categories (category_splits.hpp), one value a leaf.
//
// XGBoost adds leaves in float32, here they are added in double: answers differ by the rounding of its sums,
// some 1e-7 of the largest partial sum a tree. A model saved through the scikit-learn interface with early
// stopping answers with its best iterations, as it does there; any other with all of its trees.

#include <string_view>

#include "runtime/model/graph.hpp"

namespace troupe::model {

/// `file`: the bytes of a model.json, or of a model.ubj with `binary`. Throws load_error without naming it.
[[nodiscard]] compiled_graph read_xgboost(std::string_view file, bool binary, const graph_hints& hints = {},
                                          const onnx::limits& most = {});

}  // namespace troupe::model
