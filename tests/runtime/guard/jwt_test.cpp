#include "runtime/guard/jwt.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "runtime/guard/base64url.hpp"
#include "tests/runtime/guard/tokens.hpp"

namespace {

using namespace troupe::guard;
using ::testing::HasSubstr;
using troupe::guard::testing::hmac_token;
using troupe::guard::testing::set_of;
using troupe::guard::testing::signer;

constexpr std::int64_t now = 1'700'000'000;
const std::string good =
    R"({"iss":"https://id.example","aud":["troupe","other"],"sub":"billing","exp":1700000300})";
const token_rules rules{"https://id.example", "troupe", "sub", 60};

signer& rsa() {
  static signer one(signer::kind::rsa, "r1");
  return one;
}
signer& ec() {
  static signer one(signer::kind::ec, "e1");
  return one;
}
const key_set& both() {
  static const auto set =
      key_set::parse(set_of(rsa().jwk() + "," + ec().jwk(R"(,"use":"sig","alg":"ES256")")));
  return *set;
}

TEST(base64url, has_one_text_a_value) {
  for (const char* text : {"", "f", "fo", "foo", "foob", "\xff\xfe"})
    EXPECT_EQ(*from_base64url(to_base64url(text)), text);
  EXPECT_EQ(to_base64url("\xff\xfe\xfd"), "__79");
  for (const char* text : {"A", "AB=", "AB==", "A+B/", "AB", "a b", "AAA\n", "AAB"})
    EXPECT_EQ(from_base64url(text).has_value(), false) << text;
}

TEST(token, of_either_algorithm_is_taken) {
  for (const signer* s : {&rsa(), &ec()}) {
    const auto r = check_token(s->token(good), both(), rules, now);
    EXPECT_EQ(r.fault, token_fault::none) << r.why;
    EXPECT_EQ(r.client, "billing");
    EXPECT_EQ(r.expires, 1'700'000'360);
  }
  EXPECT_TRUE(looks_like_token(rsa().token(good)));
  EXPECT_FALSE(looks_like_token("tk_abcdef"));
}

TEST(token, with_other_claims_is_judged_by_them) {
  struct row {
    const char* claims;
    token_fault what;
  };
  constexpr auto none = token_fault::none, expired = token_fault::expired, bad = token_fault::bad_claims,
                 issuer = token_fault::issuer, audience = token_fault::audience,
                 no_client = token_fault::no_client;
  for (const auto& [claims, what] : {
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":1700000300})", none},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":1700000300.7,"nbf":1700000060})",
               none},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":1699999941})", none},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":1699999940})", expired},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":1,"nbf":1})", expired},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":1700000300,"nbf":1700000061})",
               expired},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":1700000300,"iat":1700000061})",
               expired},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a"})", token_fault::no_expiry},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":"1700000300"})", bad},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":-1})", bad},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":1e300})", bad},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":null})", bad},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a","exp":1700000300,"nbf":"x"})", bad},
           row{R"({"iss":"https://evil.example","aud":"troupe","sub":"a","exp":1700000300})", issuer},
           row{R"({"iss":["https://id.example"],"aud":"troupe","sub":"a","exp":1700000300})", issuer},
           row{R"({"aud":"troupe","sub":"a","exp":1700000300})", issuer},
           row{R"({"iss":"https://id.example","aud":"other","sub":"a","exp":1700000300})", audience},
           row{R"({"iss":"https://id.example","aud":["other"],"sub":"a","exp":1700000300})", audience},
           row{R"({"iss":"https://id.example","aud":[],"sub":"a","exp":1700000300})", audience},
           row{R"({"iss":"https://id.example","aud":{"troupe":1},"sub":"a","exp":1700000300})", audience},
           row{R"({"iss":"https://id.example","sub":"a","exp":1700000300})", audience},
           row{R"({"iss":"https://id.example","aud":"troupe","exp":1700000300})", no_client},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"","exp":1700000300})", no_client},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":"a\nb","exp":1700000300})", no_client},
           row{R"({"iss":"https://id.example","aud":"troupe","sub":7,"exp":1700000300})", no_client},
           row{R"(["iss"])", bad},
           row{R"({"exp":)", bad},
           row{"", bad},
       }) {
    const auto r = check_token(ec().token(claims), both(), rules, now);
    EXPECT_EQ(r.fault, what) << claims << ": " << r.why;
    EXPECT_EQ(r.client.empty(), what != none) << claims;
  }
  const token_rules open{"", "", "client_id", 0};
  EXPECT_EQ(check_token(ec().token(R"({"client_id":"x","exp":1700000001})"), both(), open, now).client, "x");
}

TEST(token, can_not_choose_how_it_is_checked) {
  const auto fault = [&](const std::string& token) { return check_token(token, both(), rules, now).fault; };
  const std::string head = R"({"alg":"none"})", unsigned_part = to_base64url(head) + "." + to_base64url(good);
  EXPECT_EQ(fault(unsigned_part + "."), token_fault::algorithm);
  EXPECT_EQ(fault(unsigned_part), token_fault::malformed);
  for (const char* name : {"None", "nOnE", "NONE", "HS256", "HS512", "RS512", "PS256", "ES384", "rs256", ""})
    EXPECT_EQ(fault(rsa().sign(std::string(R"({"alg":")") + name + R"(","kid":"r1"})", good)),
              token_fault::algorithm)
        << name;
  // The public key as the secret of an HMAC.
  EXPECT_EQ(fault(hmac_token(R"({"alg":"HS256","kid":"r1"})", good, rsa().pem())), token_fault::algorithm);
  EXPECT_NE(fault(hmac_token(R"({"alg":"RS256","kid":"r1"})", good, rsa().pem())), token_fault::none);
  // A key of the other kind, by its id.
  EXPECT_EQ(fault(rsa().sign(R"({"alg":"ES256","kid":"r1"})", good)), token_fault::unknown_key);
  EXPECT_EQ(fault(rsa().sign(R"({"alg":"RS256","kid":"e1"})", good)), token_fault::unknown_key);
  // Keys that the token brings along are not looked at.
  signer own(signer::kind::ec, "e1");
  EXPECT_EQ(fault(own.sign(R"({"alg":"ES256","kid":"e1","jwk":)" + own.jwk() + "}", good)),
            token_fault::bad_signature);
  EXPECT_EQ(fault(own.sign(R"({"alg":"ES256","kid":"zz","jku":"http://evil.example"})", good)),
            token_fault::unknown_key);
  EXPECT_EQ(fault(ec().sign(R"({"alg":"ES256","kid":"e1","crit":["exp"]})", good)), token_fault::malformed);
  EXPECT_EQ(fault(ec().sign(R"({"alg":"ES256","kid":1})", good)), token_fault::malformed);
  EXPECT_EQ(fault(ec().sign(R"({"alg":["ES256"],"kid":"e1"})", good)), token_fault::algorithm);
  EXPECT_EQ(fault(ec().sign(R"({"alg":"ES256"})", good)), token_fault::none)
      << "one key of this kind: no id needed";
}

TEST(token, with_a_signature_of_nothing_is_refused) {
  const std::string text = to_base64url(R"({"alg":"ES256","kid":"e1"})") + "." + to_base64url(good);
  for (const auto& signature : {std::string(64, '\0'), std::string(), std::string(63, 'x'),
                                std::string(65, 'x'), std::string(64, '\xff')})
    EXPECT_EQ(check_token(text + "." + to_base64url(signature), both(), rules, now).fault,
              token_fault::bad_signature);
}

TEST(token, changed_anywhere_is_refused) {
  std::mt19937 random(9);
  for (const signer* s : {&rsa(), &ec()}) {
    const std::string token = s->token(good);
    for (int i = 0; i < 1'500; ++i) {
      std::string other = token;
      switch (random() % 4) {
        case 0:
          other[random() % other.size()] = static_cast<char>(random());
          break;
        case 1:
          other.erase(random() % other.size(), 1 + random() % 5);
          break;
        case 2:
          other.insert(random() % other.size(), 1, ".A-_="[random() % 5]);
          break;
        default:
          other.resize(random() % other.size());
      }
      if (other == token) continue;
      EXPECT_NE(check_token(other, both(), rules, now).fault, token_fault::none) << other;
    }
  }
  EXPECT_EQ(check_token(std::string(most_token + 1, '.'), both(), rules, now).fault, token_fault::malformed);
  std::string deep = "{\"alg\":" + std::string(3'000, '[') + std::string(3'000, ']') + "}";
  EXPECT_EQ(check_token(to_base64url(deep) + ".e30.AA", both(), rules, now).fault, token_fault::malformed);
}

TEST(key_set, takes_what_it_can_use) {
  signer other(signer::kind::ec, "e2");
  const auto set = key_set::parse(set_of(R"({"kty":"oct","k":"AA"},{"kty":"OKP","crv":"Ed25519","x":"AA"},)"
                                         R"({"kty":"EC","crv":"P-384","x":"AA","y":"AA"},)" +
                                         rsa().jwk(R"(,"use":"enc")") + "," + ec().jwk(R"(,"alg":"ES512")") +
                                         "," + other.jwk()));
  EXPECT_EQ(set->size(), 1U);
  EXPECT_EQ(check_token(rsa().token(good), *set, rules, now).fault, token_fault::unknown_key);
  EXPECT_EQ(check_token(other.token(good), *set, rules, now).fault, token_fault::none);
}

TEST(key_set, refuses_what_is_malformed) {
  signer small(signer::kind::rsa, "s", 1024);
  const std::string zeros = to_base64url(std::string(32, '\0')), a = to_base64url(std::string(32, 'a'));
  const std::vector<std::pair<std::string, const char*>> wrong = {
      {"", "no JWK set"},
      {"[]", "no JWK set"},
      {R"({"keys":{}})", "no JWK set"},
      {"{\"keys\":[" + std::string(5'000, '[') + "]}", "no JWK set"},
      {set_of(""), "no key"},
      {set_of("1"), "keys[0]: is no object"},
      {set_of(R"({"kty":"oct","k":"AA"})"), "no key"},
      {set_of(small.jwk()), "1024 bits"},
      {set_of(rsa().jwk(R"(,"d":"AA")")), "private"},
      {set_of(rsa().jwk() + "," + rsa().jwk()), "the same kid"},
      {set_of(R"({"kty":"RSA","n":"!","e":"AQAB"})"), "base64url"},
      {set_of(R"({"kty":"RSA","n":7,"e":"AQAB"})"), "no text"},
      {set_of(R"({"kty":"RSA","e":"AQAB"})"), "no text"},
      {set_of(R"({"kty":"EC","crv":"P-256","x":"AA","y":"AA"})"), "32 bytes"},
      {set_of(R"({"kty":"EC","crv":"P-256","x":")" + zeros + R"(","y":")" + zeros + "\"}"),
       "no valid public key"},
      {set_of(R"({"kty":"EC","crv":"P-256","x":")" + a + R"(","y":")" + a + "\"}"), "no valid public key"},
      {set_of(R"({"kty":"RSA","n":")" + to_base64url(std::string(255, '\xff') + '\xfe') + R"(","e":"AQAB"})"),
       "even"},
      {set_of(R"({"kty":"RSA","n":")" + to_base64url(std::string(256, '\xff')) + R"(","e":"AQ"})"),
       "exponent"},
      {set_of(R"({"kty":"RSA","n":")" + to_base64url(std::string(4096, '\xff')) + R"(","e":"AQAB"})"),
       "32768 bits"},
      {std::string(most_key_set + 1, ' '), "1 MiB"},
  };
  for (const auto& [text, what] : wrong) {
    try {
      (void)key_set::parse(text);
      ADD_FAILURE() << what;
    } catch (const key_set_error& e) {
      EXPECT_THAT(e.what(), HasSubstr(what));
    }
  }
}

}  // namespace
