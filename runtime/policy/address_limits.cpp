#include "runtime/policy/address_limits.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

namespace troupe::policy {
namespace {

constexpr std::size_t ways = 8;

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

std::uint64_t number(const std::uint8_t* bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | bytes[i];
  return value;
}

}  // namespace

address_limits::address_limits(double rate, double burst, std::size_t most, std::uint64_t seed)
    : seed_(seed) {
  if (!(rate > 0) || !(rate <= 1e9))
    throw std::invalid_argument("address_limits: rate must be from above 0 to 1e9");
  if (!(burst >= 1) || !(burst / rate <= 1e9))
    throw std::invalid_argument("address_limits: burst must be at least 1, and filled within 1e9 s");
  const std::size_t sets = std::bit_ceil(std::max<std::size_t>(1, (most + ways - 1) / ways));
  entries_.resize(sets * ways);
  mask_ = sets - 1;
  interval_ = std::max<nanos>(1, std::llround(static_cast<double>(second) / rate));
  tolerance_ = std::llround(static_cast<double>(interval_) * (burst - 1));
}

nanos address_limits::take(const address& who, nanos now) {
  now = std::max<nanos>(now, 1);
  const std::uint64_t high = number(who.bytes.data()), low = number(who.bytes.data() + 8);
  entry* const set = entries_.data() + (mix(mix(high ^ seed_) ^ low) & mask_) * ways;
  entry* place = set;
  for (entry* e = set; e != set + ways; ++e) {
    if (e->full_at != 0 && e->high == high && e->low == low) {
      const nanos from = std::max(e->full_at, now);
      if (from - now > tolerance_) return from - now - tolerance_;
      e->full_at = from + interval_;
      return 0;
    }
    if (e->full_at < place->full_at) place = e;
  }
  if (place->full_at > now) ++forgotten_;
  *place = {high, low, now + interval_};
  return 0;
}

}  // namespace troupe::policy
