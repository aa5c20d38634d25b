#pragma once
// What must hold of whatever a reader of models accepts.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

#include "runtime/model/graph.hpp"
#include "runtime/model/shap.hpp"

inline constexpr troupe::model::onnx::limits fuzz_limits = {
    .file_bytes = 1U << 20, .graph_nodes = 1000, .tree_nodes = 100'000, .features = 300, .outputs = 100};

/// Answers do not depend on the batch, names are found, and explaining does not end the process.
inline void check_answers(const troupe::model::compiled_graph& made) {
  const std::size_t width = made.schema.features.size();
  const std::size_t out_width = made.output.width;
  constexpr std::size_t count = 27;  // one group of 16 rows, one of 8, three alone
  std::vector<double> x(count * width);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] =
        i % 11 == 3 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(i * 7919 % 64) / 8 - 4;
  }
  std::vector<const double*> rows;
  for (std::size_t i = 0; i < count; ++i) rows.push_back(x.data() + i * width);
  std::vector<double> all(count * out_width);
  made.engine->score(rows, all.data());
  std::vector<double> one(out_width);
  for (std::size_t i = 0; i < count; ++i) {
    made.engine->score(std::span(rows).subspan(i, 1), one.data());
    for (std::size_t k = 0; k < out_width; ++k) {
      const double a = all[i * out_width + k];
      if (a != one[k] && !(std::isnan(a) && std::isnan(one[k]))) std::abort();
    }
  }
  for (const troupe::model::feature& f : made.schema.features) {
    if (made.schema.index_of(f.name) < 0) std::abort();
  }
  if (!made.explain) return;
  const std::size_t outputs = made.explain->outputs();
  std::vector<double> shares(9 * outputs * width);
  std::vector<double> scores(9 * outputs);
  made.explain->explain(std::span(rows).first(9), shares.data(), scores.data());
}
