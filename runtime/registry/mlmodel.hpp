#pragma once
// What an `MLmodel` says (YAML, mlflow.org "MLmodel file"): which file holds the model, and its features.
// And the input example beside it, rows that a version can be probed with.

#include <string>
#include <string_view>
#include <vector>

namespace troupe::registry {

enum class flavour { none, onnx, xgboost, lightgbm, skops };

struct mlmodel {
  flavour kind = flavour::none;       ///< the first there is, in the order of the enumeration
  std::string file;                   ///< relative; empty with none
  std::vector<std::string> features;  ///< the signature's column names; empty for tensors
  std::string input_example;          ///< relative; empty if there is none
  std::string others;                 ///< flavours by name, for messages
};

/// Throws std::runtime_error, one line. Paths are checked (is_safe_path).
[[nodiscard]] mlmodel parse_mlmodel(const std::string& text);

[[nodiscard]] std::string_view name_of(flavour f);

struct example_rows {
  std::vector<std::string> columns;  ///< empty for a tensor
  std::vector<std::vector<double>> rows;
};
/// `{"columns": [..], "data": [[..]]}`, `{"inputs": ..}` or a plain list of rows; null is NaN. Throws
/// std::runtime_error.
[[nodiscard]] example_rows parse_input_example(const std::string& text);

}  // namespace troupe::registry
