#include "runtime/policy/trace_context.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::policy {
namespace {

constexpr std::size_t most_state = 512;
constexpr std::size_t most_members = 32;
constexpr std::size_t most_key = 256;
constexpr std::size_t most_value = 256;
constexpr std::string_view digits = "0123456789abcdef";

constexpr int value_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool all_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return value_of(c) >= 0; });
}

bool all_zero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

std::uint8_t byte_of(std::string_view two) {
  return static_cast<std::uint8_t>(value_of(two[0]) << 4 | value_of(two[1]));
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/// Level 2's grammar, which takes all keys of level 1: a lower-case letter or digit first; then also _ - * /
/// @.
bool is_key(std::string_view key) {
  if (key.empty() || key.size() > most_key || !lower_or_digit(key.front())) return false;
  return std::all_of(key.begin(), key.end(), [](char c) {
    return lower_or_digit(c) || c == '_' || c == '-' || c == '*' || c == '/' || c == '@';
  });
}

bool is_value(std::string_view value) {
  if (value.empty() || value.size() > most_value || value.back() == ' ') return false;
  return std::all_of(value.begin(), value.end(),
                     [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; });
}

}  // namespace

std::string hex(const trace_id& id) {
  std::string text(32, '0');
  for (std::size_t i = 0; i < id.size(); ++i) {
    text[2 * i] = digits[id[i] >> 4];
    text[2 * i + 1] = digits[id[i] & 15];
  }
  return text;
}

std::string hex(std::uint64_t span) {
  std::string text(16, '0');
  for (std::size_t i = 16; i-- > 0; span >>= 4) text[i] = digits[span & 15];
  return text;
}

bool is_traceparent(std::string_view v) {
  if (v.size() < traceparent_size || v[2] != '-' || v[35] != '-' || v[52] != '-') return false;
  const std::string_view version = v.substr(0, 2);
  if (!all_hex(version) || version == "ff" || (version == "00" && v.size() != traceparent_size)) return false;
  if (v.size() > traceparent_size && v[traceparent_size] != '-') return false;
  const std::string_view trace = v.substr(3, 32), span = v.substr(36, 16);
  return all_hex(trace) && !all_zero(trace) && all_hex(span) && !all_zero(span) && all_hex(v.substr(53, 2));
}

std::optional<trace_context> read_traceparent(std::string_view text) {
  if (!is_traceparent(text)) return std::nullopt;
  trace_context read;
  for (std::size_t i = 0; i < read.trace.size(); ++i) read.trace[i] = byte_of(text.substr(3 + 2 * i, 2));
  for (const char c : text.substr(36, 16))
    read.span = read.span << 4 | static_cast<std::uint64_t>(value_of(c));
  read.flags = byte_of(text.substr(53, 2));
  return read;
}

std::string write_traceparent(const trace_context& c) {
  const int flags = c.flags & (trace_context::sampled_flag | trace_context::random_flag);
  return "00-" + hex(c.trace) + "-" + hex(c.span) + "-0" + digits[static_cast<std::size_t>(flags)];
}

bool is_tracestate(std::string_view text) {
  if (text.size() > most_state) return false;
  std::array<std::string_view, most_members> keys;
  std::size_t count = 0;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view member = trimmed(text.substr(0, comma));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    if (member.empty()) continue;  // allowed between commas
    const auto equals = member.find('=');
    if (equals == std::string_view::npos || count == most_members) return false;
    const std::string_view key = member.substr(0, equals);
    if (!is_key(key) || !is_value(member.substr(equals + 1))) return false;
    const auto end = keys.begin() + static_cast<std::ptrdiff_t>(count);
    if (std::find(keys.begin(), end, key) != end) return false;
    keys[count++] = key;
  }
  return true;
}

std::string join_tracestate(std::span<const std::string_view> fields) {
  std::string joined;
  for (const std::string_view field : fields) {
    const std::string_view one = trimmed(field);
    if (one.empty()) continue;
    if (joined.size() + one.size() > most_state) return {};
    joined += (joined.empty() ? "" : ",");
    joined += one;
  }
  return is_tracestate(joined) ? joined : std::string();
}

trace_sampler::trace_sampler(double ratio) {
  const double kept = ratio > 0 ? std::min(ratio, 1.0) : 0.0;  // a NaN is 0
  threshold_ = static_cast<std::uint64_t>(std::llround((1.0 - kept) * static_cast<double>(mask + 1)));
}

bool trace_sampler::takes(const trace_id& id) const {
  std::uint64_t low = 0;
  for (std::size_t i = 8; i < id.size(); ++i) low = low << 8 | id[i];
  return takes(low);
}

}  // namespace troupe::policy
