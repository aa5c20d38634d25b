#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "runtime/http/front.hpp"
#include "tests/runtime/http/raw_client.hpp"

namespace troupe::http {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;
using testing_support::answer;
using testing_support::answer_reader;
using testing_support::post;
using testing_support::raw_client;

template <auto Free>
struct freed {
  template <class T>
  void operator()(T* one) const {
    Free(one);
  }
};
using key_ptr = std::unique_ptr<EVP_PKEY, freed<EVP_PKEY_free>>;
using certificate_ptr = std::unique_ptr<X509, freed<X509_free>>;

struct identity {
  key_ptr key;
  certificate_ptr certificate;
};

/// Signed by `by`, or by itself.
identity make_identity(const std::string& name, const identity* by = nullptr, long serial = 1) {
  identity made{key_ptr(EVP_EC_gen("P-256")), certificate_ptr(X509_new())};
  X509* c = made.certificate.get();
  X509_set_version(c, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(c), serial);
  X509_gmtime_adj(X509_getm_notBefore(c), -3600);
  X509_gmtime_adj(X509_getm_notAfter(c), 3600);
  X509_set_pubkey(c, made.key.get());
  X509_NAME* subject = X509_get_subject_name(c);
  const auto add = [&](const char* field, const std::string& value) {
    X509_NAME_add_entry_by_txt(subject, field, MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(value.data()),
                               static_cast<int>(value.size()), -1, 0);
  };
  add("O", "Tests");
  add("CN", name);
  X509_set_issuer_name(c, by != nullptr ? X509_get_subject_name(by->certificate.get()) : subject);
  if (by == nullptr) {
    X509_EXTENSION* ca = X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE");
    X509_add_ext(c, ca, -1);
    X509_EXTENSION_free(ca);
  }
  EXPECT_GT(X509_sign(c, by != nullptr ? by->key.get() : made.key.get(), EVP_sha256()), 0);
  return made;
}

/// A folder of PEM files.
class pem_files {
 public:
  pem_files() {
    std::string name = (fs::temp_directory_path() / "front_tls_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = name;
  }
  ~pem_files() { fs::remove_all(folder_); }
  pem_files(const pem_files&) = delete;
  pem_files& operator=(const pem_files&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return folder_ / name; }
  void write(const std::string& name, const identity& who) const {
    std::FILE* certificate = std::fopen(path(name + ".crt").c_str(), "w");
    PEM_write_X509(certificate, who.certificate.get());
    std::fclose(certificate);
    std::FILE* key = std::fopen(path(name + ".key").c_str(), "w");
    PEM_write_PrivateKey(key, who.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(key);
  }

 private:
  fs::path folder_;
};

class tls_client : public answer_reader {
 public:
  struct how {
    const identity* show = nullptr;
    int newest = 0;
    std::vector<std::string> protocols;
  };
  explicit tls_client(int port) : tls_client(port, how()) {}
  tls_client(int port, const how& h) : connection_(port), context_(SSL_CTX_new(TLS_client_method())) {
    if (h.show != nullptr) {
      SSL_CTX_use_certificate(context_.get(), h.show->certificate.get());
      SSL_CTX_use_PrivateKey(context_.get(), h.show->key.get());
    }
    if (h.newest != 0) {
      SSL_CTX_set_min_proto_version(context_.get(), TLS1_VERSION);
      SSL_CTX_set_max_proto_version(context_.get(), h.newest);
      SSL_CTX_set_cipher_list(context_.get(), "ALL:@SECLEVEL=0");
    }
    ssl_.reset(SSL_new(context_.get()));
    if (!h.protocols.empty()) {
      std::string wire;
      for (const auto& p : h.protocols) wire += static_cast<char>(p.size()) + p;
      SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(wire.data()),
                          static_cast<unsigned>(wire.size()));
    }
    SSL_set_fd(ssl_.get(), connection_.socket());
    open_ = SSL_connect(ssl_.get()) == 1;
    ERR_clear_error();
  }

  [[nodiscard]] bool open() const { return open_; }
  [[nodiscard]] std::string version() const { return SSL_get_version(ssl_.get()); }
  [[nodiscard]] std::string protocol() const {
    const unsigned char* name = nullptr;
    unsigned n = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &n);
    return {reinterpret_cast<const char*>(name), n};
  }
  [[nodiscard]] std::string server() const {
    const certificate_ptr c(SSL_get1_peer_certificate(ssl_.get()));
    char name[256] = "";
    if (c) X509_NAME_get_text_by_NID(X509_get_subject_name(c.get()), NID_commonName, name, sizeof name);
    return name;
  }
  bool send(std::string_view text) {
    while (!text.empty()) {
      const int n = SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size()));
      if (n <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

 protected:
  bool more() override {
    char bytes[16384];
    const int n = SSL_read(ssl_.get(), bytes, sizeof bytes);
    ERR_clear_error();
    if (n <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

 private:
  raw_client connection_;
  std::unique_ptr<SSL_CTX, freed<SSL_CTX_free>> context_;
  std::unique_ptr<SSL, freed<SSL_free>> ssl_;
  bool open_ = false;
};

constexpr const char* get = "GET /a HTTP/1.1\r\nHost: test\r\n\r\n";

class FrontTls : public testing::Test {
 protected:
  FrontTls() : authority_(make_identity("authority")) {
    files_.write("authority", authority_);
    files_.write("server", make_identity("first", &authority_, 2));
    options_.bind = "127.0.0.1";
    options_.name = "http.port";
    options_.tls.certificate = files_.path("server.crt");
    options_.tls.key = files_.path("server.key");
  }

  front& serve() {
    server_ = std::make_unique<front>(options_);
    server_->start(
        [](std::size_t, exchange_ptr e) {
          response r;
          r.body = std::string(e->request().certificate) + '|' + std::string(e->request().body);
          e->reply(std::move(r));
        },
        [](std::size_t) {});
    return *server_;
  }

  std::string refused() {
    try {
      const front one(options_);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  }

  pem_files files_;
  identity authority_;
  front_options options_;
  std::unique_ptr<front> server_;
};

TEST_F(FrontTls, ServesOverTls) {
  front& f = serve();
  tls_client c(f.port());
  ASSERT_TRUE(c.open());
  EXPECT_EQ(c.server(), "first");
  EXPECT_EQ(c.version(), "TLSv1.3");
  for (int i = 0; i < 3; ++i) {
    c.send(post("/", "b" + std::to_string(i)));
    EXPECT_EQ(c.next().body, "|b" + std::to_string(i));
  }
  std::string all;
  for (int i = 0; i < 200; ++i) all += post("/", std::to_string(i));
  c.send(all);
  for (int i = 0; i < 200; ++i) ASSERT_EQ(c.next().body, "|" + std::to_string(i));
  const std::string big(3 << 20, 'b');
  c.send(post("/", big));
  EXPECT_EQ(c.next().body, "|" + big);
  c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(c.next().status, 200);
  EXPECT_TRUE(c.closed());
}

TEST_F(FrontTls, SpeaksTls12AndNothingOlder) {
  front& f = serve();
  tls_client c(f.port(), {nullptr, TLS1_2_VERSION, {}});
  ASSERT_TRUE(c.open());
  EXPECT_EQ(c.version(), "TLSv1.2");
  c.send(get);
  EXPECT_EQ(c.next().status, 200);
  EXPECT_FALSE(tls_client(f.port(), {nullptr, TLS1_1_VERSION, {}}).open());
}

TEST_F(FrontTls, AgreesOnHttpOneDotOne) {
  front& f = serve();
  tls_client both(f.port(), {nullptr, 0, {"h2", "http/1.1"}});
  EXPECT_TRUE(both.open());
  EXPECT_EQ(both.protocol(), "http/1.1");
  EXPECT_FALSE(tls_client(f.port(), {nullptr, 0, {"h2"}}).open());
}

TEST_F(FrontTls, AHandshakeThatHangsHoldsNobodyUpAndTimesOut) {
  options_.read_timeout = std::chrono::milliseconds(1);
  front& f = serve();
  raw_client silent(f.port());
  raw_client half(f.port());
  half.send(std::string_view("\x16\x03\x01\x02\x00\x01", 6));
  raw_client plain(f.port());
  plain.send(get);
  EXPECT_TRUE(silent.closed());
  EXPECT_TRUE(half.closed());
  plain.next();
  EXPECT_TRUE(plain.closed());
  options_.read_timeout = std::chrono::seconds(10);
  front& g = serve();
  const raw_client waiting(g.port());
  tls_client c(g.port());
  ASSERT_TRUE(c.open());
  c.send(get);
  EXPECT_EQ(c.next().status, 200);
}

TEST_F(FrontTls, ReloadsWithoutTouchingOpenConnections) {
  front& f = serve();
  tls_client before(f.port());
  ASSERT_TRUE(before.open());
  files_.write("server", make_identity("second", &authority_, 3));
  EXPECT_EQ(f.reload_tls(), "");
  before.send(get);
  EXPECT_EQ(before.next().status, 200);
  EXPECT_EQ(tls_client(f.port()).server(), "second");
  // What can't be used changes nothing.
  std::ofstream(options_.tls.certificate) << "no certificate";
  EXPECT_THAT(f.reload_tls(), StartsWith("http.tls_cert " + options_.tls.certificate + " can't be used"));
  EXPECT_EQ(tls_client(f.port()).server(), "second");
  before.send(get);
  EXPECT_EQ(before.next().status, 200);
}

TEST_F(FrontTls, TellsWhoTheClientIs) {
  options_.tls.client_ca = files_.path("authority.crt");
  front& f = serve();
  const identity client = make_identity("caller", &authority_, 4);
  const identity stranger = make_identity("stranger");
  tls_client known(f.port(), {&client, 0, {}});
  known.send(get);
  EXPECT_EQ(known.next().body, "CN=caller,O=Tests|");
  tls_client none(f.port());
  none.send(get);
  EXPECT_EQ(none.next().body, "|");
  // With TLS 1.3 the refusal comes after the client's part of the handshake.
  tls_client bad(f.port(), {&stranger, 0, {}});
  bad.send(get);
  EXPECT_EQ(bad.next().status, 0);
}

TEST_F(FrontTls, MayRequireAClientCertificate) {
  options_.tls.client_ca = files_.path("authority.crt");
  options_.tls.client_required = true;
  front& f = serve();
  const identity client = make_identity("caller", &authority_, 4);
  tls_client known(f.port(), {&client, 0, {}});
  known.send(get);
  EXPECT_EQ(known.next().status, 200);
  tls_client none(f.port());
  none.send(get);
  EXPECT_EQ(none.next().status, 0);
}

TEST_F(FrontTls, UnusableFilesAreOneClearLine) {
  const tls_files good = options_.tls;
  options_.tls.certificate = files_.path("none.crt");
  EXPECT_THAT(refused(), HasSubstr("http.tls_cert " + files_.path("none.crt") + " can't be used"));
  options_.tls = good;
  options_.tls.key.clear();
  EXPECT_THAT(refused(), HasSubstr("http.tls_key is not"));
  options_.tls.key = files_.path("authority.crt");
  EXPECT_THAT(refused(), HasSubstr("http.tls_key " + files_.path("authority.crt") + " can't be used"));
  options_.tls.key = files_.path("authority.key");
  EXPECT_THAT(refused(), HasSubstr("http.tls_key"));
  options_.tls = good;
  options_.tls.client_ca = files_.path("none.crt");
  EXPECT_THAT(refused(), HasSubstr("http.tls_client_ca"));
  options_.tls.client_ca.clear();
  options_.tls.client_required = true;
  EXPECT_THAT(refused(), HasSubstr("http.tls_client_ca is not set"));
  EXPECT_EQ(refused().find('\n'), std::string::npos);
}

TEST_F(FrontTls, DrainsAndStopsWithConnectionsOpen) {
  front& f = serve();
  tls_client idle(f.port());
  ASSERT_TRUE(idle.open());
  idle.send(get);
  EXPECT_EQ(idle.next().status, 200);
  f.drain();
  EXPECT_TRUE(idle.closed());
  f.stop();
}

}  // namespace
}  // namespace troupe::http
