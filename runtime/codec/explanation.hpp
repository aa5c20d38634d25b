#pragma once
// The explanation of a prediction, as a result carries it (docs/formats.md).

#include <cstddef>
#include <string>
#include <vector>

#include "messages/batch.hpp"

namespace troupe::codec {

/// Owns what it computes with; not thread safe, one an actor.
class explanation_writer {
 public:
  /// ,"explanation":[...] of a record that asks for one, whose model has an explainer: for each score of a
  /// row an object of output (where there are several, or classes), base, score and contributions by feature;
  /// a list of those lists for a list of rows. Good until the next call.
  [[nodiscard]] const std::string& write(const record& request);

 private:
  std::string text_;
  std::vector<const double*> rows_;
  std::vector<double> contributions_;
  std::vector<double> scores_;
};

/// What an explainer's scores are called: a class each, or the second of two classes, or "target 0"; empty
/// for the only score of a regression.
[[nodiscard]] std::vector<std::string> names_of_scores(const model::loaded_model& m);

}  // namespace troupe::codec
