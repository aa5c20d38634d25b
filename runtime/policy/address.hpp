#pragma once
// IP addresses and networks, and which of the addresses that a request names is the client's.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace troupe::policy {

/// IPv6; an IPv4 address is mapped (::ffff:a.b.c.d, RFC 4291, 2.5.5.2), so that both forms are one client.
struct address {
  std::array<std::uint8_t, 16> bytes{};
  [[nodiscard]] bool operator==(const address&) const = default;
  [[nodiscard]] bool is_v4() const;
};

/// "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", either also with a port ("192.0.2.1:80", "[::1]:80") or in
/// brackets. A zone (%eth0) is not taken.
[[nodiscard]] std::optional<address> parse_address(std::string_view text);

struct network {
  address base;
  int bits = 128;  ///< of the mapped form: an IPv4 network has 96 more
  [[nodiscard]] bool contains(const address& a) const;
};

/// "10.0.0.0/8", "fd00::/8", or an address alone. Bits behind the prefix must be zero.
[[nodiscard]] std::optional<network> parse_network(std::string_view text);

/// Who asks: `peer`, unless that is a trusted proxy: then the last address of X-Forwarded-For that is no
/// trusted proxy, for what stands before it was written by someone who is not trusted. What can't be read
/// ends the search: the proxy that passed it on stands for it.
[[nodiscard]] address client_of(const address& peer, std::string_view forwarded_for,
                                std::span<const network> trusted);

/// What limits count: an IPv4 address, and of IPv6 the /64 that one customer is usually given.
[[nodiscard]] address limited_part(const address& a);

}  // namespace troupe::policy
