#pragma once
// The word that was probably meant.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::policy {

/// The candidate within an edit distance of `most` (optimal string alignment: insert, delete, change, swap of
/// neighbours), the first of several as near; empty if there is none.
[[nodiscard]] std::string nearest(std::string_view word, const std::vector<std::string>& candidates,
                                  std::size_t most);

}  // namespace troupe::policy
