#pragma once
// What a model.yaml says of the features of a table (docs/models.md), and the engine that does it:
//
//   features:
//     - age                       as in a plain list of names
//     - {name: bmi, default: 25, minimum: 10, maximum: 60, outside: clip, mean: 26.1, scale: 4.4}
//     - {name: colour, categories: [red, green, blue], encode: one_hot, unknown: ignore}
//
// What concerns one value of a request is its feature's cell_rule, which who reads the request applies.
// Scaling and one-hot columns, which mean something to the model alone, are steps in double in front of its
// engine.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/cell_rule.hpp"
#include "runtime/model/graph.hpp"
#include "runtime/model/pipeline.hpp"

namespace troupe::model {

class preprocessing {
 public:
  struct feature {
    std::string name;
    std::shared_ptr<const cell_rule> rule = {};  ///< null: none
    double mean = 0;                             ///< (x - mean) / scale
    double scale = 1;
    bool one_hot = false;
  };

  /// Names are distinct. Throws load_error where they make more columns than `most` allows.
  explicit preprocessing(std::vector<feature> features, const onnx::limits& most = {});

  /// What the model's own columns are called, one after the other: colour=red, ...
  [[nodiscard]] const std::vector<std::string>& columns() const { return columns_; }
  [[nodiscard]] std::size_t features() const { return features_.size(); }
  [[nodiscard]] bool widens() const { return columns_.size() != features_.size(); }
  /// The features of a request, as long as nothing is known of the model.
  [[nodiscard]] schema request() const;
  /// `values`: rows of the request, one after the other; those with a missing value are left out.
  [[nodiscard]] std::vector<std::vector<double>> rows_of_model(const std::vector<double>& values) const;
  /// A model of the columns becomes one of the features.
  void put_before(compiled_graph& graph) const;

 private:
  std::vector<feature> features_;
  std::vector<std::string> columns_;
  std::shared_ptr<const pipeline> front_;  ///< null: the columns are the features
};

/// `text`: of `file`, valid YAML. Null where `features` is a plain list of names, or not there. Throws
/// load_error, which names file, line and key.
[[nodiscard]] std::unique_ptr<const preprocessing> read_preprocessing(std::string_view text,
                                                                      const std::filesystem::path& file);

}  // namespace troupe::model
