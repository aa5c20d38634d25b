#pragma once
// Keys and tokens made for a test.

#include <memory>
#include <string>
#include <string_view>

namespace troupe::guard::testing {

class signer {
 public:
  enum class kind { rsa, ec };
  /// `bits` of RSA; the curve of EC.
  signer(kind what, std::string id, unsigned bits = 2048, const char* curve = "P-256");
  ~signer();
  signer(const signer&) = delete;
  signer& operator=(const signer&) = delete;

  /// {"kty": ..., "kid": ..., ...}
  [[nodiscard]] std::string jwk(std::string_view more = {}) const;
  /// header.claims.signature
  [[nodiscard]] std::string sign(std::string_view header, std::string_view claims) const;
  /// With its own header.
  [[nodiscard]] std::string token(std::string_view claims) const;
  /// PEM of the public key.
  [[nodiscard]] std::string pem() const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

/// header.claims.signature with HMAC-SHA256.
[[nodiscard]] std::string hmac_token(std::string_view header, std::string_view claims, std::string_view key);
[[nodiscard]] std::string set_of(std::string_view keys);

}  // namespace troupe::guard::testing
