#pragma once
// address_limits: one rate and burst for each of very many addresses, in memory of a fixed size.
//
// An entry is the virtual scheduling form of a token bucket (ITU-T I.371, annex A: the generic cell rate
// algorithm): the time at which the bucket will be full again says all. Entries lie in sets of eight. A set
// that is full forgets the address whose bucket is the fullest: mostly one that is full, of which nothing is
// lost; and a flood of new addresses forgets others of its kind before the one that has used up its tokens.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/policy/address.hpp"
#include "runtime/policy/time.hpp"

namespace troupe::policy {

class address_limits {
 public:
  /// `rate` tokens a second (> 0), at most `burst` (>= 1) saved up; at least `most` addresses, rounded up to
  /// a power of two. `seed`: nobody outside may know which addresses share a set. Throws
  /// std::invalid_argument.
  address_limits(double rate, double burst, std::size_t most, std::uint64_t seed);

  /// 0: a token was taken. Else ns until there will be one; none was taken.
  [[nodiscard]] nanos take(const address& who, nanos now);

  [[nodiscard]] std::size_t bytes() const { return entries_.size() * sizeof(entry); }
  /// Addresses that were forgotten before their buckets were full again.
  [[nodiscard]] std::uint64_t forgotten() const { return forgotten_; }

 private:
  struct entry {
    std::uint64_t high = 0, low = 0;  ///< the address
    nanos full_at = 0;                ///< 0: free
  };

  std::vector<entry> entries_;
  std::size_t mask_;  ///< of sets
  nanos interval_;    ///< of one token
  nanos tolerance_;   ///< full_at may be so far ahead of now before a token is taken
  std::uint64_t seed_;
  std::uint64_t forgotten_ = 0;
};

}  // namespace troupe::policy
