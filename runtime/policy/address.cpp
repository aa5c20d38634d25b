#include "runtime/policy/address.hpp"

#include <algorithm>
#include <cstddef>

namespace troupe::policy {
namespace {

constexpr std::size_t longest_text = 64;

/// A decimal number without leading zeros, which some read as octal.
std::optional<int> decimal(std::string_view text, int most) {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  int value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  if (value > most) return std::nullopt;
  return value;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool four(std::string_view text, std::uint8_t* to) {
  for (int i = 0; i < 4; ++i) {
    const auto dot = text.find('.');
    if ((i < 3) == (dot == std::string_view::npos)) return false;
    const auto value = decimal(text.substr(0, dot), 255);
    if (!value) return false;
    to[i] = static_cast<std::uint8_t>(*value);
    text.remove_prefix(i < 3 ? dot + 1 : text.size());
  }
  return true;
}

int hexadecimal(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// RFC 4291, 2.2.
bool six(std::string_view text, std::array<std::uint8_t, 16>& to) {
  std::array<std::uint8_t, 16> bytes{};
  std::size_t at = 0;
  std::optional<std::size_t> gap;
  if (text.substr(0, 2) == "::") {
    gap = 0;
    text.remove_prefix(2);
  }
  while (!text.empty()) {
    const auto colon = text.find(':');
    const auto group = text.substr(0, colon);
    if (group.find('.') != std::string_view::npos) {
      if (colon != std::string_view::npos || at > 12 || !four(group, bytes.data() + at)) return false;
      at += 4;
      text = {};
      break;
    }
    if (group.empty() || group.size() > 4 || at > 14) return false;
    unsigned value = 0;
    for (const char c : group) {
      const int digit = hexadecimal(c);
      if (digit < 0) return false;
      value = value << 4 | static_cast<unsigned>(digit);
    }
    bytes[at++] = static_cast<std::uint8_t>(value >> 8);
    bytes[at++] = static_cast<std::uint8_t>(value);
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
    if (text.empty()) return false;  // one colon at the end
    if (text.front() == ':') {
      if (gap) return false;
      gap = at;
      text.remove_prefix(1);
    }
  }
  if (gap ? at > 14 : at != 16) return false;
  to.fill(0);
  const std::size_t head = gap.value_or(16);
  std::copy_n(bytes.begin(), std::min(head, at), to.begin());
  if (gap)
    std::copy_backward(bytes.begin() + static_cast<std::ptrdiff_t>(head),
                       bytes.begin() + static_cast<std::ptrdiff_t>(at), to.end());
  return true;
}

address mapped(const std::uint8_t* v4) {
  address a;
  a.bytes[10] = a.bytes[11] = 0xff;
  std::copy_n(v4, 4, a.bytes.begin() + 12);
  return a;
}

}  // namespace

bool address::is_v4() const {
  return std::all_of(bytes.begin(), bytes.begin() + 10, [](auto b) { return b == 0; }) && bytes[10] == 0xff &&
         bytes[11] == 0xff;
}

std::optional<address> parse_address(std::string_view text) {
  text = trimmed(text);
  if (text.empty() || text.size() > longest_text) return std::nullopt;
  if (text.front() == '[') {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    const auto behind = text.substr(end + 1);
    if (!behind.empty() && (behind.front() != ':' || !decimal(behind.substr(1), 65535))) return std::nullopt;
    text = text.substr(1, end - 1);
    address a;
    if (!six(text, a.bytes)) return std::nullopt;
    return a;
  }
  const auto colons = std::count(text.begin(), text.end(), ':');
  if (colons > 1) {
    address a;
    if (!six(text, a.bytes)) return std::nullopt;
    return a;
  }
  if (colons == 1) {
    const auto at = text.find(':');
    if (!decimal(text.substr(at + 1), 65535)) return std::nullopt;
    text = text.substr(0, at);
  }
  std::uint8_t bytes[4];
  if (!four(text, bytes)) return std::nullopt;
  return mapped(bytes);
}

bool network::contains(const address& a) const {
  const auto whole = static_cast<std::size_t>(bits / 8);
  if (!std::equal(base.bytes.begin(), base.bytes.begin() + static_cast<std::ptrdiff_t>(whole),
                  a.bytes.begin()))
    return false;
  const int rest = bits % 8;
  return rest == 0 || (a.bytes[whole] ^ base.bytes[whole]) >> (8 - rest) == 0;
}

std::optional<network> parse_network(std::string_view text) {
  text = trimmed(text);
  const auto slash = text.find('/');
  const auto base = parse_address(text.substr(0, slash));
  // A port has no place in a network.
  if (!base || text.find(']') != std::string_view::npos ||
      (base->is_v4() && text.substr(0, slash).find('.') != std::string_view::npos &&
       std::count(text.begin(), text.end(), ':') == 1))
    return std::nullopt;
  network n{*base, 128};
  if (slash != std::string_view::npos) {
    const bool v4 = text.substr(0, slash).find(':') == std::string_view::npos;
    const auto bits = decimal(text.substr(slash + 1), v4 ? 32 : 128);
    if (!bits) return std::nullopt;
    n.bits = *bits + (v4 ? 96 : 0);
  }
  for (int i = n.bits; i < 128; ++i)
    if (n.base.bytes[static_cast<std::size_t>(i / 8)] >> (7 - i % 8) & 1) return std::nullopt;
  return n;
}

address client_of(const address& peer, std::string_view forwarded_for, std::span<const network> trusted) {
  const auto is_trusted = [&](const address& a) {
    return std::any_of(trusted.begin(), trusted.end(), [&](const auto& n) { return n.contains(a); });
  };
  address who = peer;
  while (!forwarded_for.empty() && is_trusted(who)) {
    const auto comma = forwarded_for.rfind(',');
    const auto last = comma == std::string_view::npos ? forwarded_for : forwarded_for.substr(comma + 1);
    const auto before = parse_address(last);
    if (!before) break;
    who = *before;
    forwarded_for = comma == std::string_view::npos ? std::string_view() : forwarded_for.substr(0, comma);
  }
  return who;
}

address limited_part(const address& a) {
  if (a.is_v4()) return a;
  address part = a;
  std::fill(part.bytes.begin() + 8, part.bytes.end(), std::uint8_t{0});
  return part;
}

}  // namespace troupe::policy
