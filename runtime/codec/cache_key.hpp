#pragma once
// The cache's key of a row, and its name in Redis.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/policy/flat_cache.hpp"

namespace troupe::model {
struct tensor_input;
}

namespace troupe::codec {

/// XXH3-128 over the row's exact bytes, seeded with the model's digest: another model, or another content
/// under the same version, never shares an entry. -0 and 0 differ, and a row with NaN must not be looked up
/// at all.
[[nodiscard]] policy::cache_key row_key(std::uint64_t model_digest, std::span<const double> row);
/// Of a row with texts: their contents count, not where they lie.
[[nodiscard]] policy::cache_key row_key(std::uint64_t model_digest, std::span<const double> row,
                                        const std::vector<model::tensor_input>& inputs);

/// "troupe:" and 32 hexadecimal digits.
[[nodiscard]] std::string level2_name(const policy::cache_key& key);

}  // namespace troupe::codec
