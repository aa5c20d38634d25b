#include "runtime/model/cell_rule.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace troupe::model {
namespace {

std::string text_of(double x) {
  char text[40];
  return {text, std::to_chars(text, text + sizeof text, x).ptr};
}

bool same(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

}  // namespace

void cell_rule::index() {
  sorted_.resize(categories.size());
  std::iota(sorted_.begin(), sorted_.end(), 0U);
  std::sort(sorted_.begin(), sorted_.end(), [&](auto a, auto b) { return categories[a] < categories[b]; });
}

double cell_rule::number_of(std::string_view category) const {
  const auto at =
      std::lower_bound(sorted_.begin(), sorted_.end(), category,
                       [&](std::uint32_t i, std::string_view text) { return categories[i] < text; });
  return at != sorted_.end() && categories[*at] == category ? static_cast<double>(*at) : unknown;
}

bool cell_rule::take(double& x) const {
  if (x >= minimum && x <= maximum) return true;
  if (clip) x = std::clamp(x, minimum, maximum);
  return clip;
}

std::string cell_rule::allowed() const {
  constexpr std::size_t most_shown = 12;
  std::string text;
  if (!categories.empty()) {
    text = "one of ";
    for (std::size_t i = 0; i < categories.size() && i < most_shown; ++i)
      text.append(i ? ", " : "").append(categories[i]);
    return categories.size() > most_shown ? text + ", ..." : text;
  }
  if (std::isinf(maximum)) return "at least " + text_of(minimum);
  if (std::isinf(minimum)) return "at most " + text_of(maximum);
  return "from " + text_of(minimum) + " to " + text_of(maximum);
}

bool cell_rule::operator==(const cell_rule& other) const {
  return same(missing, other.missing) && minimum == other.minimum && maximum == other.maximum &&
         clip == other.clip && categories == other.categories && same(unknown, other.unknown);
}

}  // namespace troupe::model
