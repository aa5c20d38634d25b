// Keys of tokens from a file and from an address.
#include "runtime/guard/token_keys.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>

#include "tests/runtime/guard/tokens.hpp"

namespace {

using namespace troupe::guard;
using namespace std::chrono_literals;
using ::testing::HasSubstr;
using troupe::guard::testing::set_of;
using troupe::guard::testing::signer;

/// Answers every connection with what it was told to.
class little_server {
 public:
  little_server() {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof a;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&a), size) != 0 || ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&a), &size) != 0)
      throw std::runtime_error("no port");
    port_ = ntohs(a.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~little_server() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/keys"; }
  void answer(int status, std::string body) {
    const std::lock_guard lock(mutex_);
    text_ = "HTTP/1.1 " + std::to_string(status) +
            " X\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  int asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  void serve() {
    for (;;) {
      const int one = ::accept(listener_, nullptr, nullptr);
      if (one < 0) return;
      char buffer[4096];
      (void)!::read(one, buffer, sizeof buffer);
      std::string text;
      {
        const std::lock_guard lock(mutex_);
        text = text_;
        ++asked_;
      }
      (void)!::send(one, text.data(), text.size(), MSG_NOSIGNAL);
      ::close(one);
    }
  }
  int listener_ = -1, port_ = 0;
  std::mutex mutex_;
  std::string text_ = "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n";
  int asked_ = 0;
  std::thread thread_;
};

struct told {
  std::mutex mutex;
  std::condition_variable changed;
  int sets = 0;
  std::vector<std::string> problems;

  token_keys_options options() {
    token_keys_options o;
    o.refresh = 20ms;
    o.least_pause = 1ms;
    o.found = [this](std::shared_ptr<const key_set>) {
      const std::lock_guard lock(mutex);
      ++sets;
      changed.notify_all();
    };
    o.problem = [this](const std::string& why) {
      const std::lock_guard lock(mutex);
      problems.push_back(why);
      changed.notify_all();
    };
    return o;
  }
  template <class F>
  bool wait(F good) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 30s, good);
  }
};

signer& key() {
  static signer one(signer::kind::ec, "e1");
  return one;
}

TEST(token_keys, of_an_address_are_had_again_and_kept_on_failure) {
  little_server server;
  told t;
  auto o = t.options();
  o.url = server.url();
  token_keys keys(o);
  ASSERT_TRUE(t.wait([&] { return t.problems.size() == 1; }));
  EXPECT_THAT(t.problems[0], HasSubstr("status 500"));
  server.answer(200, set_of(key().jwk()));
  ASSERT_TRUE(t.wait([&] { return t.sets == 1 && t.problems.size() == 2; }));
  EXPECT_EQ(t.problems[1], "") << "all is well";
  server.answer(200, "<html>");
  ASSERT_TRUE(t.wait([&] { return t.problems.size() == 3; }));
  EXPECT_THAT(t.problems[2], HasSubstr("no JWK set"));
  EXPECT_EQ(t.sets, 1) << "nothing replaces what was had";
  signer next(signer::kind::ec, "e2");
  server.answer(200, set_of(key().jwk() + "," + next.jwk()));
  ASSERT_TRUE(t.wait([&] { return t.sets == 2; }));
  server.answer(302, "");
  ASSERT_TRUE(t.wait([&] { return t.problems.size() == 5; }));
  EXPECT_THAT(t.problems[4], HasSubstr("status 302"));
  server.answer(200, std::string(most_key_set + 10, ' '));
  ASSERT_TRUE(t.wait([&] { return t.problems.size() == 6; }));
  EXPECT_THAT(t.problems[5], HasSubstr("1 MiB"));
}

TEST(token_keys, are_looked_for_soon_when_one_is_unknown) {
  little_server server;
  server.answer(200, set_of(key().jwk()));
  told t;
  auto o = t.options();
  o.url = server.url();
  o.refresh = 1h;
  token_keys keys(o);
  ASSERT_TRUE(t.wait([&] { return t.sets == 1; }));
  signer next(signer::kind::ec, "e2");
  server.answer(200, set_of(next.jwk()));
  for (int i = 0; i < 1'000; ++i) keys.look_soon();
  ASSERT_TRUE(t.wait([&] { return t.sets == 2; }));
  EXPECT_LE(server.asked(), 4) << "a thousand unknown keys are few looks";
}

TEST(token_keys, end_at_once_while_nobody_answers) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&a), size), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&a), &size);
  told t;
  auto o = t.options();
  o.url = "http://127.0.0.1:" + std::to_string(ntohs(a.sin_port)) + "/";
  o.timeout = std::chrono::hours(1);
  { token_keys keys(o); }
  ::close(listener);
}

TEST(token_keys, of_a_file_follow_it) {
  const auto path = std::filesystem::temp_directory_path() / ("troupe-jwks-" + std::to_string(::getpid()));
  const auto write = [&](const std::string& text) {
    std::ofstream(path.string() + ".new") << text;
    std::filesystem::rename(path.string() + ".new", path);
  };
  told t;
  auto o = t.options();
  o.file = path.string();
  EXPECT_THROW(token_keys{o}, key_set_error) << "there is no file";
  write("{}");
  EXPECT_THROW(token_keys{o}, key_set_error);
  write(set_of(key().jwk()));
  {
    token_keys keys(o);
    EXPECT_EQ(t.sets, 1) << "before the constructor returns";
    signer next(signer::kind::rsa, "r2");
    write(set_of(next.jwk()));
    keys.look_now();
    ASSERT_TRUE(t.wait([&] { return t.sets == 2; }));
    write("oops");
    ASSERT_TRUE(t.wait([&] { return !t.problems.empty(); }));
    EXPECT_EQ(t.sets, 2);
  }
  EXPECT_EQ(look_once([&] {
              write(set_of(key().jwk()));
              return o;
            }())
                ->size(),
            1U);
  std::filesystem::remove(path);
}

}  // namespace
