#pragma once
// flat_cache: predictions in process memory, 4-way set-associative, of fixed size.
//
// A key is 128 bits of a good hash: its low word picks a set of four entries, both words must agree for a hit
// (so two rows meet by accident with a chance of 2^-128 a pair). The least recently used entry of a set makes
// room for a new one, one whose time is over first. A value is `stride` doubles. Two cache lines of tags and
// one of value are touched a look-up; nothing is allocated after construction.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

struct cache_key {
  std::uint64_t hi = 0;
  std::uint64_t lo = 0;
  friend bool operator==(const cache_key&, const cache_key&) = default;
};

class flat_cache {
 public:
  static constexpr std::size_t ways = 4;

  /// As many entries as fit `bytes` (tags included), one set at least. `ttl` > 0: how long a value answers
  /// after it was put; `never`: until it is evicted. Throws std::invalid_argument when stride or ttl is not
  /// positive.
  flat_cache(std::size_t bytes, std::size_t stride, nanos ttl = never);

  /// Copies `stride` doubles to `value` and returns true if the key is there and its time is not over.
  [[nodiscard]] bool get(const cache_key& key, nanos now, double* value);
  /// Keeps `stride` doubles; a value the key had is replaced and its time begins anew.
  void put(const cache_key& key, nanos now, const double* value);
  void clear();

  [[nodiscard]] std::size_t capacity() const { return tags_.size(); }  ///< entries
  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] std::size_t stride() const { return stride_; }
  [[nodiscard]] std::uint64_t hits() const { return hits_; }
  [[nodiscard]] std::uint64_t misses() const { return misses_; }
  [[nodiscard]] std::uint64_t evictions() const {
    return evictions_;
  }  ///< of values that would still have answered

 private:
  struct alignas(32) tag {
    cache_key key;
    nanos expires = -never;
    std::uint64_t used = 0;  // tick of the last get or put
  };

  // Multiplication instead of a mask: the number of sets need not be a power of two, so all of `bytes` is
  // used.
  [[nodiscard]] std::size_t first_of(const cache_key& key) const {
    return static_cast<std::size_t>(((key.lo >> 32) * sets_) >> 32) * ways;
  }

  std::size_t stride_;
  nanos ttl_;
  std::uint64_t sets_;
  std::vector<tag> tags_;
  std::vector<double> values_;
  std::uint64_t tick_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
  std::uint64_t evictions_ = 0;
};

}  // namespace troupe::policy
