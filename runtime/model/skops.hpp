#pragma once
// Reads what skops.io.dump writes (https://skops.readthedocs.io/en/stable/persistence.html): a ZIP archive of
// schema.json, which describes objects as plain data, and .npy files. Nothing in it is executed.
//
// Built in, of scikit-learn: Pipeline, ColumnTransformer, FunctionTransformer that passes on; StandardScaler,
// MinMaxScaler, MaxAbsScaler, RobustScaler, Normalizer, SimpleImputer, OneHotEncoder and OrdinalEncoder of
// numbers; DecisionTree*, ExtraTree*, RandomForest*, ExtraTrees*, GradientBoosting*, HistGradientBoosting*
// without categorical features; LinearRegression, Ridge, Lasso, ElasticNet, LogisticRegression. Any other
// class is a load_error that names it.
//
// Everything is computed in double, as scikit-learn does; trees other than HistGradientBoosting's round their
// input to float32 first. A category that an encoder with handle_unknown='error' does not know makes the
// answer NaN.

#include <string_view>

#include "runtime/model/graph.hpp"

namespace troupe::model {

/// `file`: the bytes of a model.skops. Throws load_error without naming the file.
[[nodiscard]] compiled_graph read_skops(std::string_view file, const graph_hints& hints = {},
                                        const onnx::limits& most = {});

}  // namespace troupe::model
