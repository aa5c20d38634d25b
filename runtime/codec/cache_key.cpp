#include "runtime/codec/cache_key.hpp"

#include <xxhash.h>

namespace troupe::codec {

policy::cache_key row_key(std::uint64_t model_digest, std::span<const double> row) {
  const XXH128_hash_t h = XXH3_128bits_withSeed(row.data(), row.size_bytes(), model_digest);
  return {h.high64, h.low64};
}

std::string level2_name(const policy::cache_key& key) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out = "troupe:";
  for (const std::uint64_t half : {key.hi, key.lo})
    for (int shift = 60; shift >= 0; shift -= 4) out += digits[(half >> shift) & 15];
  return out;
}

}  // namespace troupe::codec
