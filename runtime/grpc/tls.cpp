#include "runtime/grpc/tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <utility>

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
  if (SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    const bool another = ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH;
    const std::string why = reason();
    if (another)
      return option + "key: " + files.key + " is not the key of " + files.certificate +
             "; give those that belong together";
    return option + "key: " + files.key + ": " + why + "; it must be a PEM file with the private key of " +
           files.certificate;
  }
  if (!files.client_ca.empty() &&
      SSL_CTX_load_verify_locations(context.get(), files.client_ca.c_str(), nullptr) != 1)
    return option + "client_ca: " + files.client_ca + ": " + reason() +
           "; it must be a PEM file with the certificates that sign the clients'";
  return {};
}

namespace {

std::string contents(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

int file_in_memory() {
  const int file = ::memfd_create("troupe-tls", MFD_CLOEXEC);
  if (file < 0) throw std::runtime_error("grpc.tls_cert: no memory for a copy of the certificate");
  return file;
}

void put(int file, const std::string& text) {
  // One write, then what is longer goes: a reader in between finds the new key and chain and a rest of the
  // old.
  if (::pwrite(file, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ::ftruncate(file, static_cast<off_t>(text.size())) != 0)
    throw std::runtime_error("grpc.tls_cert: no memory for a copy of the certificate");
}

}  // namespace

tls_copies::tls_copies(const tls_files& files, std::string name, refused_function refused)
    : files_(std::make_unique<const tls_files>(files)), name_(std::move(name)), refused_(std::move(refused)) {
  identity_ = file_in_memory();
  client_ca_ = file_in_memory();
  if (const std::string why = look(); !why.empty()) {
    ::close(identity_);
    ::close(client_ca_);
    throw std::runtime_error(why);
  }
  thread_ = std::thread([this] {
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        if (stop_.wait_for(lock, files_->refresh, [this] { return stopping_; })) return;
      }
      const std::string why = look();
      if (why == std::exchange(refused_text_, why) || why.empty()) continue;
      if (refused_) refused_(why);
    }
  });
}

tls_copies::~tls_copies() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_one();
  thread_.join();
  ::close(identity_);
  ::close(client_ca_);
}

std::string tls_copies::look() {
  const std::lock_guard lock(mutex_);
  std::string identity = contents(files_->key);
  (identity += '\n') += contents(files_->certificate);
  std::string ca = files_->client_ca.empty() ? std::string() : contents(files_->client_ca);
  if (identity == kept_identity_ && ca == kept_ca_) return {};
  if (std::string why = tls_fault(*files_, name_); !why.empty()) return why;
  put(identity_, identity);
  put(client_ca_, ca);
  kept_identity_ = std::move(identity);
  kept_ca_ = std::move(ca);
  return {};
}

}  // namespace troupe::rpc
