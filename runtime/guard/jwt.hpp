#pragma once
// JSON Web Tokens (RFC 7519) in their compact form, signed with RS256 or ES256 (RFC 7515, RFC 7518, 3.3 and
// 3.4), and the keys they are checked with (JWK sets, RFC 7517). What RFC 8725 asks for: the algorithm is the
// key's and not the token's choice, `none` and the HMACs are not known at all, a `crit` header is refused,
// and issuer and audience are compared.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace troupe::guard {

inline constexpr std::size_t most_token = std::size_t{8} << 10;  ///< bytes
inline constexpr std::size_t most_key_set = std::size_t{1} << 20;

struct key_set_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Public keys, read-only and usable from any thread.
class key_set {
 public:
  /// Keys that are of no use here (another type, curve or algorithm, `use` other than sig) are left out;
  /// throws key_set_error when the text is no key set, when a key of a known kind is malformed (RSA keys have
  /// 2048 to 8192 bits), when a key is a private one, or when none is left.
  [[nodiscard]] static std::shared_ptr<const key_set> parse(std::string_view json);
  ~key_set();
  key_set(const key_set&) = delete;
  key_set& operator=(const key_set&) = delete;

  [[nodiscard]] std::size_t size() const;

  struct impl;
  [[nodiscard]] const impl& inside() const { return *impl_; }

 private:
  key_set();
  std::unique_ptr<impl> impl_;
};

struct token_rules {
  std::string issuer;                ///< iss must be this; empty: it is not looked at
  std::string audience;              ///< aud must be or hold this; empty: it is not looked at
  std::string client_claim = "sub";  ///< a string that names the client
  std::int64_t leeway = 60;          ///< seconds that clocks may differ by
};

enum class token_fault : std::uint8_t {
  none,
  malformed,    ///< no token
  algorithm,    ///< not one that is taken
  unknown_key,  ///< the set has no key for it: it may be a new one
  bad_signature,
  expired,     ///< or not valid yet
  bad_claims,  ///< no object, or a time that is none
  no_expiry,
  issuer,
  audience,
  no_client  ///< or a name that can't be one
};

struct token_result {
  token_fault fault = token_fault::malformed;
  const char* why = "";      ///< for the caller; says nothing of the token's contents
  std::string client;        ///< is_client_name()
  std::int64_t expires = 0;  ///< epoch seconds, leeway included
};

/// Checks the signature, then the claims: exp (must be there), nbf, iat, iss, aud, the client's name. `now`:
/// epoch seconds. Any bytes are allowed as `token`.
[[nodiscard]] token_result check_token(std::string_view token, const key_set& keys, const token_rules& rules,
                                       std::int64_t now);

/// Three parts with dots between them: what can't be an API key of ours.
[[nodiscard]] bool looks_like_token(std::string_view text);

}  // namespace troupe::guard
