#include "runtime/http/tls.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <new>
#include <stdexcept>

namespace troupe::http {
namespace {

std::string reason() {
  const auto code = ::ERR_peek_last_error();
  std::string text = "no reason given";
  if (const char* why = ::ERR_reason_error_string(code)) text = why;
  ::ERR_clear_error();
  return text;
}

int clamped(std::size_t n) {
  return static_cast<int>(std::min<std::size_t>(n, std::numeric_limits<int>::max()));
}

// OpenSSL's own socket BIO writes with write(), which raises SIGPIPE when the peer has gone.
int socket_of(BIO* bio) {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(::BIO_get_data(bio)));
}

int bio_write(BIO* bio, const char* from, int n) {
  ::BIO_clear_retry_flags(bio);
  const auto sent = ::send(socket_of(bio), from, static_cast<std::size_t>(n), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) ::BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int bio_read(BIO* bio, char* to, int n) {
  ::BIO_clear_retry_flags(bio);
  const auto got = ::recv(socket_of(bio), to, static_cast<std::size_t>(n), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) ::BIO_set_retry_read(bio);
  return static_cast<int>(got);
}

long bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

const BIO_METHOD* bio_method() {
  static const BIO_METHOD* method = [] {
    BIO_METHOD* made = ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    ::BIO_meth_set_write(made, bio_write);
    ::BIO_meth_set_read(made, bio_read);
    ::BIO_meth_set_ctrl(made, bio_control);
    return made;
  }();
  return method;
}

int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* offered,
                    unsigned length, void*) {
  static constexpr std::array<unsigned char, 9> http = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  unsigned char* chosen = nullptr;
  if (::SSL_select_next_proto(&chosen, out_length, http.data(), http.size(), offered, length) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

struct tls_context::impl {
  SSL_CTX* context = nullptr;
  ~impl() { ::SSL_CTX_free(context); }
};

tls_context::tls_context(const tls_files& files, const std::string& section)
    : impl_(std::make_unique<impl>()) {
  ::ERR_clear_error();
  SSL_CTX* c = impl_->context = ::SSL_CTX_new(::TLS_server_method());
  if (c == nullptr) throw std::runtime_error(section + ".tls_cert: OpenSSL can't be used: " + reason());
  ::SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
  ::SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  ::SSL_CTX_set_mode(
      c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  ::SSL_CTX_set_alpn_select_cb(c, choose_protocol, nullptr);
  static constexpr std::array<unsigned char, 6> name = {'t', 'r', 'o', 'u', 'p', 'e'};
  ::SSL_CTX_set_session_id_context(c, name.data(), name.size());
  if (files.key.empty())
    throw std::runtime_error(section + ".tls_cert is set and " + section +
                             ".tls_key is not: set it to the file of the certificate's key");
  if (::SSL_CTX_use_certificate_chain_file(c, files.certificate.c_str()) != 1)
    throw std::runtime_error(section + ".tls_cert " + files.certificate + " can't be used (" + reason() +
                             "): it must be a readable PEM file with the certificate and its chain");
  if (::SSL_CTX_use_PrivateKey_file(c, files.key.c_str(), SSL_FILETYPE_PEM) != 1)
    throw std::runtime_error(section + ".tls_key " + files.key + " can't be used (" + reason() +
                             "): it must be a readable PEM file with the key of " + files.certificate +
                             ", without a passphrase");
  if (::SSL_CTX_check_private_key(c) != 1)
    throw std::runtime_error(section + ".tls_key " + files.key + " is not the key of " + files.certificate +
                             ": set the two that belong together");
  if (files.client_ca.empty()) {
    if (files.client_required)
      throw std::runtime_error(section +
                               ".tls_client_ca is not set, and clients must show a certificate: set "
                               "it to the file of the authorities to trust");
    return;
  }
  if (::SSL_CTX_load_verify_locations(c, files.client_ca.c_str(), nullptr) != 1)
    throw std::runtime_error(section + ".tls_client_ca " + files.client_ca + " can't be used (" + reason() +
                             "): it must be a readable PEM file of authorities");
  ::SSL_CTX_set_client_CA_list(c, ::SSL_load_client_CA_file(files.client_ca.c_str()));
  ::SSL_CTX_set_verify(c, SSL_VERIFY_PEER | (files.client_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       nullptr);
}

tls_context::~tls_context() = default;

struct tls_session::impl {
  SSL* ssl = nullptr;
  ~impl() { ::SSL_free(ssl); }

  /// Of a call that returned `result` <= 0.
  tls_state state(int result) const {
    const int error = ::SSL_get_error(ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return tls_state::again;
    ::ERR_clear_error();
    return error == SSL_ERROR_ZERO_RETURN ? tls_state::closed : tls_state::failed;
  }
};

tls_session::tls_session(const tls_context& context, int socket) : impl_(std::make_unique<impl>()) {
  impl_->ssl = ::SSL_new(context.impl_->context);
  BIO* bio = ::BIO_new(bio_method());
  if (impl_->ssl == nullptr || bio == nullptr) {
    ::BIO_free(bio);
    throw std::bad_alloc();
  }
  ::BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(socket)));
  ::BIO_set_init(bio, 1);
  ::SSL_set_bio(impl_->ssl, bio, bio);
  ::SSL_set_accept_state(impl_->ssl);
}

tls_session::~tls_session() = default;

tls_state tls_session::handshake() {
  ::ERR_clear_error();
  const int result = ::SSL_do_handshake(impl_->ssl);
  return result == 1 ? tls_state::done : impl_->state(result);
}

tls_session::transfer tls_session::read(char* to, std::size_t most) {
  ::ERR_clear_error();
  const int n = ::SSL_read(impl_->ssl, to, clamped(most));
  if (n > 0) return {tls_state::done, static_cast<std::size_t>(n)};
  return {impl_->state(n), 0};
}

tls_session::transfer tls_session::write(const char* from, std::size_t n) {
  ::ERR_clear_error();
  const int sent = ::SSL_write(impl_->ssl, from, clamped(n));
  if (sent > 0) return {tls_state::done, static_cast<std::size_t>(sent)};
  return {impl_->state(sent), 0};
}

void tls_session::finish() {
  ::ERR_clear_error();
  ::SSL_shutdown(impl_->ssl);
  ::ERR_clear_error();
}

std::string tls_session::subject() const {
  X509* certificate = ::SSL_get1_peer_certificate(impl_->ssl);
  if (certificate == nullptr) return {};
  std::string text;
  if (BIO* out = ::BIO_new(::BIO_s_mem())) {
    ::X509_NAME_print_ex(out, ::X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    char* data = nullptr;
    const long n = ::BIO_get_mem_data(out, &data);
    if (n > 0) text.assign(data, static_cast<std::size_t>(n));
    ::BIO_free(out);
  }
  ::X509_free(certificate);
  return text;
}

}  // namespace troupe::http
