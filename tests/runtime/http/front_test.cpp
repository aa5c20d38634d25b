#include "runtime/http/front.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/runtime/http/raw_client.hpp"

namespace troupe::http {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;
using testing_support::answer;
using testing_support::post;
using testing_support::raw_client;

constexpr const char* get = "GET /a HTTP/1.1\r\nHost: test\r\n\r\n";

front_options local() {
  front_options o;
  o.bind = "127.0.0.1";
  o.name = "http.port";
  return o;
}

/// What was asked, as the reply.
response echo(const request_view& r) {
  response out;
  out.content_type = "text/plain";
  out.body = std::string(r.method) + ' ' + std::string(r.path) + '?' + std::string(r.query) + ' ' +
             std::to_string(r.headers.size()) + ' ' + std::string(r.body);
  return out;
}

/// A front that echoes at once.
struct echoing {
  explicit echoing(front_options o = local()) : server(o) {
    server.start(
        [](std::size_t, exchange_ptr e) {
          const auto& r = e->request();
          e->reply(echo(r));
        },
        [](std::size_t) {});
  }
  front server;
};

/// A front whose requests wait for the test.
class holding {
 public:
  explicit holding(front_options o = local()) : server(std::make_unique<front>(o)) {
    server->start(
        [this](std::size_t, exchange_ptr e) {
          const std::lock_guard lock(mutex_);
          held_.push_back(std::move(e));
          came_.notify_all();
        },
        [this](std::size_t) { ++turns; });
  }
  ~holding() { server.reset(); }

  exchange_ptr next() {
    std::unique_lock lock(mutex_);
    if (!came_.wait_for(lock, 20s, [this] { return !held_.empty(); })) {
      ADD_FAILURE() << "no request came";
      return nullptr;
    }
    exchange_ptr one = std::move(held_.front());
    held_.pop_front();
    return one;
  }

  std::unique_ptr<front> server;
  std::atomic<int> turns{0};

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<exchange_ptr> held_;
};

/// Until `what` holds; fails the test after 20 s.
template <class Condition>
bool eventually(Condition what) {
  const auto end = std::chrono::steady_clock::now() + 20s;
  while (!what()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

response text(std::string body, int status = 200) {
  response r;
  r.status = status;
  r.content_type = "text/plain";
  r.body = std::move(body);
  return r;
}

TEST(front, answers_and_keeps_the_connection) {
  echoing f;
  raw_client c(f.server.port());
  for (int i = 0; i < 3; ++i) {
    c.send(post("/v2/models/a%20b/infer?x=1&y", "body" + std::to_string(i)));
    const answer a = c.next();
    EXPECT_EQ(a.status, 200);
    EXPECT_EQ(a.body, "POST /v2/models/a%20b/infer?x=1&y 2 body" + std::to_string(i));
    EXPECT_EQ(a.field("content-type"), "text/plain");
    EXPECT_EQ(a.field("connection"), "");
    EXPECT_THAT(a.field("date"), testing::EndsWith(" GMT"));
  }
}

TEST(front, pipelined_requests_are_answered_in_their_order) {
  echoing f;
  raw_client c(f.server.port());
  std::string all;
  for (int i = 0; i < 500; ++i)
    all += post("/" + std::to_string(i), std::string(static_cast<std::size_t>(i), 'x'));
  std::thread sender([&] { c.send(all); });
  for (int i = 0; i < 500; ++i) {
    const answer a = c.next();
    ASSERT_EQ(a.body, "POST /" + std::to_string(i) + "? 2 " + std::string(static_cast<std::size_t>(i), 'x'));
  }
  sender.join();
}

TEST(front, replies_come_later_and_from_another_thread) {
  holding f;
  std::vector<std::unique_ptr<raw_client>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<raw_client>(f.server->port()));
    clients.back()->send(post("/" + std::to_string(i), "b") + post("/second", "c"));
  }
  for (int i = 0; i < 40; ++i) {
    const exchange_ptr e = f.next();
    ASSERT_TRUE(e);
    e->reply(echo(e->request()));
    e->reply(text("a second reply is none", 500));
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(clients[static_cast<std::size_t>(i)]->next().body, "POST /" + std::to_string(i) + "? 2 b");
    EXPECT_EQ(clients[static_cast<std::size_t>(i)]->next().body, "POST /second? 2 c");
  }
  EXPECT_GT(f.turns, 0);
}

}  // namespace
}  // namespace troupe::http
