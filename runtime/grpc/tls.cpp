#include "runtime/grpc/tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <memory>

#include "runtime/grpc/server.hpp"

namespace troupe::rpc {
namespace {

std::string reason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* text = ERR_reason_error_string(code);
  return text != nullptr ? text : "it can't be read";
}

}  // namespace

std::string tls_fault(const tls_files& files, const std::string& name) {
  const std::string option = name.substr(0, name.find('.')) + ".tls_";
  if (files.certificate.empty() && files.key.empty() && files.client_ca.empty()) return {};
  if (files.certificate.empty() || files.key.empty())
    return option + (files.certificate.empty() ? "cert" : "key") +
           " is not set: TLS needs both, a certificate and its key";
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_server_method()),
                                                                  SSL_CTX_free);
  if (!context) return option + "cert: " + reason();
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context.get(), files.certificate.c_str()) != 1)
    return option + "cert: " + files.certificate + ": " + reason() +
           "; it must be a PEM file with the certificate and its chain";
  if (SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1)
    return option + "key: " + files.key + ": " + reason() +
           "; it must be a PEM file with the private key of " + files.certificate;
  if (SSL_CTX_check_private_key(context.get()) != 1)
    return option + "key: " + files.key + " is not the key of " + files.certificate +
           "; give those that belong together";
  if (!files.client_ca.empty() &&
      SSL_CTX_load_verify_locations(context.get(), files.client_ca.c_str(), nullptr) != 1)
    return option + "client_ca: " + files.client_ca + ": " + reason() +
           "; it must be a PEM file with the certificates that sign the clients'";
  return {};
}

}  // namespace troupe::rpc
