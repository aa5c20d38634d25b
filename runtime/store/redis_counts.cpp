#include "runtime/store/redis_counts.hpp"

#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/time.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "runtime/store/redis_tls.hpp"

namespace troupe::store {
namespace {

constexpr std::size_t at_once = 500;  // counts a round trip

using context = std::unique_ptr<redisContext, decltype(&redisFree)>;
using reply = std::unique_ptr<redisReply, decltype(&freeReplyObject)>;

timeval as_timeval(nanos t) {
  t = std::max<nanos>(t, 1'000'000);
  timeval v{};
  v.tv_sec = t / 1'000'000'000;
  v.tv_usec = t % 1'000'000'000 / 1'000;
  return v;
}

}  // namespace

struct redis_counts::impl {
  explicit impl(redis_options o) : options(std::move(o)), tls(make_redis_tls(options)) {}

  redis_options options;
  std::shared_ptr<ssl_ctx_st> tls;
  context c{nullptr, &redisFree};

  std::string lost(const std::string& why) {
    c.reset();
    return options.host + ":" + std::to_string(options.port) + ": " + why;
  }
  std::string lost() { return lost(c && *c->errstr ? c->errstr : "the connection failed"); }

  reply next() {
    void* r = nullptr;
    if (redisGetReply(c.get(), &r) != REDIS_OK) r = nullptr;
    return {static_cast<redisReply*>(r), &freeReplyObject};
  }

  /// Empty, or why there is no connection.
  std::string connect() {
    if (c && c->err == 0) return {};
    const timeval limit = as_timeval(options.connect_timeout);
    c = context(redisConnectWithTimeout(options.host.c_str(), options.port, limit), &redisFree);
    if (!c || c->err != 0) return lost();
    c->reader->maxelements = 16;  // none of the answers has any
    if (redisSetTimeout(c.get(), limit) != REDIS_OK) return lost();
    if (tls) {
      std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(tls.get()), &SSL_free);
      const std::string& name = options.tls_server_name.empty() ? options.host : options.tls_server_name;
      bool ok = ssl != nullptr;
      if (ok) {
        SSL_set_verify(ssl.get(), SSL_VERIFY_PEER, nullptr);
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), name.c_str()) != 1)
          ok = SSL_set1_host(ssl.get(), name.c_str()) == 1 &&
               SSL_set_tlsext_host_name(ssl.get(), name.c_str()) == 1;
        ERR_clear_error();
      }
      if (!ok || redisInitiateSSL(c.get(), ssl.get()) != REDIS_OK) return lost();
      ssl.release();  // the context's now
    }
    if (!options.password.empty()) {
      const std::string& user = options.user.empty() ? std::string("default") : options.user;
      const reply r(
          static_cast<redisReply*>(
              options.user.empty()
                  ? redisCommand(c.get(), "AUTH %b", options.password.data(), options.password.size())
                  : redisCommand(c.get(), "AUTH %b %b", user.data(), user.size(), options.password.data(),
                                 options.password.size())),
          &freeReplyObject);
      if (!r) return lost();
      if (r->type == REDIS_REPLY_ERROR) return lost(r->str);
    }
    if (options.db != 0) {
      const reply r(static_cast<redisReply*>(redisCommand(c.get(), "SELECT %d", options.db)),
                    &freeReplyObject);
      if (!r) return lost();
      if (r->type == REDIS_REPLY_ERROR) return lost(r->str);
    }
    return {};
  }
};

redis_counts::redis_counts(redis_options options) : impl_(std::make_unique<impl>(std::move(options))) {}
redis_counts::~redis_counts() = default;

std::string redis_counts::add(const std::vector<count_to_add>& all, std::vector<std::uint64_t>& totals) {
  totals.clear();
  impl& i = *impl_;
  if (std::string why = i.connect(); !why.empty()) return why;
  for (std::size_t begin = 0; begin < all.size(); begin += at_once) {
    const std::size_t end = std::min(all.size(), begin + at_once);
    for (std::size_t n = begin; n < end; ++n) {
      const auto& one = all[n];
      if (redisAppendCommand(i.c.get(), "INCRBY %b %llu", one.key.data(), one.key.size(),
                             static_cast<unsigned long long>(one.add)) != REDIS_OK ||
          redisAppendCommand(i.c.get(), "EXPIREAT %b %lld", one.key.data(), one.key.size(),
                             static_cast<long long>(one.expires)) != REDIS_OK)
        return i.lost();
    }
    for (std::size_t n = begin; n < end; ++n) {
      const reply total = i.next();
      if (!total) return i.lost();
      if (total->type == REDIS_REPLY_ERROR) return i.lost(total->str);
      if (total->type != REDIS_REPLY_INTEGER || total->integer < 0) return i.lost("INCRBY gave no count");
      totals.push_back(static_cast<std::uint64_t>(total->integer));
      if (const reply expiry = i.next(); !expiry) return i.lost();
    }
  }
  return {};
}

}  // namespace troupe::store
