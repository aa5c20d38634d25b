// The store against a real redis-server: what it keeps, and what becomes of it in all the ways Redis goes
// away.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <random>
#include <stdexcept>
#include <thread>

#include "tests/runtime/store/servers.hpp"

namespace troupe::store {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;

class RealRedis : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!installed("redis-server"))
      GTEST_SKIP() << "redis-server is not installed: apt-get install redis-server";
  }
};

[[nodiscard]] std::string any_bytes(std::mt19937_64& random, std::size_t size) {
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random() & 0xff);
  return out;
}

[[nodiscard]] auto stored(std::uint64_t n) {
  return [n](const store_counters& c) { return c.stored >= n; };
}

TEST_F(RealRedis, KeepsAnyBytesInOrder) {
  redis_server server;
  client redis(client::options(server.port()));
  ASSERT_TRUE(redis.connected().connected);
  std::mt19937_64 random(7);
  std::vector<std::pair<std::string, std::string>> items = {
      {std::string("\0\r\n$1", 5), std::string("a\0b\r\n", 5)},
      {"empty", ""},
      {"large", any_bytes(random, 3'000'000)}};
  for (int i = 0; i < 300; ++i)
    items.emplace_back("k" + std::to_string(i) + any_bytes(random, 16), any_bytes(random, 64));
  redis->set(items);
  ASSERT_TRUE(redis.wait_counters(stored(items.size())));
  std::vector<std::string> keys;
  for (const auto& [key, value] : items) {
    keys.push_back(key);
    keys.push_back("no such " + key);
  }
  const auto r = redis.get(keys);
  ASSERT_TRUE(r.ok) << r.error;
  ASSERT_EQ(r.values.size(), keys.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(r.values[2 * i], items[i].second);
    EXPECT_EQ(r.values[2 * i + 1], std::nullopt);
  }
  EXPECT_GT(r.took, 0);
  const auto none = redis.get({});
  EXPECT_TRUE(none.ok);
  EXPECT_TRUE(none.values.empty());
}

TEST_F(RealRedis, ItemsLiveAsLongAsTold) {
  redis_server server;
  auto o = client::options(server.port());
  o.ttl = 90 * second;
  client redis(o);
  ASSERT_TRUE(redis.connected().connected);
  redis->set({{"key", "value"}});
  ASSERT_TRUE(redis.wait_counters(stored(1)));
  const int left = std::stoi(server.command({"TTL", "key"}));
  EXPECT_GT(left, 60);
  EXPECT_LE(left, 90);
}

TEST_F(RealRedis, ExactlyOneAnswerEach) {
  redis_server server;
  auto o = client::options(server.port());
  o.max_waiting = 1'000'000;
  client redis(o);
  ASSERT_TRUE(redis.connected().connected);
  constexpr int threads = 4;
  constexpr int each = 2'000;
  std::vector<std::pair<std::string, std::string>> items;
  for (int i = 0; i < each; i += 2) items.emplace_back(std::to_string(i), "v" + std::to_string(i));
  redis->set(items);
  ASSERT_TRUE(redis.wait_counters(stored(items.size())));
  std::atomic<int> right = 0;
  std::atomic<int> calls = 0;
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([&] {
      for (int i = 0; i < each; ++i) {
        redis->get({std::to_string(i), "none"}, [&, i](const get_result& r) {
          ++calls;
          const auto want = i % 2 ? std::nullopt : std::optional<std::string>("v" + std::to_string(i));
          right += r.ok && r.values.size() == 2 && r.values[0] == want && !r.values[1] ? 1 : 0;
        });
      }
    });
  for (auto& t : all) t.join();
  EXPECT_TRUE(redis.wait_counters([](const auto& c) { return c.answered >= threads * each; }));
  redis->close();
  EXPECT_EQ(right, threads * each);
  EXPECT_EQ(calls, threads * each);
}

TEST_F(RealRedis, LookUpsOvertakeStores) {
  redis_server server;
  auto o = client::options(server.port());
  client redis(o);
  ASSERT_TRUE(redis.connected().connected);
  constexpr std::uint64_t many = 50'000;
  bool overtook = false;
  for (int attempt = 0; attempt < 10 && !overtook; ++attempt) {  // unless this thread was held up for long
    std::vector<std::pair<std::string, std::string>> items;
    for (std::uint64_t i = 0; i < many; ++i) items.emplace_back(std::to_string(i), "value");
    const auto before = redis->counters().stored;
    redis->set(std::move(items));
    ASSERT_TRUE(redis.get({"1"}).ok);
    overtook = redis->counters().stored < before + many / 2;
    ASSERT_TRUE(redis.wait_counters(stored(before + many)));
  }
  EXPECT_TRUE(overtook);
  EXPECT_EQ(server.command({"DBSIZE"}), std::to_string(many));
}

TEST_F(RealRedis, AFrozenOneCostsTheBudgetAndNoMore) {
  redis_server server;
  auto o = client::options(server.port());
  o.budget = second;
  client redis(o);
  ASSERT_TRUE(redis.connected().connected);
  redis->set({{"key", "value"}});
  ASSERT_TRUE(redis.wait_counters(stored(1)));
  server.freeze();
  redis.ask({"key"});
  redis.ask({"key"});
  for (const auto& r : redis.take(2)) {
    EXPECT_FALSE(r.ok);
    EXPECT_TRUE(r.timed_out);
    EXPECT_GE(r.took, o.budget);
    EXPECT_LT(r.took, 60 * second);
    EXPECT_TRUE(r.values.empty());
    EXPECT_EQ(r.error, "no answer within redis.timeout");
  }
  EXPECT_THAT(
      redis.wait_status([](const auto& n) { return n.reason.find("ms") != std::string::npos; }).reason,
      HasSubstr("no answer for 4000 ms"));
  const auto refused = redis.get({"key"});  // known to be stuck: not even the budget
  EXPECT_FALSE(refused.ok);
  EXPECT_FALSE(refused.timed_out);
  server.thaw();
  ASSERT_TRUE(redis.connected().connected);
  EXPECT_TRUE(redis.get({"key"}).ok);
  EXPECT_EQ(redis.answers(), 4U);  // the late answers were not passed on
  EXPECT_EQ(redis->counters().timed_out, 2U);
  EXPECT_EQ(redis->counters().disconnects, 0U);
}

TEST_F(RealRedis, AFrozenOneIsGivenUpAndFoundAgain) {
  redis_server server;
  auto o = client::options(server.port());
  o.budget = 20 * ms;
  o.connect_timeout = 300 * ms;
  client redis(o);
  ASSERT_TRUE(redis.connected().connected);
  server.freeze();
  EXPECT_TRUE(redis.get({"key"}).timed_out);
  EXPECT_TRUE(redis.wait_logged("no answer for 300 ms, connecting anew"));
  // Its kernel still accepts for it.
  EXPECT_THAT(
      redis.wait_status([](const auto& s) { return s.reason.find("connected, but") != std::string::npos; })
          .reason,
      HasSubstr("no answer within redis.connect_timeout"));
  server.thaw();
  EXPECT_TRUE(redis.connected().connected);
  EXPECT_EQ(redis->counters().disconnects, 1U);
}

TEST_F(RealRedis, WhatWaitsIsBounded) {
  redis_server server;
  auto o = client::options(server.port());
  o.budget = 3600 * second;
  o.max_waiting = 4;
  o.max_waiting_bytes = 100'000;
  client redis(o);
  ASSERT_TRUE(redis.connected().connected);
  server.freeze();
  const std::string value(10'000, 'v');
  for (int i = 0; i < 1'000; ++i) redis->set({{"key", value}});
  EXPECT_GE(redis->counters().dropped, 990U);
  EXPECT_FALSE(redis.get({std::string(90'000, 'k')}).ok);  // too many bytes
  for (int i = 0; i < 4; ++i) redis.ask({"key"});
  const auto r = redis.get({"key"});  // the fifth
  EXPECT_FALSE(r.ok);
  EXPECT_FALSE(r.timed_out);
  EXPECT_THAT(r.error, HasSubstr("too many look-ups wait"));
  EXPECT_EQ(redis->counters().refused, 2U);
  server.thaw();
  for (const auto& late : redis.take(4)) EXPECT_TRUE(late.ok) << late.error;
  EXPECT_TRUE(redis.wait_counters([](const auto& c) { return c.stored + c.dropped == 1'000; }));
  EXPECT_TRUE(redis.get({std::string(90'000, 'k')}).ok);  // all is given back
}

TEST_F(RealRedis, LookUpsUnderWayEndWhenItDies) {
  redis_server server;
  client redis(client::options(server.port()));
  ASSERT_TRUE(redis.connected().connected);
  server.freeze();
  for (int i = 0; i < 10; ++i) redis.ask({"key"});
  redis->set({{"key", "value"}});
  EXPECT_TRUE(redis.wait_counters([](const auto& c) { return c.refused + c.failed == 0; }));
  server.kill();
  for (const auto& r : redis.take(10)) {
    EXPECT_FALSE(r.ok);
    EXPECT_FALSE(r.timed_out);
    EXPECT_FALSE(r.error.empty());
  }
  EXPECT_FALSE(redis.not_connected().connected);
  const auto down = redis.get({"key"});
  EXPECT_FALSE(down.ok);
  EXPECT_LT(down.took, 60 * second);
  EXPECT_THAT(
      redis.wait_status([](const auto& s) { return s.reason.find("refused") != std::string::npos; }).reason,
      HasSubstr("Connection refused"));
  redis->set({{"key", "value"}});
  EXPECT_TRUE(redis.wait_counters([](const auto& c) { return c.dropped == 2; }));
  server.start();
  EXPECT_TRUE(redis.connected().connected);
  EXPECT_TRUE(redis.get({"key"}).ok);
  EXPECT_EQ(redis->counters().connects, 2U);
}

TEST(RealConnections, NobodyListens) {
  client redis(client::options(free_port()));
  EXPECT_THAT(redis.not_connected().reason, HasSubstr("Connection refused"));
  const auto r = redis.get({"key"});
  EXPECT_FALSE(r.ok);
  EXPECT_FALSE(r.timed_out);
  EXPECT_THAT(r.error, HasSubstr("Connection refused"));
  redis->set({{"a", "b"}, {"c", "d"}});
  EXPECT_EQ(redis->counters().dropped, 2U);
}

TEST(RealConnections, NobodyAnswersTheHandshake) {
  // A queue that is full: the kernel ignores who comes next.
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t n = sizeof a;
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&a), n), 0);
  ASSERT_EQ(::listen(listener, 0), 0);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&a), &n);
  std::vector<int> fillers;
  bool full = false;
  while (!full && fillers.size() < 16) {
    fillers.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ::connect(fillers.back(), reinterpret_cast<sockaddr*>(&a), n);
    pollfd p{fillers.back(), POLLOUT, 0};
    full = ::poll(&p, 1, 100) == 0;
  }
  ASSERT_TRUE(full);
  auto o = client::options(ntohs(a.sin_port));
  o.connect_timeout = 100 * ms;
  client redis(o);
  const nanos before = steady_now();
  EXPECT_FALSE(redis.get({"key"}).ok);  // not connected: no reason to wait
  EXPECT_LT(steady_now() - before, 60 * second);
  EXPECT_THAT(redis.not_connected().reason, HasSubstr("no connection within redis.connect_timeout"));
  for (const int fd : fillers) ::close(fd);
  ::close(listener);
}

TEST(RealConnections, NobodyAnswersTheGreeting) {
  scripted_server server([](int fd, int) {
    while (!scripted_server::receive(fd).empty()) {
    }
  });
  auto o = client::options(server.port());
  o.connect_timeout = 100 * ms;
  client redis(o);
  EXPECT_THAT(redis.not_connected().reason,
              HasSubstr("connected, but no answer within redis.connect_timeout"));
  EXPECT_TRUE(server.wait_connections(3, 20 * second));
}

TEST(RealConnections, ANameThatDoesNotExist) {
  auto o = client::options(6379);
  o.host = "redis.invalid";  // RFC 2606: never resolves
  o.connect_timeout = 200 * ms;
  client redis(o);
  const auto r = redis.get({"key"});
  EXPECT_FALSE(r.ok);
  EXPECT_THAT(redis.not_connected().reason, AnyOf(HasSubstr("redis.invalid:6379: cannot resolve the name"),
                                                  HasSubstr("name is not resolved")));
}

TEST_F(RealRedis, ANameThatExists) {
  redis_server server;
  auto o = client::options(server.port());
  o.host = "localhost";
  client redis(o);
  EXPECT_TRUE(redis.connected().connected) << redis->status().reason;
}

TEST_F(RealRedis, Passwords) {
  redis_server server({"--requirepass", "secret word"});
  auto o = client::options(server.port());
  {
    client redis(o);
    EXPECT_THAT(redis.fatal().reason, HasSubstr("a password is needed (redis.password): NOAUTH"));
    EXPECT_FALSE(redis.get({"key"}).ok);
  }
  o.password = "wrong";
  o.reconnect_fatal = 50 * ms;
  {
    client redis(o);
    EXPECT_THAT(redis.fatal().reason, HasSubstr("redis.password are refused: WRONGPASS"));
    EXPECT_TRUE(redis.wait_logged("WRONGPASS"));
    // Someone mends it.
    server.command({"CONFIG", "SET", "requirepass", "wrong"}, "secret word");
    EXPECT_TRUE(redis.connected().connected);
    server.command({"CONFIG", "SET", "requirepass", "secret word"}, "wrong");
  }
  o.password = "secret word";
  client redis(o);
  EXPECT_TRUE(redis.connected().connected);
  EXPECT_TRUE(redis.get({"key"}).ok);
}

TEST_F(RealRedis, UsersAndTheirRights) {
  redis_server server;
  ASSERT_EQ(server.command({"ACL", "SETUSER", "troupe", "on", ">secret", "~*", "+ping", "+mget", "+setex"}),
            "OK");
  ASSERT_EQ(server.command({"ACL", "SETUSER", "reader", "on", ">secret", "~*", "+ping", "+mget"}), "OK");
  auto o = client::options(server.port());
  o.user = "troupe";
  o.password = "secret";
  {
    client redis(o);
    ASSERT_TRUE(redis.connected().connected);
    redis->set({{"key", "value"}});
    EXPECT_TRUE(redis.wait_counters(stored(1)));
  }
  o.user = "reader";
  {
    client redis(o);
    ASSERT_TRUE(redis.connected().connected);
    redis->set({{"key", "other"}});
    EXPECT_TRUE(redis.wait_counters([](const auto& c) { return c.rejected == 1; }));
    EXPECT_EQ(redis.get({"key"}).values.at(0), "value");
  }
  o.user = "nobody";
  client redis(o);
  EXPECT_THAT(redis.fatal().reason, HasSubstr("WRONGPASS"));
}

TEST_F(RealRedis, DatabasesAreApart) {
  redis_server server;
  auto o = client::options(server.port());
  o.db = 3;
  {
    client redis(o);
    ASSERT_TRUE(redis.connected().connected);
    redis->set({{"key", "value"}});
    EXPECT_TRUE(redis.wait_counters(stored(1)));
    EXPECT_EQ(server.command({"GET", "key"}), "(nil)");
    EXPECT_EQ(redis.get({"key"}).values.at(0), "value");
  }
  o.db = 99;
  client redis(o);
  EXPECT_THAT(redis.fatal().reason, HasSubstr("redis.db 99: ERR DB index is out of range"));
}

TEST_F(RealRedis, AFullOneRejectsItemsAndAnswers) {
  redis_server server({"--maxmemory", "1", "--maxmemory-policy", "noeviction"});
  client redis(client::options(server.port()));
  ASSERT_TRUE(redis.connected().connected);
  redis->set({{"a", "1"}, {"b", "2"}});
  EXPECT_TRUE(redis.wait_counters([](const auto& c) { return c.rejected == 2; }));
  EXPECT_THAT(redis.logged(), Contains(HasSubstr("Redis does not store: OOM")).Times(1));
  EXPECT_TRUE(redis.get({"a"}).ok);
}

TEST_F(RealRedis, AReplicaRejectsItems) {
  redis_server server;
  ASSERT_EQ(server.command({"REPLICAOF", "127.0.0.1", std::to_string(free_port())}), "OK");
  client redis(client::options(server.port()));
  ASSERT_TRUE(redis.connected().connected);
  redis->set({{"a", "1"}});
  EXPECT_TRUE(redis.wait_counters([](const auto& c) { return c.rejected == 1; }));
  EXPECT_THAT(redis.logged(), Contains(HasSubstr("READONLY")));
}

TEST_F(RealRedis, CloseEndsWhatIsUnderWay) {
  redis_server server;
  client redis(client::options(server.port()));
  ASSERT_TRUE(redis.connected().connected);
  server.freeze();
  for (int i = 0; i < 10; ++i) redis.ask({"key"});
  redis->set({{"key", "value"}});
  redis->close();
  EXPECT_EQ(redis.answers(), 10U);
  for (const auto& r : redis.take(10)) EXPECT_THAT(r.error, HasSubstr("the cache was closed"));
  redis.ask({"key"});
  redis->set({{"key", "value"}});
  redis->close();
  EXPECT_EQ(redis.answers(), 10U);
  EXPECT_FALSE(redis->status().connected);
  EXPECT_EQ(redis->counters().dropped, 2U);
}

TEST_F(RealRedis, NoAnswerAfterClose) {
  redis_server server;
  for (int round = 0; round < 20; ++round) {
    client redis(client::options(server.port()));
    if (round % 2) {
      ASSERT_TRUE(redis.connected().connected);
    }
    std::atomic<bool> closed = false;
    std::atomic<int> late = 0;
    std::atomic<int> asked = 0;
    std::vector<std::thread> all;
    for (int t = 0; t < 2; ++t)
      all.emplace_back([&] {
        for (int i = 0; i < 200; ++i) {
          redis->get({"key"}, [&](const get_result&) { late += closed ? 1 : 0; });
          redis->set({{"key", "value"}});
          ++asked;
          asked.notify_all();
        }
      });
    for (int n = asked; n < 20 * round; n = asked) asked.wait(n);
    std::thread other([&] { redis->close(); });
    redis->close();
    closed = true;
    other.join();
    for (auto& t : all) t.join();
    EXPECT_EQ(late, 0);
  }
}

TEST_F(RealRedis, ACallbackMayAskAgain) {
  redis_server server;
  client redis(client::options(server.port()));
  ASSERT_TRUE(redis.connected().connected);
  std::atomic<int> left = 100;
  std::function<void(get_result)> again = [&](const get_result& r) {
    EXPECT_TRUE(r.ok);
    if (--left > 0)
      redis->get({"key"}, again);
    else
      redis.ask({"key"});
  };
  redis->get({"key"}, again);
  EXPECT_TRUE(redis.take(1)[0].ok);
  redis->close();
}

/// Two authorities; the first signed the server's and a client's certificate.
class RealRedisTls : public RealRedis {
 protected:
  void SetUp() override {
    RealRedis::SetUp();
    if (IsSkipped()) return;
    if (!installed("openssl"))
      GTEST_SKIP() << "the openssl program is not installed: apt-get install openssl";
    for (const std::string ca : {"ca", "other"})
      run({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
           "-days", "2", "-subj", "/CN=" + ca, "-keyout", file(ca + ".key"), "-out", file(ca + ".pem")});
    for (const std::string who : {"server", "client"}) {
      run({"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
           "/CN=" + who, "-keyout", file(who + ".key"), "-out", file(who + ".csr")});
      std::ofstream(file(who + ".ext")) << "subjectAltName=IP:127.0.0.1,DNS:redis.example\n";
      run({"openssl", "x509", "-req", "-in", file(who + ".csr"), "-CA", file("ca.pem"), "-CAkey",
           file("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", file(who + ".ext"), "-out",
           file(who + ".pem")});
    }
  }
  [[nodiscard]] std::string file(const std::string& name) const { return directory_ / name; }
  [[nodiscard]] std::vector<std::string> server_options(const std::string& clients) const {
    return {"--tls-cert-file",    file("server.pem"), "--tls-key-file",     file("server.key"),
            "--tls-ca-cert-file", file("ca.pem"),     "--tls-auth-clients", clients};
  }
  [[nodiscard]] redis_options options(int port) const {
    auto o = client::options(port);
    o.tls = true;
    o.tls_ca = file("ca.pem");
    return o;
  }

 private:
  temporary_directory directory_;
};

TEST_F(RealRedisTls, KeepsAndAnswers) {
  redis_server server(server_options("no"), true);
  client redis(options(server.port()));
  ASSERT_TRUE(redis.connected().connected) << redis->status().reason;
  std::mt19937_64 random(7);
  const std::string large = any_bytes(random, 3'000'000);
  redis->set({{"key", "value"}, {"large", large}});
  ASSERT_TRUE(redis.wait_counters(stored(2)));
  const auto r = redis.get({"key", "none", "large"});
  ASSERT_TRUE(r.ok) << r.error;
  EXPECT_EQ(r.values[0], "value");
  EXPECT_EQ(r.values[1], std::nullopt);
  EXPECT_EQ(r.values[2], large);
  server.kill();
  EXPECT_FALSE(redis.not_connected().connected);
  server.start();
  EXPECT_TRUE(redis.connected().connected);
  EXPECT_TRUE(redis.get({"key"}).ok);
}

TEST_F(RealRedisTls, AnotherAuthority) {
  redis_server server(server_options("no"), true);
  auto o = options(server.port());
  o.tls_ca = file("other.pem");
  client redis(o);
  const auto s = redis.fatal();
  EXPECT_TRUE(s.fatal);
  EXPECT_THAT(s.reason, HasSubstr("the certificate of Redis is not trusted (redis.tls_ca): "));
  EXPECT_FALSE(redis.get({"key"}).ok);
  EXPECT_EQ(redis->counters().connects, 0U);
}

TEST_F(RealRedisTls, TheSystemsAuthorities) {
  redis_server server(server_options("no"), true);
  auto o = options(server.port());
  o.tls_ca.clear();
  client redis(o);
  EXPECT_THAT(redis.fatal().reason, HasSubstr("is not trusted"));
}

TEST_F(RealRedisTls, TheCertificateNamesTheServer) {
  redis_server server(server_options("no"), true);
  auto o = options(server.port());
  o.tls_server_name = "other.example";
  {
    client redis(o);
    EXPECT_THAT(redis.fatal().reason, HasSubstr("ostname mismatch"));
  }
  o.tls_server_name = "redis.example";
  client redis(o);
  EXPECT_TRUE(redis.connected().connected) << redis->status().reason;
}

TEST_F(RealRedisTls, ClientCertificates) {
  redis_server server(server_options("yes"), true);
  auto o = options(server.port());
  {
    client redis(o);
    EXPECT_THAT(redis.not_connected().reason, HasSubstr("certificate"));
  }
  {
    auto words = server_options("yes");
    words.insert(words.end(), {"--tls-protocols", "TLSv1.2"});  // where the refusal is part of the handshake
    redis_server strict(words, true);
    client redis(options(strict.port()));
    const auto s = redis.fatal();
    EXPECT_TRUE(s.fatal);
    EXPECT_THAT(s.reason, HasSubstr("TLS: "));
  }
  o.tls_cert = file("client.pem");
  o.tls_key = file("client.key");
  client redis(o);
  EXPECT_TRUE(redis.connected().connected) << redis->status().reason;
}

TEST_F(RealRedisTls, OnlyOneSideSpeaksIt) {
  redis_server plain;  // takes it for a command that is not complete yet
  auto o = options(plain.port());
  o.connect_timeout = 300 * ms;
  client secret(o);
  EXPECT_FALSE(secret.not_connected().connected);
  EXPECT_FALSE(secret.get({"key"}).ok);
  redis_server server(server_options("no"), true);
  client open(client::options(server.port()));
  EXPECT_FALSE(open.not_connected().connected);
  EXPECT_FALSE(open->status().reason.empty());
}

TEST_F(RealRedisTls, FilesThatDoNotWork) {
  struct {
    std::string redis_options::*field;
    std::string name;
  } const table[] = {{&redis_options::tls_ca, "redis.tls_ca"},
                     {&redis_options::tls_cert, "redis.tls_cert"},
                     {&redis_options::tls_key, "redis.tls_key"}};
  std::ofstream(file("garbage.pem")) << "not a certificate\n";
  for (const auto& row : table)
    for (const std::string bad : {"missing.pem", "garbage.pem"}) {
      auto o = options(1);
      o.tls_cert = file("client.pem");
      o.tls_key = file("client.key");
      o.*row.field = file(bad);
      try {
        const auto cache = make_redis(o);
        ADD_FAILURE() << row.name << " " << bad;
      } catch (const std::runtime_error& e) {
        EXPECT_THAT(e.what(), HasSubstr(row.name + " " + file(bad) + ": "));
      }
    }
}

}  // namespace
}  // namespace troupe::store
