#include "runtime/guard/guard.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/guard/sha256.hpp"
#include "runtime/policy/month_count.hpp"
#include "tests/runtime/guard/tokens.hpp"

namespace {

using namespace troupe::guard;
using troupe::door;
using troupe::nanos;
using troupe::guard::testing::set_of;
using troupe::guard::testing::signer;

constexpr nanos second = 1'000'000'000;
std::atomic<nanos> steady{1'000 * second};
std::atomic<std::int64_t> epoch{1'700'000'000};

/// A request: its header fields in order, and its peer.
struct request {
  std::vector<std::pair<std::string, std::string>> headers;
  std::string peer = "192.0.2.1";
  kind what = kind::inference;

  [[nodiscard]] question ask() const {
    question q;
    q.via = door::http;
    q.kind = what;
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

struct stand {
  std::map<refusal, int> counted;
  int unknown_keys = 0;
  gatekeeper keeper;

  explicit stand(guard_options o)
      : keeper(std::move(o), [this] {
          guard_ports p;
          p.refused = [this](door, refusal why) { ++counted[why]; };
          p.unknown_key = [this] { ++unknown_keys; };
          p.steady = [] { return steady.load(); };
          p.epoch_seconds = [] { return epoch.load(); };
          p.seed = 17;
          return p;
        }()) {}

  verdict ask(const request& r) { return keeper.check(r.ask()); }
  refusal why(const request& r) { return ask(r).why; }
};

client_entry entry(std::string name, const std::string& key) {
  client_entry c;
  c.name = std::move(name);
  if (!key.empty()) c.keys.push_back(sha256(key));
  return c;
}

guard_options required() {
  guard_options o;
  o.required = true;
  o.clients = {entry("billing", "tk_one"), entry("portal", "tk_two")};
  o.clients[1].models = {"churn"};
  o.clients[1].classes = {"bulk"};
  return o;
}

request with(std::string name, std::string value, kind what = kind::inference) {
  request r;
  r.headers = {{std::move(name), std::move(value)}};
  r.what = what;
  return r;
}

TEST(guard, that_is_off_asks_nothing) {
  stand s({});
  EXPECT_TRUE(s.ask({}).ok());
  EXPECT_EQ(s.ask(with("x-api-key", "nonsense")).who, nullptr);
  EXPECT_TRUE(s.counted.empty());
}

TEST(guard, knows_keys_however_they_come) {
  stand s(required());
  for (const auto& r : {with("x-api-key", "tk_one"), with("authorization", "Bearer tk_one"),
                        with("authorization", "bearer   tk_one "), with("authorization", "BEARER tk_one")}) {
    const auto v = s.ask(r);
    ASSERT_TRUE(v.ok()) << r.headers[0].second;
    EXPECT_EQ(v.who->name(), "billing");
    EXPECT_TRUE(v.who->may_all());
  }
  request both = with("authorization", "Basic abc");
  both.headers.emplace_back("x-api-key", "tk_two");
  EXPECT_EQ(s.ask(both).who->name(), "portal") << "X-API-Key is looked at first";
}

TEST(guard, refuses_what_it_does_not_know) {
  stand s(required());
  EXPECT_EQ(s.why({}), refusal::no_credentials);
  for (const char* value : {"", "Bearer", "Bearer ", "Basic tk_one", "tk_one", "Bearertk_one"})
    EXPECT_EQ(s.why(with("authorization", value)), refusal::no_credentials) << value;
  for (const auto& key :
       {std::string("tk_onf"), std::string("tk_on"), std::string("tk_one1"), std::string(9'000, 'x'),
        shown(sha256("tk_one")), std::string("a.b.c"), std::string("ey.b.c")})
    EXPECT_EQ(s.why(with("x-api-key", key)), refusal::bad_key) << key;
  EXPECT_EQ(s.counted[refusal::bad_key], 7);
  EXPECT_EQ(http_status_of(refusal::bad_key), 401);
}

TEST(guard, lets_pages_through_that_are_exempt) {
  auto o = required();
  o.exempt_metrics = true;
  stand s(o);
  const auto bare = [&](kind what) { return s.why({{}, "192.0.2.1", what}); };
  EXPECT_EQ(bare(kind::health), refusal::none);
  EXPECT_EQ(bare(kind::metrics), refusal::none);
  EXPECT_EQ(bare(kind::docs), refusal::no_credentials);
  EXPECT_EQ(bare(kind::page), refusal::no_credentials);
}

TEST(guard, lets_only_administrators_load_models) {
  auto o = required();
  o.clients[0].admin = true;
  stand s(o);
  EXPECT_EQ(s.why(with("x-api-key", "tk_one", kind::admin)), refusal::none);
  EXPECT_EQ(s.why(with("x-api-key", "tk_two", kind::admin)), refusal::admin);
  EXPECT_EQ(http_status_of(refusal::admin), 403);
}

TEST(guard, says_what_a_client_may_use) {
  stand s(required());
  const auto who = s.ask(with("x-api-key", "tk_two")).who;
  EXPECT_FALSE(who->may_all());
  EXPECT_TRUE(who->may_use_model("churn"));
  EXPECT_FALSE(who->may_use_model("churn2"));
  EXPECT_FALSE(who->may_use_class("interactive"));
  EXPECT_EQ(s.keeper.refuse(door::grpc, refusal::model).why, refusal::model);
  EXPECT_EQ(s.counted[refusal::model], 1);
}

TEST(guard, finds_each_of_many_keys) {
  guard_options o;
  o.required = true;
  for (int i = 0; i < 20'000; ++i)
    o.clients.push_back(entry("c" + std::to_string(i), "tk_" + std::to_string(i)));
  stand s(o);
  for (int i = 0; i < 20'000; ++i)
    ASSERT_EQ(s.ask(with("x-api-key", "tk_" + std::to_string(i))).who->name(), "c" + std::to_string(i));
  EXPECT_EQ(s.why(with("x-api-key", "tk_20000")), refusal::bad_key);
}

guard_options limited(double per_minute = 60, double burst = 3) {
  guard_options o;
  o.limited = true;
  o.per_minute = per_minute;
  o.burst = burst;
  o.addresses = 1'000;
  return o;
}

TEST(guard, holds_addresses_to_their_rate) {
  stand s(limited());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(s.ask({}).ok());
  const auto v = s.ask({});
  EXPECT_EQ(v.why, refusal::address_rate);
  EXPECT_EQ(v.retry_after, second);
  EXPECT_EQ(http_status_of(v.why), 429);
  EXPECT_TRUE(s.ask({{}, "192.0.2.2"}).ok()) << "another address";
  EXPECT_TRUE(s.ask({{}, "192.0.2.1", kind::health}).ok()) << "health is exempt";
  steady += second;
  EXPECT_TRUE(s.ask({}).ok());
  EXPECT_FALSE(s.ask({}).ok());
}

TEST(guard, believes_only_trusted_proxies) {
  auto o = limited(60, 1);
  o.trusted_proxies = {*troupe::policy::parse_network("10.0.0.0/8")};
  stand s(o);
  const auto from = [](const char* peer, std::vector<std::string> lines) {
    request r;
    r.peer = peer;
    for (auto& l : lines) r.headers.emplace_back("x-forwarded-for", l);
    return r;
  };
  EXPECT_TRUE(s.ask(from("198.51.100.1", {"203.0.113.1"})).ok());
  EXPECT_FALSE(s.ask(from("198.51.100.1", {"203.0.113.2"})).ok()) << "its own header helps nobody";
  EXPECT_TRUE(s.ask(from("10.0.0.1", {"203.0.113.3"})).ok());
  EXPECT_FALSE(s.ask(from("10.0.0.2", {"9.9.9.9, 203.0.113.3"})).ok()) << "the same client by another proxy";
  EXPECT_FALSE(s.ask(from("10.0.0.2", {"9.9.9.8", "203.0.113.3"})).ok())
      << "a header of its own before the proxy's";
  EXPECT_FALSE(s.ask(from("10.0.0.2", {"203.0.113.3", "10.0.0.9"})).ok()) << "two proxies, a header each";
  EXPECT_TRUE(s.ask(from("10.0.0.2", {"203.0.113.4", "junk, 10.0.0.9"})).ok())
      << "10.0.0.9 stands for what it sent";
  EXPECT_FALSE(s.ask(from("10.0.0.2", {"203.0.113.5", "junk, 10.0.0.9"})).ok());
}

TEST(guard, slows_down_who_guesses) {
  auto o = required();
  o.limited = true;
  o.per_minute = 60;
  o.burst = 5;
  stand s(o);
  int bad = 0, slow = 0;
  for (int i = 0; i < 50; ++i) {
    const auto why = s.why(with("x-api-key", "tk_guess" + std::to_string(i)));
    ++(why == refusal::bad_key ? bad : slow);
  }
  EXPECT_EQ(bad, 5);
  EXPECT_EQ(slow, 45);
  EXPECT_EQ(s.why(with("x-api-key", "tk_one")), refusal::address_rate)
      << "who has no rate of its own shares it";
}

TEST(guard, holds_a_client_to_its_own_rate_instead) {
  auto o = required();
  o.limited = true;
  o.per_minute = 60;
  o.burst = 1;
  o.clients[0].per_minute = 120;
  o.clients[0].burst = 10;
  stand s(o);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(s.ask(with("x-api-key", "tk_one")).ok());
  const auto v = s.ask(with("x-api-key", "tk_one"));
  EXPECT_EQ(v.why, refusal::client_rate);
  EXPECT_EQ(v.retry_after, second / 2);
  EXPECT_TRUE(s.ask(with("x-api-key", "tk_two")).ok());
  EXPECT_EQ(s.why(with("x-api-key", "tk_two")), refusal::address_rate);
  s.keeper.reload(o);
  EXPECT_EQ(s.why(with("x-api-key", "tk_one")), refusal::client_rate) << "a reload gives nothing away";
  o.clients[0].per_minute = 0;
  o.clients[0].burst.reset();
  s.keeper.reload(o);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(s.ask(with("x-api-key", "tk_one")).ok()) << "0: no limit";
}

TEST(guard, ends_a_quota_with_the_month) {
  auto o = required();
  o.limited = true;
  o.per_minute = 1e6;
  o.per_month = 3;
  o.clients[1].per_month = 0;
  stand s(o);
  const auto one = with("x-api-key", "tk_one");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(s.ask(one).ok());
  EXPECT_TRUE(s.ask(with("x-api-key", "tk_one", kind::page)).ok()) << "pages do not count";
  const auto v = s.ask(one);
  EXPECT_EQ(v.why, refusal::quota);
  const std::int64_t end = troupe::policy::month_end(troupe::policy::month_of(epoch));
  EXPECT_EQ(v.retry_after / second, end - epoch);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(s.ask(with("x-api-key", "tk_two")).ok()) << "0: no quota";
  s.keeper.reload(o);
  EXPECT_EQ(s.why(one), refusal::quota) << "a reload gives nothing away";
  const auto before = epoch.load();
  epoch = end;
  EXPECT_TRUE(s.ask(one).ok());
  epoch = before;
}

TEST(guard, knows_clients_of_work_that_goes_on) {
  auto o = required();
  o.limited = true;
  o.per_minute = 1e6;
  o.per_month = 10;
  o.clients[0].admin = true;
  stand s(o);
  EXPECT_TRUE(s.keeper.look_up("billing").who->admin());
  const auto portal = s.keeper.look_up("portal");
  ASSERT_NE(portal.who, nullptr);
  EXPECT_FALSE(portal.who->admin());
  EXPECT_FALSE(portal.who->may_use_model("iris"));
  EXPECT_EQ(s.keeper.look_up("gone").why, refusal::bad_key);
  EXPECT_TRUE(s.keeper.charge(door::http, "portal", 8).ok());
  EXPECT_TRUE(s.ask(with("x-api-key", "tk_two")).ok());
  const auto much = s.keeper.charge(door::http, "portal", 2);
  EXPECT_EQ(much.why, refusal::quota) << "requests and lines count together, and all of the lines or none";
  EXPECT_GT(much.retry_after, 0);
  EXPECT_TRUE(s.keeper.charge(door::http, "portal", 1).ok());
  EXPECT_EQ(s.why(with("x-api-key", "tk_two")), refusal::quota);
  EXPECT_TRUE(s.keeper.charge(door::http, "gone", 99).ok());

  auto fewer = o;
  fewer.clients.erase(fewer.clients.begin() + 1);
  s.keeper.reload(fewer);
  EXPECT_EQ(s.keeper.look_up("portal").why, refusal::bad_key);
  fewer.required = false;
  s.keeper.reload(fewer);
  EXPECT_TRUE(s.keeper.look_up("portal").ok());
  EXPECT_EQ(s.keeper.look_up("portal").who, nullptr) << "nobody is asked any more";
  fewer.required = fewer.tokens = true;
  s.keeper.reload(fewer);
  EXPECT_TRUE(s.keeper.look_up("portal").who->may_all()) << "as a token of that name may";
}

TEST(guard, shares_counts_with_a_store) {
  auto o = required();
  o.limited = true;
  o.per_minute = 1e6;
  o.per_month = 10;
  stand s(o);
  const auto one = with("x-api-key", "tk_one");
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(s.ask(one).ok());
  auto lines = s.keeper.unsaved();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].client, "billing");
  EXPECT_EQ(lines[0].added, 4U);
  EXPECT_EQ(lines[0].month, troupe::policy::month_of(epoch));
  EXPECT_TRUE(s.ask(one).ok());
  s.keeper.saved(lines[0], 9);  // other nodes had five
  EXPECT_EQ(s.keeper.unsaved()[0].added, 1U);
  EXPECT_EQ(s.why(one), refusal::quota) << "9 in the store, and one that it does not know yet";
  s.keeper.saved({"nobody", 1, 1}, 1);
}

struct token_stand : stand {
  static guard_options options() {
    auto o = required();
    o.tokens = true;
    o.rules = {"iss", "troupe", "sub", 0};
    return o;
  }
  explicit token_stand(guard_options o = options()) : stand(std::move(o)) {}
};

signer& ec() {
  static signer one(signer::kind::ec, "e1");
  return one;
}

std::string token_of(const std::string& who, std::int64_t expires, const signer& by = ec()) {
  return by.token(R"({"iss":"iss","aud":"troupe","sub":")" + who + R"(","exp":)" + std::to_string(expires) +
                  "}");
}

TEST(guard, takes_tokens_once_it_has_their_keys) {
  token_stand s;
  const auto r = with("authorization", "Bearer " + token_of("mobile", epoch + 100));
  const auto early = s.ask(r);
  EXPECT_EQ(early.why, refusal::no_token_keys);
  EXPECT_GT(early.retry_after, 0);
  EXPECT_EQ(http_status_of(early.why), 503);
  s.keeper.set_token_keys(key_set::parse(set_of(ec().jwk())));
  const auto v = s.ask(r);
  ASSERT_TRUE(v.ok());
  EXPECT_EQ(v.who->name(), "mobile");
  EXPECT_TRUE(v.who->may_all());
  EXPECT_EQ(s.ask(r).who, v.who);
  EXPECT_EQ(s.ask(with("x-api-key", "tk_one")).who->name(), "billing") << "keys beside them";
  EXPECT_FALSE(s.ask(with("authorization", "Bearer " + token_of("portal", epoch + 100))).who->may_all())
      << "the file says what a client of this name may";
}

TEST(guard, forgets_a_token_when_it_expires_or_its_key_is_gone) {
  token_stand s;
  s.keeper.set_token_keys(key_set::parse(set_of(ec().jwk())));
  const auto before = epoch.load();
  const auto r = with("authorization", "Bearer " + token_of("mobile", before + 100));
  EXPECT_TRUE(s.ask(r).ok());
  EXPECT_TRUE(s.ask(r).ok());
  epoch = before + 100;
  EXPECT_EQ(s.why(r), refusal::expired_token);
  epoch = before;
  EXPECT_TRUE(s.ask(r).ok());
  signer next(signer::kind::ec, "e2");
  s.keeper.set_token_keys(key_set::parse(set_of(next.jwk())));
  EXPECT_EQ(s.why(r), refusal::token_key);
  EXPECT_EQ(s.unknown_keys, 1);
  EXPECT_TRUE(s.ask(with("authorization", "Bearer " + token_of("mobile", before + 100, next))).ok());
}

TEST(guard, tells_what_is_wrong_with_a_token_and_the_caller_nothing) {
  token_stand s;
  s.keeper.set_token_keys(key_set::parse(set_of(ec().jwk())));
  signer other(signer::kind::ec, "e1"), unknown(signer::kind::ec, "e9");
  const std::string exp = R"(,"exp":)" + std::to_string(epoch + 100);
  const auto said = s.ask(with("authorization", "Bearer ey.ey.ey")).message;
  for (const auto& [token, label] : std::vector<std::pair<std::string, std::string>>{
           {"ey.ey.ey", "bad_token"},
           {token_of("a", epoch - 100), "expired_token"},
           {ec().sign(R"({"alg":"PS256","kid":"e1"})", "{}"), "token_algorithm"},
           {token_of("a", epoch + 100, unknown), "token_key"},
           {token_of("a", epoch + 100, other), "token_signature"},
           {ec().token(R"({"iss":"iss","aud":"troupe","sub":"a"})"), "token_no_expiry"},
           {ec().token(R"({"iss":"x","aud":"troupe","sub":"a")" + exp + "}"), "token_issuer"},
           {ec().token(R"({"iss":"iss","aud":"x","sub":"a")" + exp + "}"), "token_audience"},
           {ec().token(R"({"iss":"iss","aud":"troupe")" + exp + "}"), "token_no_client"}}) {
    const auto v = s.ask(with("authorization", "Bearer " + token));
    EXPECT_EQ(name_of(v.why), label);
    EXPECT_EQ(http_status_of(v.why), 401) << label;
    EXPECT_EQ(v.message == said, label != "expired_token") << label;
    EXPECT_EQ(s.counted[v.why], label == "bad_token" ? 2 : 1) << label;
  }
}

TEST(guard, verifies_no_more_tokens_than_the_rate_allows) {
  auto o = token_stand::options();
  o.limited = true;
  o.per_minute = 60;
  o.burst = 4;
  token_stand s(o);
  s.keeper.set_token_keys(key_set::parse(set_of(ec().jwk())));
  signer other(signer::kind::ec, "e1");
  int refused = 0;
  for (int i = 0; i < 20; ++i)
    refused +=
        s.why(with("authorization", "Bearer " + token_of("a" + std::to_string(i), epoch + 9, other))) ==
        refusal::token_signature;
  EXPECT_EQ(refused, 4);
  EXPECT_EQ(s.counted[refusal::address_rate], 16);
}

TEST(guard, remembers_a_bounded_number_of_token_clients) {
  auto o = token_stand::options();
  o.limited = true;
  o.per_minute = 1e9;
  o.burst = 1e6;
  token_stand s(o);
  signer fast(signer::kind::ec, "e1");
  s.keeper.set_token_keys(key_set::parse(set_of(fast.jwk())));
  for (int i = 0; i < 200; ++i)
    ASSERT_TRUE(
        s.ask(with("authorization", "Bearer " + token_of("c" + std::to_string(i), epoch + 9, fast))).ok());
  EXPECT_EQ(s.keeper.unsaved().size(), 200U);
}

TEST(guard, may_be_asked_and_changed_from_many_threads) {
  auto o = token_stand::options();
  o.limited = true;
  o.per_minute = 1e6;
  token_stand s(o);
  s.counted.clear();
  s.keeper.set_token_keys(key_set::parse(set_of(ec().jwk())));
  const auto key = with("x-api-key", "tk_one");
  const auto token = with("authorization", "Bearer " + token_of("mobile", epoch + 1'000));
  std::atomic<bool> ends{false};
  std::vector<std::thread> all;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 3; ++t)
    all.emplace_back([&] {
      while (!ends)
        if (!s.keeper.check(key.ask()).ok() || !s.keeper.check(token.ask()).ok()) ++wrong;
    });
  for (int i = 0; i < 50; ++i) {
    s.keeper.reload(o);
    s.keeper.set_token_keys(key_set::parse(set_of(ec().jwk())));
    for (const auto& l : s.keeper.unsaved()) s.keeper.saved(l, l.added);
  }
  ends = true;
  for (auto& t : all) t.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
