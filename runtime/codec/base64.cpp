#include "runtime/codec/base64.hpp"

#include <array>
#include <cstdint>

namespace troupe::codec {
namespace {

constexpr std::uint8_t none = 255;

constexpr std::array<std::uint8_t, 256> values = [] {
  constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<std::uint8_t, 256> v{};
  v.fill(none);
  for (std::size_t i = 0; i < alphabet.size(); ++i)
    v[static_cast<unsigned char>(alphabet[i])] = static_cast<std::uint8_t>(i);
  return v;
}();

}  // namespace

std::optional<std::size_t> decode_base64(std::string_view text, char* out) {
  if (text.size() % 4 == 0) {
    if (text.ends_with("==")) {
      text.remove_suffix(2);
    } else if (text.ends_with('=')) {
      text.remove_suffix(1);
    }
  }
  const std::size_t rest = text.size() % 4;
  if (rest == 1) return std::nullopt;
  std::size_t n = 0;
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::uint8_t v = values[static_cast<unsigned char>(text[i])];
    if (v == none) return std::nullopt;
    bits = (bits << 6) | v;
    if (i % 4 != 3) continue;
    out[n++] = static_cast<char>(bits >> 16);
    out[n++] = static_cast<char>(bits >> 8);
    out[n++] = static_cast<char>(bits);
    bits = 0;
  }
  if (rest == 2) {
    if ((bits & 15) != 0) return std::nullopt;
    out[n++] = static_cast<char>(bits >> 4);
  } else if (rest == 3) {
    if ((bits & 3) != 0) return std::nullopt;
    out[n++] = static_cast<char>(bits >> 10);
    out[n++] = static_cast<char>(bits >> 2);
  }
  return n;
}

}  // namespace troupe::codec
