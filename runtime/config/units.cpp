#include "runtime/config/units.hpp"

#include <array>
#include <charconv>
#include <limits>
#include <utility>

namespace troupe::config {
namespace {

__extension__ typedef unsigned __int128 wide;
using unit = std::pair<std::string_view, std::uint64_t>;

constexpr std::array<unit, 7> duration_units = {{{"d", 86'400'000'000'000},
                                                 {"h", 3'600'000'000'000},
                                                 {"m", 60'000'000'000},
                                                 {"s", 1'000'000'000},
                                                 {"ms", 1'000'000},
                                                 {"us", 1'000},
                                                 {"ns", 1}}};
constexpr std::array<unit, 10> size_units = {{{"TiB", std::uint64_t{1} << 40},
                                              {"GiB", std::uint64_t{1} << 30},
                                              {"MiB", std::uint64_t{1} << 20},
                                              {"KiB", std::uint64_t{1} << 10},
                                              {"TB", 1'000'000'000'000},
                                              {"GB", 1'000'000'000},
                                              {"MB", 1'000'000},
                                              {"KB", 1'000},
                                              {"B", 1},
                                              {"", 1}}};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view take_digits(std::string_view& text) {
  std::size_t n = 0;
  while (n < text.size() && is_digit(text[n])) ++n;
  const auto digits = text.substr(0, n);
  text.remove_prefix(n);
  return digits;
}

/// Reads a decimal number and its unit off the front, exactly; nullopt when it is no whole number of the
/// smallest unit.
template <std::size_t N>
std::optional<std::uint64_t> take_quantity(std::string_view& text, const std::array<unit, N>& units) {
  const auto whole = take_digits(text);
  std::string_view fraction;
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    fraction = take_digits(text);
    if (fraction.empty()) return std::nullopt;
  }
  if (whole.empty() || fraction.size() > 15) return std::nullopt;
  std::size_t letters = 0;
  while (letters < text.size() && !is_digit(text[letters]) && text[letters] != '.') ++letters;
  const auto name = text.substr(0, letters);
  text.remove_prefix(letters);
  for (const auto& [own, factor] : units) {
    if (own != name) continue;
    std::uint64_t n = 0;
    if (std::from_chars(whole.data(), whole.data() + whole.size(), n).ec != std::errc{}) return std::nullopt;
    wide value = wide{n} * factor;
    if (!fraction.empty()) {
      std::uint64_t part = 0;
      std::from_chars(fraction.data(), fraction.data() + fraction.size(), part);
      wide scale = 1;
      for (std::size_t i = 0; i < fraction.size(); ++i) scale *= 10;
      const wide scaled = wide{part} * factor;
      if (scaled % scale != 0) return std::nullopt;
      value += scaled / scale;
    }
    if (value > std::numeric_limits<std::uint64_t>::max()) return std::nullopt;
    return static_cast<std::uint64_t>(value);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> parse_duration(std::string_view text) {
  if (text == "0") return 0;
  if (text.empty()) return std::nullopt;
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t all = 0;
  while (!text.empty()) {
    const auto part = take_quantity(text, duration_units);
    if (!part || *part > most - all) return std::nullopt;
    all += *part;
  }
  return static_cast<std::int64_t>(all);
}

std::string format_duration(std::int64_t nanoseconds) {
  if (nanoseconds <= 0) return "0";
  auto left = static_cast<std::uint64_t>(nanoseconds);
  std::string text;
  for (const auto& [name, factor] : duration_units) {
    if (name == "d" && left % factor != 0) continue;  // 36h, not 1d12h
    if (left < factor) continue;
    text += std::to_string(left / factor);
    text += name;
    left %= factor;
  }
  return text;
}

std::optional<std::size_t> parse_size(std::string_view text) {
  const auto bytes = take_quantity(text, size_units);
  if (!bytes || !text.empty()) return std::nullopt;
  return *bytes;
}

std::string format_size(std::size_t bytes) {
  for (const auto& [name, factor] : size_units) {
    if (name.size() != 3 || bytes < factor || bytes % factor != 0) continue;
    return std::to_string(bytes / factor) + std::string(name);
  }
  return std::to_string(bytes);
}

}  // namespace troupe::config
