#pragma once
// Reads a LightGBM model as Booster.save_model writes it, text of version v3 or v4
// (https://github.com/microsoft/LightGBM/blob/master/src/io/tree.cpp, Tree::ToString): splits by numbers and
// by sets of categories (category_splits.hpp), constant leaves. Values, thresholds and sums are doubles there
// as here. A feature that had no missing value in
// training takes one for 0, as LightGBM does.

#include <string_view>

#include "runtime/model/graph.hpp"

namespace troupe::model {

/// `file`: the bytes of a model.txt. Throws load_error without naming the file.
[[nodiscard]] compiled_graph read_lightgbm(std::string_view file, const graph_hints& hints = {},
                                           const onnx::limits& most = {});

}  // namespace troupe::model
