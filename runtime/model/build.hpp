#pragma once
// What the readers of models share: a table of rows that goes from step to step, and the model at its end.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/model/category_splits.hpp"
#include "runtime/model/graph.hpp"
#include "runtime/model/pipeline.hpp"

namespace troupe::model {

/// Builds a pipeline of doubles over one table of `width` features. Throws load_error beyond the limits.
class pipeline_builder {
 public:
  pipeline_builder(std::size_t width, const onnx::limits& most);

  [[nodiscard]] std::uint32_t rows() const { return 0; }  ///< the slot of the features themselves
  [[nodiscard]] std::size_t width_of(std::uint32_t s) const { return made_->slots[s].width; }
  /// The slot of what the step makes of those slots.
  std::uint32_t add(step_ptr s, std::vector<std::uint32_t> from, std::size_t width);
  /// The slot that trees of `e` read whose splits by categories are `sets`; e.width becomes that slot's.
  std::uint32_t add_sets(category_splits sets, ensemble& e, std::uint32_t from);
  /// The model itself, once. With `keep`, what an explanation needs is kept beside the engine.
  std::uint32_t add_model(ensemble e, std::uint32_t from, bool keep);
  std::uint32_t add_model(affine a, post_transform how, bool binary, std::uint32_t from, bool keep);
  /// Makes the row's answer NaN where a value in slot `from` is none of its column's categories.
  void require_known(const std::vector<category_list>& of, std::uint32_t from);

  /// Column c of slot `from` is a feature that requests have as a text, if rules[c] is there. Throws
  /// load_error where it is no feature as it is, or has another rule already.
  void take_texts(const std::vector<std::shared_ptr<const cell_rule>>& rules, std::uint32_t from);

  /// `kind`: "forest", "linear". Names: those of the hints, else `names`, else f0, f1, ... The classes of
  /// `output` too may come from the hints.
  [[nodiscard]] compiled_graph finish(std::uint32_t result, std::string_view kind, output_spec output,
                                      std::vector<std::string> names, const graph_hints& hints);

 private:
  std::unique_ptr<pipeline> made_ = std::make_unique<pipeline>();
  const onnx::limits& most_;
  struct requirement {
    std::uint32_t answer;  ///< slot of one column: 0 or NaN
    std::uint32_t from;
    std::vector<double> examples;  ///< by column of `from`, a value that is known
  };
  std::vector<requirement> required_;
  std::vector<std::shared_ptr<const cell_rule>> rules_;  ///< by feature
  std::size_t model_ = 0;
  std::optional<ensemble> trees_;
  std::optional<affine> linear_;
};

}  // namespace troupe::model
