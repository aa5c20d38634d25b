#pragma once
// TLS towards Redis, as the options ask for it.

#include <memory>

#include "runtime/store/redis.hpp"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace troupe::store {

/// Null without TLS. Throws std::runtime_error (the option, its file, why) for a file that can't be used.
[[nodiscard]] std::shared_ptr<ssl_ctx_st> make_redis_tls(const redis_options& o);

}  // namespace troupe::store
