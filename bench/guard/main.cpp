// What the guard costs a request: nanoseconds and allocations of one check.
//   bench_guard [--smoke] [--json]

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "runtime/guard/base64url.hpp"
#include "runtime/guard/guard.hpp"
#include "runtime/guard/sha256.hpp"

namespace {

std::atomic<unsigned long> allocations{0};

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}

namespace {

using namespace troupe;
using namespace troupe::guard;

struct request {
  std::vector<std::pair<std::string, std::string>> headers;
  std::string peer = "192.0.2.1";

  [[nodiscard]] question ask() const {
    question q;
    q.request = this;
    q.header = [](const void* r, std::string_view name, std::size_t n) -> std::string_view {
      const auto& all = static_cast<const request*>(r)->headers;
      for (auto it = all.rbegin(); it != all.rend(); ++it)
        if (it->first == name && n-- == 0) return it->second;
      return {};
    };
    q.peer = [](const void* r, std::string&) -> std::string_view {
      return static_cast<const request*>(r)->peer;
    };
    return q;
  }
};

std::string number(const EVP_PKEY* key, const char* name) {
  BIGNUM* n = nullptr;
  EVP_PKEY_get_bn_param(key, name, &n);
  const bool coordinate = name[0] == 'q';
  const int size = coordinate ? 32 : BN_num_bytes(n);
  std::string out(static_cast<std::size_t>(size), '\0');
  BN_bn2binpad(n, reinterpret_cast<unsigned char*>(out.data()), size);
  BN_free(n);
  return to_base64url(out);
}

std::string sign(EVP_PKEY* key, bool rsa) {
  std::string text =
      to_base64url(rsa ? R"({"alg":"RS256","kid":"k"})" : R"({"alg":"ES256","kid":"k"})") + "." +
      to_base64url(R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":4000000000})");
  EVP_MD_CTX* c = EVP_MD_CTX_new();
  std::size_t size = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  EVP_DigestSignInit_ex(c, nullptr, "SHA256", nullptr, nullptr, key, nullptr);
  EVP_DigestSign(c, nullptr, &size, bytes, text.size());
  std::string signature(size, '\0');
  EVP_DigestSign(c, reinterpret_cast<unsigned char*>(signature.data()), &size, bytes, text.size());
  EVP_MD_CTX_free(c);
  signature.resize(size);
  if (!rsa) {
    const auto* at = reinterpret_cast<const unsigned char*>(signature.data());
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

struct result {
  std::string name;
  double ns = 0;
  double allocations = 0;
};

/// The best of many short rounds: what a busy machine leaves intact.
result measure(const std::string& name, int times, int rounds, const std::function<void(int)>& what) {
  result r{name, 1e18, 0};
  what(0);
  for (int round = 0; round < rounds; ++round) {
    const auto before = allocations.load();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < times; ++i) what(i);
    const double ns =
        std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
    r.ns = std::min(r.ns, ns / times);
    r.allocations = static_cast<double>(allocations.load() - before) / times;
  }
  return r;
}

}  // namespace

int main(int argc, char** argv) {
  bool smoke = false, json = false;
  for (int i = 1; i < argc; ++i) {
    smoke |= std::strcmp(argv[i], "--smoke") == 0;
    json |= std::strcmp(argv[i], "--json") == 0;
  }
  // OpenSSL's own allocations count, too.
  CRYPTO_set_mem_functions(
      [](std::size_t n, const char*, int) {
        allocations.fetch_add(1, std::memory_order_relaxed);
        return std::malloc(n);
      },
      [](void* p, std::size_t n, const char*, int) {
        allocations.fetch_add(1, std::memory_order_relaxed);
        return std::realloc(p, n);
      },
      [](void* p, const char*, int) { std::free(p); });

  const int times = smoke ? 1'000 : 20'000, rounds = smoke ? 1 : 200;
  std::vector<result> all;
  bool right = true;
  const auto check = [&](gatekeeper& g, const request& r) { right &= g.check(r.ask()).ok(); };

  request r;
  r.headers = {{"host", "node"},
               {"user-agent", "a client of some name"},
               {"content-type", "application/json"},
               {"content-length", "120"},
               {"accept", "*/*"},
               {"x-api-key", "tk_7777"}};
  guard_options off;
  gatekeeper nothing(off, {});
  all.push_back(measure("off", times, rounds, [&](int) { check(nothing, r); }));

  guard_options keys;
  keys.required = true;
  for (int i = 0; i < 10'000; ++i) {
    client_entry c;
    c.name = "c" + std::to_string(i);
    c.keys.push_back(sha256("tk_" + std::to_string(i)));
    keys.clients.push_back(std::move(c));
  }
  gatekeeper with_keys(keys, {});
  all.push_back(measure("key, of 10,000", times, rounds, [&](int) { check(with_keys, r); }));

  keys.limited = true;
  keys.per_month = 0;
  keys.clients[7777].per_minute = 1e9;
  keys.clients[7777].burst = 1e9;
  gatekeeper own_rate(keys, {});
  all.push_back(measure("key, own rate and count", times, rounds, [&](int) { check(own_rate, r); }));

  guard_options limited;
  limited.limited = true;
  limited.per_minute = 1e9;
  limited.burst = 1e6;
  limited.addresses = 1'000'000;
  gatekeeper addresses(limited, {});
  all.push_back(measure("address, one", times, rounds, [&](int) { check(addresses, r); }));
  std::vector<request> many(smoke ? 1'000 : 1'000'000, r);
  for (std::size_t i = 0; i < many.size(); ++i)
    many[i].peer = "10." + std::to_string(i >> 16 & 255) + "." + std::to_string(i >> 8 & 255) + "." +
                   std::to_string(i & 255);
  all.push_back(measure("address, of 1,000,000", static_cast<int>(many.size()), smoke ? 1 : 5,
                        [&](int i) { check(addresses, many[static_cast<std::size_t>(i)]); }));

  for (const bool rsa : {true, false}) {
    EVP_PKEY* key = rsa ? EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{2048})
                        : EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256");
    const std::string set = rsa ? R"({"keys":[{"kty":"RSA","kid":"k","n":")" +
                                      number(key, OSSL_PKEY_PARAM_RSA_N) + R"(","e":"AQAB"}]})"
                                : R"({"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":")" +
                                      number(key, OSSL_PKEY_PARAM_EC_PUB_X) + R"(","y":")" +
                                      number(key, OSSL_PKEY_PARAM_EC_PUB_Y) + R"("}]})";
    const std::string token = sign(key, rsa);
    EVP_PKEY_free(key);
    const auto parsed = key_set::parse(set);
    const token_rules rules{"https://id.example", "troupe", "sub", 60};
    const std::string name = rsa ? "RS256" : "ES256";
    all.push_back(measure("token, " + name + ", verified", smoke ? 20 : 200, rounds, [&](int) {
      right &= check_token(token, *parsed, rules, 1'700'000'000).fault == token_fault::none;
    }));
    guard_options tokens;
    tokens.required = tokens.tokens = true;
    tokens.rules = rules;
    gatekeeper g(tokens, {});
    g.set_token_keys(parsed);
    request t = r;
    t.headers.back() = {"authorization", "Bearer " + token};
    all.push_back(measure("token, " + name + ", seen before", times, rounds, [&](int) { check(g, t); }));
  }

  for (const auto& one : all) {
    if (json)
      std::printf("{\"what\":\"%s\",\"ns\":%.1f,\"allocations\":%.3f}\n", one.name.c_str(), one.ns,
                  one.allocations);
    else
      std::printf("%-30s %10.1f ns  %6.2f allocations\n", one.name.c_str(), one.ns, one.allocations);
  }
  if (!right) std::fprintf(stderr, "bench_guard: a check that must be good was refused\n");
  return right ? 0 : 1;
}
