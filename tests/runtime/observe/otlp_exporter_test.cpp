// The exporter against receivers that answer, refuse, lie, hang and are gone.
#include "runtime/observe/otlp_exporter.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace troupe::observe {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

struct request {
  std::string head;
  std::string body;
  [[nodiscard]] std::size_t spans() const {
    const auto j = nlohmann::json::parse(body);
    return j["resourceSpans"][0]["scopeSpans"][0]["spans"].size();
  }
};

/// Answers each request as a function of it says, byte for byte; empty: never.
class receiver {
 public:
  using script = std::function<std::string(std::size_t number)>;
  explicit receiver(script s) : script_(std::move(s)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof a;
    ::bind(listener_, reinterpret_cast<sockaddr*>(&a), size);
    ::listen(listener_, 16);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&a), &size);
    port_ = ntohs(a.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~receiver() {
    ends_ = true;
    thread_.join();
    for (const int fd : hanging_) ::close(fd);
    ::close(listener_);
  }
  receiver(const receiver&) = delete;
  receiver& operator=(const receiver&) = delete;

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  /// The first n requests.
  std::vector<request> wait(std::size_t n) {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, std::chrono::seconds(20), [&] { return requests_.size() >= n; });
    EXPECT_GE(requests_.size(), n);
    return requests_;
  }

  static std::string answer(int status, const std::string& body = "{}", const std::string& more = {}) {
    return "HTTP/1.1 " + std::to_string(status) + " X\r\nConnection: close\r\n" + more +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }

 private:
  void run() {
    while (!ends_) {
      pollfd p{listener_, POLLIN, 0};
      if (::poll(&p, 1, 5) <= 0) continue;
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      request r;
      char c = 0;
      while (r.head.find("\r\n\r\n") == std::string::npos && ::recv(fd, &c, 1, 0) == 1) r.head += c;
      std::size_t length = 0;
      if (const auto at = r.head.find("Content-Length: "); at != std::string::npos)
        length = std::stoul(r.head.substr(at + 16));
      while (r.body.size() < length && ::recv(fd, &c, 1, 0) == 1) r.body += c;
      std::size_t number = 0;
      {
        const std::lock_guard lock(mutex_);
        number = requests_.size();
        requests_.push_back(std::move(r));
      }
      const std::string text = script_(number);
      came_.notify_all();
      if (text.empty()) {
        hanging_.push_back(fd);
        continue;
      }
      (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      ::close(fd);
    }
  }

  script script_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> ends_{false};
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<request> requests_;
  std::vector<int> hanging_;
  std::thread thread_;
};

span any_span() {
  span s;
  s.trace.fill(1);
  s.id = 2;
  s.name = "x";
  return s;
}

struct exporting {
  explicit exporting(const std::string& url) {
    options.url = otlp_traces_url(url);
    options.interval = milliseconds(5);
    options.first_pause = milliseconds(1);
    options.longest_pause = milliseconds(4);
    options.last_words = std::chrono::minutes(1);
    options.metrics = metrics;
  }
  void begin() { to = std::make_unique<otlp_exporter>(options); }
  void put(int n) {
    for (int i = 0; i < n; ++i) to->put(any_span());
  }
  /// Of stop(): all is counted after it.
  std::size_t counted(const std::string& result) {
    const std::string name = "troupe_trace_spans_total{result=\"" + result + "\"} ";
    const std::string text = metrics->text();
    const auto at = text.find(name);
    return at == std::string::npos ? 0 : std::stoul(text.substr(at + name.size()));
  }
  otlp_options options;
  std::shared_ptr<observe::metrics> metrics = std::make_shared<observe::metrics>(metrics_options{});
  std::unique_ptr<otlp_exporter> to;
};

TEST(otlp_exporter, spans_arrive_in_batches_with_the_headers_asked_for) {
  receiver r([](std::size_t) { return receiver::answer(200); });
  exporting e(r.url() + "/");
  e.options.headers = otlp_headers("authorization=Basic%20abc%3D, x-scope = a");
  e.options.batch = 10;
  e.begin();
  e.put(25);
  e.to->stop();
  std::size_t all = 0;
  for (const auto& one : r.wait(3)) {
    EXPECT_LE(one.spans(), 10U);
    all += one.spans();
    EXPECT_THAT(one.head, HasSubstr("POST /v1/traces HTTP/1.1\r\n"));
    EXPECT_THAT(one.head, HasSubstr("Content-Type: application/json\r\n"));
    EXPECT_THAT(one.head, HasSubstr("authorization: Basic abc=\r\n"));
  }
  EXPECT_EQ(all, 25U);
  EXPECT_EQ(e.counted("exported"), 25U);
  e.put(1);
  EXPECT_EQ(e.counted("dropped"), 1U) << "after the end";
}

TEST(otlp_exporter, what_may_pass_is_tried_again_and_what_may_not_is_given_up) {
  struct row {
    int status;
    std::size_t requests;
    std::size_t exported;
  };
  // The second answer is 200.
  for (const row& x : std::vector<row>{{429, 2, 1},
                                       {502, 2, 1},
                                       {503, 2, 1},
                                       {504, 2, 1},
                                       {400, 1, 0},
                                       {401, 1, 0},
                                       {404, 1, 0},
                                       {500, 1, 0}}) {
    receiver r([&](std::size_t n) { return receiver::answer(n == 0 ? x.status : 200); });
    exporting e(r.url());
    e.begin();
    e.put(1);
    EXPECT_EQ(r.wait(x.requests).size(), x.requests);
    e.to->stop();
    EXPECT_EQ(e.counted("exported"), x.exported) << x.status;
    EXPECT_EQ(e.counted("failed"), 1 - x.exported) << x.status;
  }
}

TEST(otlp_exporter, attempts_end) {
  receiver r([](std::size_t) { return receiver::answer(503, "", "Retry-After: 1\r\n"); });
  exporting e(r.url());
  e.options.attempts = 3;
  e.begin();
  e.put(2);
  EXPECT_EQ(r.wait(3).size(), 3U);
  e.to->stop();
  EXPECT_EQ(e.counted("failed"), 2U);
}

TEST(otlp_exporter, spans_that_a_receiver_refuses_are_counted) {
  receiver r([](std::size_t) {
    return receiver::answer(200, R"({"partialSuccess":{"rejectedSpans":"2","errorMessage":"no room"}})");
  });
  exporting e(r.url());
  e.options.interval = std::chrono::hours(1);
  e.begin();
  e.put(5);
  e.to->stop();
  EXPECT_EQ(e.counted("exported"), 3U);
  EXPECT_EQ(e.counted("failed"), 2U);
}

TEST(otlp_exporter, a_receiver_that_hangs_costs_the_queue_and_nothing_else) {
  receiver r([](std::size_t) { return std::string(); });
  exporting e(r.url());
  e.options.queue = 50;
  e.options.timeout = std::chrono::hours(1);
  e.options.last_words = milliseconds(10);
  e.begin();
  e.put(1);
  (void)r.wait(1);  // the thread waits for its answer
  e.put(100);
  EXPECT_EQ(e.counted("dropped"), 50U) << "put() did not wait";
  e.to->stop();
  EXPECT_EQ(e.counted("dropped") + e.counted("failed"), 101U);
  EXPECT_EQ(e.counted("exported"), 0U);
}

TEST(otlp_exporter, nobody_there_and_nonsense_are_failures) {
  std::string url;
  {
    url = receiver([](std::size_t) { return std::string(); }).url();
  }  // closed again
  receiver liar([](std::size_t) { return std::string("SSH-2.0-OpenSSH\r\n"); });
  for (const std::string& at : {url, liar.url()}) {
    exporting e(at);
    e.options.attempts = 2;
    e.options.interval = std::chrono::hours(1);
    e.begin();
    e.put(3);
    e.to->stop();
    EXPECT_EQ(e.counted("failed") + e.counted("dropped"), 3U) << at;
    EXPECT_EQ(e.counted("exported"), 0U);
  }
}

TEST(otlp_fault, is_empty_where_a_request_without_spans_is_taken) {
  receiver there([](std::size_t) { return receiver::answer(200); });
  otlp_options o;
  o.url = there.url() + "/v1/traces";
  o.headers = {{"authorization", "Basic abc"}};
  EXPECT_EQ(otlp_fault(o), "");
  const auto all = there.wait(1);
  EXPECT_THAT(all[0].head, HasSubstr("POST /v1/traces "));
  EXPECT_THAT(all[0].head, HasSubstr("authorization: Basic abc"));
  EXPECT_EQ(all[0].spans(), 0U);
}

TEST(otlp_fault, says_what_is_wrong_and_does_not_ask_twice) {
  std::vector<std::string> answers = {receiver::answer(503), receiver::answer(401), receiver::answer(404),
                                      std::string("\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\xff\xff", 15), ""};
  receiver there([&](std::size_t number) { return answers.at(number); });
  otlp_options o;
  o.url = there.url();
  EXPECT_EQ(otlp_fault(o), "it answered with status 503");
  EXPECT_EQ(otlp_fault(o), "it answered with status 401: look at tracing.headers");
  EXPECT_EQ(otlp_fault(o), "it answered with status 404: what listens there takes no OTLP/HTTP");
  EXPECT_THAT(otlp_fault(o), HasSubstr("OTLP over gRPC (port 4317) is not spoken"));  // HTTP/2's SETTINGS
  o.timeout = milliseconds(50);
  EXPECT_THAT(otlp_fault(o), HasSubstr("timed out"));
  EXPECT_EQ(there.wait(5).size(), 5U);
  o.url = "http://127.0.0.1:1/v1/traces";
  EXPECT_THAT(otlp_fault(o), HasSubstr("Connection refused"));
}

TEST(otlp_exporter, endpoints) {
  EXPECT_EQ(otlp_traces_url("http://c:4318"), "http://c:4318/v1/traces");
  EXPECT_EQ(otlp_traces_url("http://c:4318/"), "http://c:4318/v1/traces");
  EXPECT_EQ(otlp_traces_url("https://c/otlp"), "https://c/otlp/v1/traces");
  EXPECT_EQ(otlp_traces_url("https://c/v1/traces"), "https://c/v1/traces");
  for (const char* bad :
       {"", "c:4318", "grpc://c:4317", "http://", "http://c d", "http://c?x=1", "http://c:99999"})
    EXPECT_THROW((void)otlp_traces_url(bad), std::invalid_argument) << bad;
}

TEST(otlp_exporter, headers) {
  using pairs = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(otlp_headers(""), pairs{});
  EXPECT_EQ(otlp_headers("a=1,b=2=3, c=%2C"), (pairs{{"a", "1"}, {"b", "2=3"}, {"c", ","}}));
  for (const char* bad : {"a", "=x", "a b=1", "a:=1", "a=%0d%0aevil: 1"}) {
    EXPECT_THROW((void)otlp_headers(bad), std::invalid_argument) << bad;
  }
}

}  // namespace
}  // namespace troupe::observe
