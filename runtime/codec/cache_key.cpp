#include "runtime/codec/cache_key.hpp"

#include <xxhash.h>

#include "runtime/model/cells.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {

policy::cache_key row_key(std::uint64_t model_digest, std::span<const double> row) {
  const XXH128_hash_t h = XXH3_128bits_withSeed(row.data(), row.size_bytes(), model_digest);
  return {h.high64, h.low64};
}

policy::cache_key row_key(std::uint64_t model_digest, std::span<const double> row,
                          const std::vector<model::tensor_input>& inputs) {
  thread_local std::string packed;
  packed.clear();
  for (const auto& i : inputs) {
    const auto cells = row.subspan(i.begin, i.size);
    if (i.holds == model::tensor_input::kind::number) {
      packed.append(reinterpret_cast<const char*>(cells.data()), cells.size_bytes());
      continue;
    }
    for (const double cell : cells) {
      const std::string_view text = model::text_in(cell);
      const std::uint64_t size = text.size();
      packed.append(reinterpret_cast<const char*>(&size), sizeof size);
      packed += text;
    }
  }
  const XXH128_hash_t h = XXH3_128bits_withSeed(packed.data(), packed.size(), model_digest);
  if (packed.capacity() > (std::size_t{1} << 20)) std::string().swap(packed);
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
