#pragma once
// The walk of TreeSHAP for the processor at hand. What it computes may differ in the last bits from one
// processor to another.

#include <cstddef>
#include <cstdint>

#include "runtime/model/ensemble.hpp"

namespace troupe::model {

/// What a walk reads of the trees, see tree_shap.
struct shap_trees {
  const ensemble& e;
  const double* share_of;
  std::size_t depth;
  std::size_t longest;
  const double *up, *stay, *off;

  /// Bytes that a walk of `lanes` rows needs, on an address divisible by 64.
  [[nodiscard]] std::size_t room(std::size_t lanes) const {
    return (2 * (depth + 1) * (longest + 1) + 2 * (longest + 2)) * 8 * lanes + 64 * (longest + 2);
  }
};

/// Rows that are explained together, and where their contributions are added.
struct shap_rows {
  const double* in;
  const std::uint32_t* where;
  std::size_t to;
  double* out;
};

constexpr std::size_t shap_lanes = 8;

/// Eight rows, or a single one.
using shap_walk = void (*)(const shap_trees&, const shap_rows&, void* room);
struct shap_walks {
  shap_walk one, eight;
};
[[nodiscard]] shap_walks portable_shap_walks();
[[nodiscard]] shap_walks avx2_shap_walks();
[[nodiscard]] shap_walks avx512_shap_walks();

}  // namespace troupe::model
