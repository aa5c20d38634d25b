#pragma once
// The directory of models on disk:
//
//   <directory>/<name>/<version>/model.onnx    the model: ONNX,
//                               model.skops    or scikit-learn's objects as skops writes them,
//                               model.json     or XGBoost's JSON, or its UBJSON: model.ubj,
//                               model.txt      or LightGBM's text; exactly one of them
//   <directory>/<name>/<version>/model.yaml    optional: features, classes, and what docs/models.md lists
//   <directory>/<name>/<version>/input_example.json    optional: rows to compare engines on, as MLflow's
//   <directory>/<name>/model.yaml              optional: production: 3
//
// A version is a number, with or without a leading v. Names that begin with a dot, and files that are none of
// these, are ignored; a directory that is none of these is an error.

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/model/engine_choice.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/source.hpp"

namespace troupe::model {

/// The default among several models where none is configured.
inline constexpr std::string_view shipped_model = "diabetes-rf-model";

struct repository_options {
  std::filesystem::path directory;
  /// Answers requests that name no model. Empty: the only model, or with several of them `diabetes-rf-model`,
  /// the one that ships, if it is there.
  std::string default_model;
  bool fallback = true;  ///< a version that is not loaded is answered by the production version
  engine_options engines{};
  bool explain = false;  ///< keep what explanations need, about as much memory again as the model
  /// Versions from elsewhere, a registry; the directory may then be missing.
  model_source_update source = {};
  std::vector<std::string> not_here = {};  ///< models that are not looked for in the directory
};

class repository {
 public:
  using options = repository_options;
  explicit repository(options how) : options_(std::move(how)) {}

  /// Reads all models anew. Throws load_error; nothing changes for those who hold an earlier table.
  [[nodiscard]] std::shared_ptr<const model_table> load() const;

 private:
  options options_;
};

/// Whether a version's model may be in a file of that name: model.onnx, model.skops, ... or a pickle, which
/// is refused with the way out.
[[nodiscard]] bool is_model_file(std::string_view name);

/// Reads the model in `version_dir` and its model.yaml. Throws load_error.
[[nodiscard]] std::shared_ptr<const loaded_model> load_model(const std::filesystem::path& version_dir,
                                                             std::string name, std::string version,
                                                             const engine_options& engines = {},
                                                             bool explain = false);

}  // namespace troupe::model
