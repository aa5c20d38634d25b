#include "runtime/guard/sha256.hpp"

// The functions beneath EVP, which allocates a context for every digest, are deprecated and as current as it
// is.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <stdexcept>

#include "runtime/guard/base64url.hpp"

namespace troupe::guard {
namespace {

int hexadecimal(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

digest sha256(std::string_view text) {
  digest d{};
  SHA256_CTX context;
  if (SHA256_Init(&context) != 1 || SHA256_Update(&context, text.data(), text.size()) != 1 ||
      SHA256_Final(d.data(), &context) != 1)
    throw std::runtime_error("OpenSSL can't compute SHA-256");
  return d;
}

bool same(const digest& a, const digest& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::optional<digest> parse_digest(std::string_view text) {
  digest d{};
  if (text.size() != 2 * d.size()) return std::nullopt;
  for (std::size_t i = 0; i < d.size(); ++i) {
    const int high = hexadecimal(text[2 * i]), low = hexadecimal(text[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    d[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return d;
}

std::string shown(const digest& d) {
  std::string text;
  for (const auto b : d) {
    text += "0123456789abcdef"[b >> 4];
    text += "0123456789abcdef"[b & 15];
  }
  return text;
}

std::string random_text(std::size_t bytes) {
  std::string raw(bytes, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(raw.data()), static_cast<int>(bytes)) != 1)
    throw std::runtime_error("OpenSSL has no random bytes");
  return to_base64url(raw);
}

}  // namespace troupe::guard
