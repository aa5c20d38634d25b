#include "runtime/codec/json_text.hpp"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace troupe::codec {
namespace {

constexpr std::uint64_t ones = 0x0101010101010101ULL;
constexpr std::uint64_t highs = ones << 7;

/// Bit 7 of each byte that is a quote, a backslash, a control character or not ASCII (false alarms only above
/// a true one, so zero is exact).
constexpr std::uint64_t special(std::uint64_t x) {
  const std::uint64_t quote = x ^ (ones * '"');
  const std::uint64_t slash = x ^ (ones * '\\');
  return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | (x - ones * 0x20) | x) & highs;
}

bool ascii_without_escapes(std::string_view text) {
  const char* p = text.data();
  std::size_t n = text.size();
  std::uint64_t found = 0;
  for (; n >= 8; p += 8, n -= 8) {
    std::uint64_t x;
    std::memcpy(&x, p, 8);
    found |= special(x);
  }
  if (n != 0) {
    std::uint64_t x = ones * ' ';
    std::memcpy(&x, p, n);
    found |= special(x);
  }
  return found == 0;
}

bool to_escape(unsigned char c) {
  return c < 0x20 || c == '"' || c == '\\';
}

void append_escape(std::string& out, unsigned char c) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default: {
      constexpr char hex[] = "0123456789abcdef";
      out += "\\u00";
      out += hex[c >> 4];
      out += hex[c & 15];
    }
  }
}

/// Length of the valid UTF-8 sequence at the start of `text` (not empty), 0 if there is none.
std::size_t sequence(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t n = lead < 0x80   ? 1
                        : lead < 0xc2 ? 0
                        : lead < 0xe0 ? 2
                        : lead < 0xf0 ? 3
                        : lead < 0xf5 ? 4
                                      : 0;
  return n != 0 && n <= text.size() && simdjson::validate_utf8(text.data(), n) ? n : 0;
}

}  // namespace

void append_escaped(std::string& out, std::string_view text) {
  if (ascii_without_escapes(text)) {
    out += text;
    return;
  }
  const bool valid = simdjson::validate_utf8(text.data(), text.size());
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text[0]);
    std::size_t n = 1;
    if (to_escape(c)) {
      append_escape(out, c);
    } else if (c < 0x80 || valid) {
      out += static_cast<char>(c);
    } else if (n = sequence(text); n != 0) {
      out += text.substr(0, n);
    } else {
      out += "\xef\xbf\xbd";
      n = 1;
    }
    text.remove_prefix(n);
  }
}

void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  append_escaped(out, text);
  out += '"';
}

bool plain(std::string_view text) {
  if (ascii_without_escapes(text)) return true;
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return to_escape(static_cast<unsigned char>(c)); }) &&
         simdjson::validate_utf8(text.data(), text.size());
}

void append_number(std::string& out, double value) {
  std::array<char, 32> text;
  out.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr);
}

void append_number(std::string& out, std::int64_t value) {
  std::array<char, 24> text;
  out.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr);
}

std::string shown(std::string_view text) {
  constexpr std::size_t longest = 64;
  std::string out = "'";
  while (!text.empty() && out.size() <= longest) {
    std::size_t n = sequence(text);
    const auto c = static_cast<unsigned char>(text[0]);
    if (n == 0 || c < 0x20 || c == 0x7f) {
      out += '?';
      n = 1;
    } else {
      out += text.substr(0, n);
    }
    text.remove_prefix(n);
  }
  out += text.empty() ? "'" : "...'";
  return out;
}

std::size_t edit_distance(std::string_view a, std::string_view b, std::size_t limit) {
  constexpr std::size_t longest = 64;
  if (a.size() > b.size()) std::swap(a, b);
  if (b.size() > longest || b.size() - a.size() > limit) return limit + 1;
  std::array<std::size_t, longest + 1> row;
  for (std::size_t i = 0; i <= a.size(); ++i) row[i] = i;
  for (std::size_t j = 1; j <= b.size(); ++j) {
    std::size_t diagonal = row[0];
    row[0] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[i];
      row[i] = std::min({replaced, row[i] + 1, row[i - 1] + 1});
    }
  }
  return std::min(row[a.size()], limit + 1);
}

}  // namespace troupe::codec
