#include "runtime/store/redis_tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <stdexcept>
#include <string>

namespace troupe::store {
namespace {

[[nodiscard]] std::string tls_problem() {
  const unsigned long e = ERR_peek_error();
  const char* text = e ? ERR_reason_error_string(e) : nullptr;
  ERR_clear_error();
  return text ? text : "unusable";
}

}  // namespace

std::shared_ptr<ssl_ctx_st> make_redis_tls(const redis_options& o) {
  if (!o.tls) return nullptr;
  const std::shared_ptr<SSL_CTX> out(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  ERR_clear_error();
  const auto fail = [](const std::string& what) { throw std::runtime_error(what + ": " + tls_problem()); };
  if (!out) fail("redis.tls");
  SSL_CTX_set_min_proto_version(out.get(), TLS1_2_VERSION);
  if (o.tls_ca.empty()) {
    if (SSL_CTX_set_default_verify_paths(out.get()) != 1) fail("the system's certificate authorities");
  } else if (SSL_CTX_load_verify_locations(out.get(), o.tls_ca.c_str(), nullptr) != 1) {
    fail("redis.tls_ca " + o.tls_ca);
  }
  if (!o.tls_cert.empty()) {
    if (SSL_CTX_use_certificate_chain_file(out.get(), o.tls_cert.c_str()) != 1)
      fail("redis.tls_cert " + o.tls_cert);
    if (SSL_CTX_use_PrivateKey_file(out.get(), o.tls_key.c_str(), SSL_FILETYPE_PEM) != 1)
      fail("redis.tls_key " + o.tls_key);
  }
  return out;
}

}  // namespace troupe::store
