#pragma once
// What a model.yaml says about models that are no tables (docs/models.md):
//
//   input: {type: image, size: [224, 224], ...}  or  {type: bytes, first: 1024, last: 1024, ...}
//   shapes: {ids: [128]}       the shape of a row, of inputs that leave it open
//   outputs: [logits]          those to answer with
//   softmax: true              the output holds logits
//   top_k: 5                   so many classes are answered
//   classes_file: labels.txt   one name a line, instead of `classes:`

#include <filesystem>
#include <string_view>

#include "runtime/model/graph.hpp"

namespace troupe::model {

/// `text`: of `file`, valid YAML. Other keys are passed over. Throws load_error, which names file and line.
void read_tensor_hints(std::string_view text, const std::filesystem::path& file, graph_hints& hints);

}  // namespace troupe::model
