#include "runtime/guard/jwt.hpp"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/guard/base64url.hpp"
#include "runtime/guard/key_file.hpp"

namespace troupe::guard {
namespace {

using nlohmann::json;

constexpr std::size_t most_keys = 1'000;
constexpr std::size_t es256_part = 32;

template <class T, void (*Free)(T*)>
struct freed_by {
  void operator()(T* p) const { Free(p); }
};
using pkey = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY, EVP_PKEY_free>>;
using pkey_context = std::unique_ptr<EVP_PKEY_CTX, freed_by<EVP_PKEY_CTX, EVP_PKEY_CTX_free>>;
using digest_context = std::unique_ptr<EVP_MD_CTX, freed_by<EVP_MD_CTX, EVP_MD_CTX_free>>;
using big_number = std::unique_ptr<BIGNUM, freed_by<BIGNUM, BN_free>>;
using param_builder = std::unique_ptr<OSSL_PARAM_BLD, freed_by<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>>;
using params = std::unique_ptr<OSSL_PARAM, freed_by<OSSL_PARAM, OSSL_PARAM_free>>;
using ecdsa_signature = std::unique_ptr<ECDSA_SIG, freed_by<ECDSA_SIG, ECDSA_SIG_free>>;

enum class algorithm : std::uint8_t { rs256, es256 };

struct one_key {
  std::string id;
  algorithm how;
  pkey key;
};

big_number number_of(std::string_view bytes) {
  return big_number(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                              static_cast<int>(bytes.size()), nullptr));
}

pkey make_key(const char* type, OSSL_PARAM_BLD* builder) {
  const params list(OSSL_PARAM_BLD_to_param(builder));
  const pkey_context context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* made = nullptr;
  if (!list || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_PUBLIC_KEY, list.get()) != 1)
    made = nullptr;
  ERR_clear_error();
  return pkey(made);
}

[[noreturn]] void refuse(std::size_t index, const std::string& what) {
  throw key_set_error("keys[" + std::to_string(index) + "]: " + what);
}

std::string member(const json& key, const char* name, std::size_t index) {
  const auto found = key.find(name);
  if (found == key.end() || !found->is_string()) refuse(index, std::string(name) + " is no text");
  auto bytes = from_base64url(found->get_ref<const std::string&>());
  if (!bytes || bytes->empty()) refuse(index, std::string(name) + " is not base64url");
  return *std::move(bytes);
}

pkey rsa_key(const json& key, std::size_t index) {
  const std::string n = member(key, "n", index), e = member(key, "e", index);
  const big_number modulus = number_of(n), exponent = number_of(e);
  if (!modulus || !exponent) refuse(index, "there is no memory");
  const int bits = BN_num_bits(modulus.get());
  if (bits < 2048 || bits > 8192)
    refuse(index, "an RSA key of " + std::to_string(bits) + " bits; 2048 to 8192 are taken");
  if (!BN_is_odd(modulus.get())) refuse(index, "n is even");
  if (BN_num_bits(exponent.get()) > 64 || BN_num_bits(exponent.get()) < 2 || !BN_is_odd(exponent.get()))
    refuse(index, "e is no public exponent");
  const param_builder builder(OSSL_PARAM_BLD_new());
  if (!builder || OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get()) != 1)
    refuse(index, "there is no memory");
  return make_key("RSA", builder.get());
}

pkey ec_key(const json& key, std::size_t index) {
  const std::string x = member(key, "x", index), y = member(key, "y", index);
  if (x.size() != es256_part || y.size() != es256_part) refuse(index, "x and y of P-256 have 32 bytes");
  const std::string point = '\x04' + x + y;
  const param_builder builder(OSSL_PARAM_BLD_new());
  if (!builder ||
      OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) !=
          1)
    refuse(index, "there is no memory");
  return make_key("EC", builder.get());
}

bool is(const json& key, const char* name, std::string_view wanted) {
  const auto found = key.find(name);
  return found != key.end() && found->is_string() && found->get_ref<const std::string&>() == wanted;
}

/// nullopt: of no use here.
std::optional<one_key> read_key(const json& key, std::size_t index) {
  if (!key.is_object()) refuse(index, "is no object");
  const bool rsa = is(key, "kty", "RSA");
  if (!rsa && !(is(key, "kty", "EC") && is(key, "crv", "P-256"))) return std::nullopt;
  if (key.contains("use") && !is(key, "use", "sig")) return std::nullopt;
  if (key.contains("alg") && !is(key, "alg", rsa ? "RS256" : "ES256")) return std::nullopt;
  if (key.contains("d")) refuse(index, "is a private key; publish only its public part");
  one_key made;
  made.how = rsa ? algorithm::rs256 : algorithm::es256;
  if (const auto id = key.find("kid"); id != key.end()) {
    if (!id->is_string()) refuse(index, "kid is no text");
    made.id = id->get<std::string>();
  }
  made.key = rsa ? rsa_key(key, index) : ec_key(key, index);
  if (!made.key) refuse(index, "is no valid public key");
  return made;
}

/// ES256 signs with two numbers of 32 bytes, one after the other; OpenSSL wants them in DER.
std::string der_of(std::string_view raw) {
  const ecdsa_signature signature(ECDSA_SIG_new());
  big_number r = number_of(raw.substr(0, es256_part)), s = number_of(raw.substr(es256_part));
  if (!signature || !r || !s || ECDSA_SIG_set0(signature.get(), r.get(), s.get()) != 1) return {};
  (void)r.release(), (void)s.release();
  unsigned char* text = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &text);
  if (size <= 0) return {};
  std::string der(reinterpret_cast<const char*>(text), static_cast<std::size_t>(size));
  OPENSSL_free(text);
  return der;
}

bool verified(const one_key& with, std::string_view text, std::string_view signature) {
  std::string der;
  if (with.how == algorithm::es256) {
    if (signature.size() != 2 * es256_part) return false;
    der = der_of(signature);
    signature = der;
  }
  const digest_context context(EVP_MD_CTX_new());
  const bool good = !signature.empty() && context &&
                    EVP_DigestVerifyInit_ex(context.get(), nullptr, "SHA256", nullptr, nullptr,
                                            with.key.get(), nullptr) == 1 &&
                    EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                                     signature.size(), reinterpret_cast<const unsigned char*>(text.data()),
                                     text.size()) == 1;
  ERR_clear_error();
  return good;
}

token_result fault(token_fault what, const char* why) {
  token_result r;
  r.fault = what;
  r.why = why;
  return r;
}

/// Deep nesting is refused by depth, before a tree is built of it.
json object_of(std::string_view text) {
  constexpr int deepest = 16;
  const json::parser_callback_t shallow = [](int depth, json::parse_event_t event, json&) {
    if (depth > deepest && event != json::parse_event_t::value) throw key_set_error("nested too deeply");
    return true;
  };
  try {
    json parsed = json::parse(text, shallow, false);
    return parsed.is_object() ? parsed : json();
  } catch (const key_set_error&) {
    return {};
  }
}

/// A NumericDate (RFC 7519, 2) in whole seconds; false: it is there and is none.
bool time_of(const json& claims, const char* name, std::optional<std::int64_t>& to) {
  const auto found = claims.find(name);
  if (found == claims.end()) return true;
  if (!found->is_number()) return false;
  const double value = found->get<double>();
  if (!(value >= 0 && value <= 1e14)) return false;
  to = static_cast<std::int64_t>(std::floor(value));
  return true;
}

bool is_for(const json& claims, const std::string& audience) {
  const auto found = claims.find("aud");
  if (found == claims.end()) return false;
  const auto is_it = [&](const json& one) {
    return one.is_string() && one.get_ref<const std::string&>() == audience;
  };
  return found->is_array() ? std::any_of(found->begin(), found->end(), is_it) : is_it(*found);
}

}  // namespace

struct key_set::impl {
  std::vector<one_key> keys;

  /// Without an id in the token: the only key of its algorithm.
  [[nodiscard]] const one_key* find(algorithm how, const std::optional<std::string>& id) const {
    const one_key* found = nullptr;
    for (const auto& k : keys) {
      if (k.how != how || (id && k.id != *id)) continue;
      if (found != nullptr) return nullptr;
      found = &k;
    }
    return found;
  }
};

key_set::key_set() : impl_(std::make_unique<impl>()) {}
key_set::~key_set() = default;

std::size_t key_set::size() const {
  return impl_->keys.size();
}

std::shared_ptr<const key_set> key_set::parse(std::string_view text) {
  if (text.size() > most_key_set) throw key_set_error("is larger than 1 MiB");
  const json all = object_of(text);
  const auto keys = all.is_object() ? all.find("keys") : all.end();
  if (!all.is_object() || keys == all.end() || !keys->is_array())
    throw key_set_error("is no JWK set: expected {\"keys\": [...]}");
  if (keys->size() > most_keys) throw key_set_error("has more than 1000 keys");
  const std::shared_ptr<key_set> made(new key_set);
  for (std::size_t i = 0; i < keys->size(); ++i) {
    auto one = read_key((*keys)[i], i);
    if (!one) continue;
    for (const auto& other : made->impl_->keys)
      if (other.how == one->how && other.id == one->id)
        refuse(i, one->id.empty() ? "several keys have no kid" : "another key has the same kid");
    made->impl_->keys.push_back(*std::move(one));
  }
  if (made->impl_->keys.empty())
    throw key_set_error("has no key for RS256 (RSA) or ES256 (EC, P-256) signatures");
  return made;
}

bool looks_like_token(std::string_view text) {
  return text.size() <= most_token && text.substr(0, 2) == "ey" &&
         std::count(text.begin(), text.end(), '.') == 2;
}

token_result check_token(std::string_view token, const key_set& keys, const token_rules& rules,
                         std::int64_t now) {
  if (token.size() > most_token) return fault(token_fault::malformed, "the token is longer than 8 KiB");
  const auto first = token.find('.');
  const auto last = token.rfind('.');
  if (first == std::string_view::npos || first == last ||
      token.substr(first + 1, last - first - 1).find('.') != std::string_view::npos)
    return fault(token_fault::malformed, "the token is not a signed JWT");
  const auto head_text = from_base64url(token.substr(0, first));
  const auto claims_text = from_base64url(token.substr(first + 1, last - first - 1));
  const auto signature = from_base64url(token.substr(last + 1));
  if (!head_text || !claims_text || !signature)
    return fault(token_fault::malformed, "the token is not base64url");

  const json head = object_of(*head_text);
  if (!head.is_object()) return fault(token_fault::malformed, "the token's header is no JSON object");
  if (head.contains("crit")) return fault(token_fault::malformed, "the token asks for an extension");
  algorithm how;
  if (is(head, "alg", "RS256"))
    how = algorithm::rs256;
  else if (is(head, "alg", "ES256"))
    how = algorithm::es256;
  else
    return fault(token_fault::algorithm, "the token's algorithm is not RS256 or ES256");
  std::optional<std::string> id;
  if (const auto found = head.find("kid"); found != head.end()) {
    if (!found->is_string()) return fault(token_fault::malformed, "the token's kid is no text");
    id = found->get<std::string>();
  }
  const one_key* key = keys.inside().find(how, id);
  if (key == nullptr) return fault(token_fault::unknown_key, "the token's key is not known");
  if (!verified(*key, token.substr(0, last), *signature))
    return fault(token_fault::bad_signature, "the token's signature is wrong");

  const json claims = object_of(*claims_text);
  if (!claims.is_object()) return fault(token_fault::bad_claims, "the token's claims are no JSON object");
  std::optional<std::int64_t> expires, begins, issued;
  if (!time_of(claims, "exp", expires) || !time_of(claims, "nbf", begins) || !time_of(claims, "iat", issued))
    return fault(token_fault::bad_claims, "exp, nbf or iat of the token is no time");
  if (!expires) return fault(token_fault::no_expiry, "the token does not expire (exp)");
  if (now >= *expires + rules.leeway) return fault(token_fault::expired, "the token has expired");
  if ((begins && now + rules.leeway < *begins) || (issued && now + rules.leeway < *issued))
    return fault(token_fault::expired, "the token is not valid yet");
  if (!rules.issuer.empty() && !is(claims, "iss", rules.issuer))
    return fault(token_fault::issuer, "the token is of another issuer");
  if (!rules.audience.empty() && !is_for(claims, rules.audience))
    return fault(token_fault::audience, "the token is for another audience");
  const auto client = claims.find(rules.client_claim);
  if (client == claims.end() || !client->is_string() ||
      !is_client_name(client->get_ref<const std::string&>()))
    return fault(token_fault::no_client, "the token does not name its client");

  token_result good;
  good.fault = token_fault::none;
  good.client = client->get<std::string>();
  good.expires = *expires + rules.leeway;
  return good;
}

}  // namespace troupe::guard
