// The servers that bench/http_front compares; run.py starts them one after another and drives them.
//   bench_http_front beast|front|front_threaded [--threads N]
// Prints its port, and serves until its standard input ends.
//   beast           an asynchronous Boost.Beast server as its examples are written: a constant
//   front           runtime/http/front, the same constant from the I/O thread
//   front_threaded  the same from one other thread, the requests of a turn handed over together

#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/http/front.hpp"

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using tcp = asio::ip::tcp;
using error_code = boost::system::error_code;

const std::string constant = R"({"model_name":"iris","outputs":[{"name":"probabilities","datatype":"FP32",)"
                             R"("shape":[1,3],"data":[0.9,0.08,0.02]}]})";

class session : public std::enable_shared_from_this<session> {
 public:
  explicit session(tcp::socket socket) : stream_(std::move(socket)) {}

  void read() {
    request_ = {};
    stream_.expires_after(std::chrono::seconds(30));
    wire::async_read(stream_, buffer_, request_, [self = shared_from_this()](error_code e, std::size_t) {
      if (!e) self->answer();
    });
  }

 private:
  void answer() {
    response_ = {};
    response_.version(request_.version());
    response_.result(wire::status::ok);
    response_.set(wire::field::server, "beast");
    response_.set(wire::field::content_type, "application/json");
    response_.keep_alive(request_.keep_alive());
    response_.body() = constant;
    response_.prepare_payload();
    wire::async_write(stream_, response_, [self = shared_from_this()](error_code e, std::size_t) {
      if (!e && self->response_.keep_alive()) self->read();
    });
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  wire::request<wire::string_body> request_;
  wire::response<wire::string_body> response_;
};

class beast_server {
 public:
  beast_server() : acceptor_(io_, tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0)) {
    accept();
    thread_ = std::thread([this] { io_.run(); });
  }
  ~beast_server() {
    io_.stop();
    thread_.join();
  }
  [[nodiscard]] int port() const { return acceptor_.local_endpoint().port(); }

 private:
  void accept() {
    acceptor_.async_accept([this](error_code e, tcp::socket socket) {
      if (e) return;
      socket.set_option(tcp::no_delay(true));
      std::make_shared<session>(std::move(socket))->read();
      accept();
    });
  }
  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  std::thread thread_;
};

troupe::http::response answer() {
  troupe::http::response r;
  r.body = constant;
  return r;
}

/// Answers what is handed to it, all that is there at once.
class desk {
 public:
  desk() : thread_([this] { work(); }) {}
  ~desk() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    came_.notify_one();
    thread_.join();
  }
  void take(troupe::http::exchange_ptr e) { turn_.push_back(std::move(e)); }
  void turn_over() {
    bool first = false;
    {
      const std::lock_guard lock(mutex_);
      first = waiting_.empty();
      for (auto& e : turn_) waiting_.push_back(std::move(e));
    }
    turn_.clear();
    if (first) came_.notify_one();
  }

 private:
  void work() {
    std::vector<troupe::http::exchange_ptr> now;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        came_.wait(lock, [this] { return ended_ || !waiting_.empty(); });
        if (ended_) return;
        now.swap(waiting_);
      }
      for (auto& e : now) e->reply(answer());
      now.clear();
    }
  }
  std::vector<troupe::http::exchange_ptr> turn_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<troupe::http::exchange_ptr> waiting_;
  bool ended_ = false;
  std::thread thread_;
};

void serve_until_input_ends(int port) {
  std::printf("%d\n", port);
  std::fflush(stdout);
  char byte = 0;
  while (::read(0, &byte, 1) > 0) {
  }
}

}  // namespace

int main(int count, char** arguments) {
  const std::string kind = count > 1 ? arguments[1] : "";
  troupe::http::front_options options;
  options.bind = "127.0.0.1";
  if (count == 4 && std::string(arguments[2]) == "--threads")
    options.threads = static_cast<std::size_t>(std::stoul(arguments[3]));
  if (kind == "beast") {
    const beast_server server;
    serve_until_input_ends(server.port());
  } else if (kind == "front") {
    troupe::http::front server(options);
    server.start([](std::size_t, troupe::http::exchange_ptr e) { e->reply(answer()); }, [](std::size_t) {});
    serve_until_input_ends(server.port());
  } else if (kind == "front_threaded") {
    std::vector<std::unique_ptr<desk>> desks;
    for (std::size_t i = 0; i < options.threads; ++i) desks.push_back(std::make_unique<desk>());
    troupe::http::front server(options);
    server.start([&](std::size_t t, troupe::http::exchange_ptr e) { desks[t]->take(std::move(e)); },
                 [&](std::size_t t) { desks[t]->turn_over(); });
    serve_until_input_ends(server.port());
    server.stop();
  } else {
    std::fprintf(stderr, "usage: bench_http_front beast|front|front_threaded [--threads N]\n");
    return 2;
  }
}
