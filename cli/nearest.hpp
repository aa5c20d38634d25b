#pragma once
// The word that was probably meant.

#include <string>
#include <string_view>
#include <vector>

namespace troupe::cli {

/// The candidate within an edit distance of 2 (insert, delete, change, swap of neighbours) and less than the
/// word's length; the first of several as near; empty if there is none.
[[nodiscard]] std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace troupe::cli
