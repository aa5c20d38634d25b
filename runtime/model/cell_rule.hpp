#pragma once
// What model.yaml says of one feature's values: which ones a request may have, and the number that each
// becomes before anything else sees it.

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::model {

struct cell_rule {
  static constexpr double none = std::numeric_limits<double>::quiet_NaN();

  double missing = none;  ///< what a missing value becomes; NaN: it stays one
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool clip = false;  ///< a value outside becomes the bound; else it is refused
  std::vector<std::string>
      categories;         ///< not empty: a request has one of these texts, which becomes its index
  double unknown = none;  ///< what another text becomes; NaN: it is refused

  /// Call once `categories` is filled.
  void index();
  /// The number of a category, or of an unknown one; NaN: refused.
  [[nodiscard]] double number_of(std::string_view category) const;
  /// False: outside of the bounds, and x is as it was.
  [[nodiscard]] bool take(double& x) const;
  /// "from 0 to 120", "at least 0", "one of red, green, blue".
  [[nodiscard]] std::string allowed() const;

  /// Whether both make the same of every value.
  [[nodiscard]] bool operator==(const cell_rule& other) const;

 private:
  std::vector<std::uint32_t> sorted_;  ///< indices of categories, by name
};

}  // namespace troupe::model
