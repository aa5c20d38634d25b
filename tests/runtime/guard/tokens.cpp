#include "tests/runtime/guard/tokens.hpp"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include <stdexcept>
#include <vector>

#include "runtime/guard/base64url.hpp"

namespace troupe::guard::testing {
namespace {

const unsigned char* bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string number(const EVP_PKEY* key, const char* name, int size = 0) {
  BIGNUM* n = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &n) != 1) throw std::runtime_error(name);
  if (size == 0) size = BN_num_bytes(n);
  std::string out(static_cast<std::size_t>(size), '\0');
  BN_bn2binpad(n, reinterpret_cast<unsigned char*>(out.data()), size);
  BN_free(n);
  return to_base64url(out);
}

}  // namespace

struct signer::impl {
  kind what;
  std::string id;
  EVP_PKEY* key = nullptr;
};

signer::signer(kind what, std::string id, unsigned bits, const char* curve)
    : impl_(std::make_unique<impl>(impl{what, std::move(id)})) {
  impl_->key = what == kind::rsa ? EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", static_cast<std::size_t>(bits))
                                 : EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve);
  if (impl_->key == nullptr) throw std::runtime_error("no key");
}

signer::~signer() {
  EVP_PKEY_free(impl_->key);
}

std::string signer::jwk(std::string_view more) const {
  std::string text = "{";
  if (!impl_->id.empty()) text += "\"kid\":\"" + impl_->id + "\",";
  if (impl_->what == kind::rsa)
    text += "\"kty\":\"RSA\",\"n\":\"" + number(impl_->key, OSSL_PKEY_PARAM_RSA_N) + "\",\"e\":\"" +
            number(impl_->key, OSSL_PKEY_PARAM_RSA_E) + "\"";
  else
    text += "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" + number(impl_->key, OSSL_PKEY_PARAM_EC_PUB_X, 32) +
            "\",\"y\":\"" + number(impl_->key, OSSL_PKEY_PARAM_EC_PUB_Y, 32) + "\"";
  return text + std::string(more) + "}";
}

std::string signer::sign(std::string_view header, std::string_view claims) const {
  std::string text = to_base64url(header) + "." + to_base64url(claims);
  EVP_MD_CTX* c = EVP_MD_CTX_new();
  std::size_t size = 0;
  EVP_DigestSignInit_ex(c, nullptr, "SHA256", nullptr, nullptr, impl_->key, nullptr);
  EVP_DigestSign(c, nullptr, &size, bytes(text), text.size());
  std::string signature(size, '\0');
  EVP_DigestSign(c, reinterpret_cast<unsigned char*>(signature.data()), &size, bytes(text), text.size());
  EVP_MD_CTX_free(c);
  signature.resize(size);
  if (impl_->what == kind::ec) {
    const unsigned char* at = bytes(signature);
    ECDSA_SIG* s = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(signature.size()));
    std::string raw(64, '\0');
    auto* to = reinterpret_cast<unsigned char*>(raw.data());
    BN_bn2binpad(ECDSA_SIG_get0_r(s), to, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(s), to + 32, 32);
    ECDSA_SIG_free(s);
    signature = raw;
  }
  return text + "." + to_base64url(signature);
}

std::string signer::token(std::string_view claims) const {
  std::string header = impl_->what == kind::rsa ? R"({"alg":"RS256","typ":"JWT")" : R"({"alg":"ES256")";
  if (!impl_->id.empty()) header += ",\"kid\":\"" + impl_->id + "\"";
  return sign(header + "}", claims);
}

std::string signer::pem() const {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PUBKEY(bio, impl_->key);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  std::string out(text, static_cast<std::size_t>(size));
  BIO_free(bio);
  return out;
}

std::string hmac_token(std::string_view header, std::string_view claims, std::string_view key) {
  std::string text = to_base64url(header) + "." + to_base64url(claims);
  unsigned char mac[32];
  unsigned size = sizeof mac;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes(text), text.size(), mac, &size);
  return text + "." + to_base64url({reinterpret_cast<const char*>(mac), size});
}

std::string set_of(std::string_view keys) {
  return "{\"keys\":[" + std::string(keys) + "]}";
}

}  // namespace troupe::guard::testing
