#include "runtime/guard/sha256.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <memory>
#include <stdexcept>

#include "runtime/guard/base64url.hpp"

namespace troupe::guard {
namespace {

/// Looked up once: EVP_sha256() would be looked up again at every use.
const EVP_MD* algorithm() {
  static EVP_MD* const found = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  if (found == nullptr) throw std::runtime_error("OpenSSL has no SHA-256");
  return found;
}

int hexadecimal(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

digest sha256(std::string_view text) {
  // A context that has its algorithm is begun again with none, which keeps its memory.
  thread_local bool begun = false;
  thread_local const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                                     &EVP_MD_CTX_free);
  digest d{};
  if (!context || EVP_DigestInit_ex(context.get(), begun ? nullptr : algorithm(), nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), text.data(), text.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), d.data(), nullptr) != 1)
    throw std::runtime_error("OpenSSL can't compute SHA-256");
  begun = true;
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
