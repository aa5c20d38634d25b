#include "runtime/policy/flat_cache.hpp"

#include <algorithm>
#include <stdexcept>

namespace troupe::policy {

flat_cache::flat_cache(std::size_t bytes, std::size_t stride, nanos ttl) : stride_(stride), ttl_(ttl) {
  if (stride == 0) throw std::invalid_argument("flat_cache: stride must be greater than zero");
  if (ttl <= 0) throw std::invalid_argument("flat_cache: ttl must be greater than zero");
  const std::size_t set_bytes = ways * (sizeof(tag) + stride * sizeof(double));
  sets_ = std::clamp<std::uint64_t>(bytes / set_bytes, 1, std::uint64_t{1} << 32);
  tags_.resize(static_cast<std::size_t>(sets_) * ways);
  values_.resize(tags_.size() * stride_);
}

std::size_t flat_cache::bytes() const {
  return tags_.size() * sizeof(tag) + values_.size() * sizeof(double);
}

bool flat_cache::get(const cache_key& key, nanos now, double* value) {
  const std::size_t first = first_of(key);
  for (std::size_t i = first; i < first + ways; ++i) {
    tag& t = tags_[i];
    if (t.key != key) continue;
    if (t.expires <= now) break;
    t.used = ++tick_;
    const double* from = values_.data() + i * stride_;
    if (stride_ == 1)
      *value = *from;
    else
      std::copy_n(from, stride_, value);
    ++hits_;
    return true;
  }
  ++misses_;
  return false;
}

void flat_cache::put(const cache_key& key, nanos now, const double* value) {
  const std::size_t first = first_of(key);
  std::size_t victim = first;
  for (std::size_t i = first; i < first + ways; ++i) {
    if (tags_[i].key == key) {
      victim = i;
      break;
    }
    const bool over = tags_[i].expires <= now;
    const bool victim_over = tags_[victim].expires <= now;
    if (over != victim_over ? over : tags_[i].used < tags_[victim].used) victim = i;
  }
  tag& t = tags_[victim];
  if (t.expires > now && t.key != key) ++evictions_;
  t = {key, later(now, ttl_), ++tick_};
  std::copy_n(value, stride_, values_.data() + victim * stride_);
}

void flat_cache::clear() {
  std::fill(tags_.begin(), tags_.end(), tag{});
}

}  // namespace troupe::policy
