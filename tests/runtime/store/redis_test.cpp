// The second cache level against a real redis-server that the tests start on a free port.

#include "runtime/store/redis.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <future>
#include <mutex>
#include <thread>

namespace troupe::store {
namespace {

constexpr nanos ms = 1'000'000;

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a);
  socklen_t size = sizeof a;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&a), &size);
  ::close(fd);
  return ntohs(a.sin_port);
}

class server {
 public:
  explicit server(int port, const std::string& password = {}) {
    pid_ = ::fork();
    if (pid_ == 0) {
      const std::string p = std::to_string(port);
      const std::string dir = std::filesystem::temp_directory_path().string();
      std::vector<const char*> argv = {"redis-server", "--port", p.c_str(), "--bind", "127.0.0.1", "--save",     "",
                                       "--dir",        dir.c_str(), "--logfile", "/dev/null"};
      if (!password.empty()) argv.insert(argv.end(), {"--requirepass", password.c_str()});
      argv.push_back(nullptr);
      ::execvp("redis-server", const_cast<char* const*>(argv.data()));
      _exit(127);
    }
  }
  ~server() { end(SIGKILL); }
  void signal(int number) const { ::kill(pid_, number); }
  void end(int number) {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGCONT);
    ::kill(pid_, number);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
};

template <class F>
bool eventually(F f, std::chrono::seconds limit = std::chrono::seconds(20)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!f()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

redis_options options_for(int port) {
  redis_options o;
  o.host = "127.0.0.1";
  o.port = port;
  o.budget = 500 * ms;  // these tests are about order, not speed
  o.connect_timeout = 2000 * ms;
  o.reconnect_min = 10 * ms;
  o.reconnect_max = 50 * ms;
  return o;
}

get_result get(level2_cache& c, std::vector<std::string> keys) {
  std::promise<get_result> p;
  auto f = p.get_future();
  c.get(std::move(keys), [&p](get_result r) { p.set_value(std::move(r)); });
  return f.get();
}

class Redis : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v redis-server >/dev/null") != 0) GTEST_SKIP() << "redis-server is not installed";
  }
  int port = free_port();
};

TEST_F(Redis, KeepsBytesAndSaysWhatItDoesNotHave) {
  const server s(port);
  const auto c = make_redis(options_for(port));
  ASSERT_TRUE(eventually([&] { return c->status().connected; })) << c->status().reason;
  const std::string bytes("\0\r\n\xff", 4);
  c->set({{"a", bytes}, {std::string("k\0y", 3), "2"}});
  get_result r;
  ASSERT_TRUE(eventually([&] { return r = get(*c, {"a", "none", std::string("k\0y", 3)}), r.ok && r.values[0]; }));
  ASSERT_EQ(r.values.size(), 3U);
  EXPECT_EQ(r.values[0], bytes);
  EXPECT_FALSE(r.values[1]);
  EXPECT_EQ(r.values[2], "2");
  EXPECT_GT(r.took, 0);
}

TEST_F(Redis, AValueLivesAsLongAsItsTimeToLive) {
  const server s(port);
  auto o = options_for(port);
  o.ttl = 1'000 * ms;
  const auto c = make_redis(o);
  ASSERT_TRUE(eventually([&] { return c->status().connected; }));
  c->set({{"a", "1"}});
  ASSERT_TRUE(eventually([&] { return get(*c, {"a"}).values[0].has_value(); }));
  EXPECT_TRUE(eventually([&] {
    const auto r = get(*c, {"a"});
    return r.ok && !r.values[0];
  }));
}

TEST_F(Redis, ADeadOneFailsAtOnceAndIsFoundAgain) {
  const auto c = make_redis(options_for(port));
  ASSERT_TRUE(eventually([&] { return c->status().reason.find("refused") != std::string::npos; })) << c->status().reason;
  const auto r = get(*c, {"a"});
  EXPECT_FALSE(r.ok);
  EXPECT_FALSE(r.timed_out);
  EXPECT_NE(r.error.find("refused"), std::string::npos) << r.error;
  EXPECT_FALSE(c->status().fatal);
  server s(port);
  ASSERT_TRUE(eventually([&] { return get(*c, {"a"}).ok; }));
  EXPECT_TRUE(c->status().connected);
  s.end(SIGKILL);
  EXPECT_TRUE(eventually([&] { return !get(*c, {"a"}).ok && !c->status().connected; }));
}

TEST_F(Redis, AFrozenOneCostsTheBudgetAndNoMore) {
  server s(port);
  auto o = options_for(port);
  o.budget = 20 * ms;
  const auto c = make_redis(o);
  ASSERT_TRUE(eventually([&] { return get(*c, {"a"}).ok; }));
  s.signal(SIGSTOP);
  get_result r;
  // Whatever was on its way is answered; then nothing is.
  ASSERT_TRUE(eventually([&] { return r = get(*c, {"a"}), r.timed_out; }));
  EXPECT_FALSE(r.ok);
  EXPECT_GE(r.took, o.budget);
  EXPECT_NE(r.error.find("redis.timeout"), std::string::npos);
  EXPECT_FALSE(c->status().connected) << "degraded while it does not answer";
  s.signal(SIGCONT);
  EXPECT_TRUE(eventually([&] { return get(*c, {"a"}).ok && c->status().connected; }));
}

TEST_F(Redis, AWrongPasswordIsSaidAtOnce) {
  const server s(port, "right");
  auto o = options_for(port);
  o.password = "wrong";
  const auto wrong = make_redis(o);
  ASSERT_TRUE(eventually([&] { return wrong->status().fatal; })) << wrong->status().reason;
  EXPECT_NE(wrong->status().reason.find("WRONGPASS"), std::string::npos) << wrong->status().reason;
  o.password.clear();
  const auto none = make_redis(o);
  EXPECT_TRUE(eventually([&] { return none->status().fatal; })) << none->status().reason;
  o.password = "right";
  const auto right = make_redis(o);
  EXPECT_TRUE(eventually([&] { return get(*right, {"a"}).ok; })) << right->status().reason;
}

TEST_F(Redis, EveryLookUpIsAnsweredOnceUnderLossAndManyWait) {
  server s(port);
  auto o = options_for(port);
  o.max_waiting = 8;
  const auto c = make_redis(o);
  ASSERT_TRUE(eventually([&] { return c->status().connected; }));
  s.signal(SIGSTOP);
  std::mutex mutex;
  std::vector<int> answers(100);
  int all = 0;
  for (std::size_t i = 0; i < answers.size(); ++i)
    c->get({"k" + std::to_string(i)}, [&, i](const get_result&) {
      const std::lock_guard lock(mutex);
      ++answers[i];
      ++all;
    });
  s.end(SIGKILL);
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return all == 100;
  }));
  c->close();
  for (const int n : answers) EXPECT_EQ(n, 1);
}

TEST_F(Redis, NoCallAfterClose) {
  const server s(port);
  const auto c = make_redis(options_for(port));
  ASSERT_TRUE(eventually([&] { return c->status().connected; }));
  c->close();
  bool called = false;
  c->get({"a"}, [&](const get_result&) { called = true; });
  c->set({{"a", "1"}});
  c->close();
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace troupe::store
