#pragma once
// The directory of models on disk:
//
//   <directory>/<name>/<version>/model.onnx    the graph
//   <directory>/<name>/<version>/model.yaml    optional: features: [names], classes: [names]
//   <directory>/<name>/model.yaml              optional: production: 3
//
// A version is a number, with or without a leading v. Names that begin with a dot, and files that are none of
// these, are ignored; a directory that is none of these is an error.

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "runtime/model/model.hpp"
#include "runtime/policy/model_source.hpp"

namespace troupe::model {

struct repository_options {
  std::filesystem::path directory;
  /// Answers requests that name no model. Empty: the only model, or with several of them `diabetes-rf-model`,
  /// the one that ships, if it is there.
  std::string default_model;
  bool fallback = true;  ///< a version that is not loaded is answered by the production version
  /// Versions from elsewhere. A model among them is not looked for in the directory, which may then be
  /// missing.
  policy::model_source_update source = {};
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

/// Reads `version_dir`/model.onnx and its model.yaml. Throws load_error.
[[nodiscard]] std::shared_ptr<const loaded_model> load_model(const std::filesystem::path& version_dir,
                                                             std::string name, std::string version);

}  // namespace troupe::model
