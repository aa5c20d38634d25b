#include "runtime/store/redis.hpp"

#include <hiredis/async.h>
#include <hiredis/hiredis_ssl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

namespace troupe::store {
namespace {

[[nodiscard]] nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class redis_cache;

/// One look-up on its way: answered by Redis or by the clock, whichever is first.
struct lookup {
  redis_cache* owner = nullptr;  // none once the connection is gone
  std::vector<std::string> keys;
  std::function<void(get_result)> done;
  nanos since = 0;
  nanos deadline = 0;
  bool answered = false;
};
using lookup_ptr = std::shared_ptr<lookup>;

class redis_cache final : public level2_cache {
 public:
  explicit redis_cache(redis_options o) : options_(std::move(o)), backoff_(options_.reconnect_min) {
    if (options_.tls) {
      redisInitOpenSSL();
      redisSSLContextError error = REDIS_SSL_CTX_NONE;
      tls_ = redisCreateSSLContext(options_.tls_ca.empty() ? nullptr : options_.tls_ca.c_str(),
                                   options_.tls_ca.empty() ? "/etc/ssl/certs" : nullptr, nullptr, nullptr,
                                   options_.host.c_str(), &error);
      if (!tls_)
        throw std::runtime_error("redis.tls_ca " + options_.tls_ca + ": " + redisSSLContextGetError(error));
    }
    wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_ < 0) throw std::runtime_error("redis: no file descriptor for a wake-up");
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "redis");
      run();
    });
  }

  ~redis_cache() override {
    close();
    if (tls_) redisFreeSSLContext(tls_);
    ::close(wake_);
  }

  void get(std::vector<std::string> keys, std::function<void(get_result)> done) override {
    auto l = std::make_shared<lookup>();
    l->owner = this;
    l->keys = std::move(keys);
    l->done = std::move(done);
    l->since = steady_now();
    l->deadline = l->since + options_.budget;
    {
      const std::lock_guard lock(mutex_);
      if (closing_) return;
      gets_.push_back(std::move(l));
    }
    wake();
  }

  void set(std::vector<std::pair<std::string, std::string>> items) override {
    {
      const std::lock_guard lock(mutex_);
      if (closing_ || sets_.size() >= options_.max_waiting) return;
      sets_.push_back(std::move(items));
    }
    wake();
  }

  store_status status() const override {
    const std::lock_guard lock(mutex_);
    return status_;
  }

  void close() override {
    {
      const std::lock_guard lock(mutex_);
      if (closing_) return;
      closing_ = true;
    }
    wake();
    thread_.join();
  }

 private:
  void wake() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = ::write(wake_, &one, sizeof one);
  }

  // --- the store's thread
  // ---------------------------------------------------------------------------------------------

  void run() {
    while (true) {
      {
        const std::lock_guard lock(mutex_);
        if (closing_) break;
      }
      const nanos now = steady_now();
      if (!context_ && now >= reconnect_at_) connect(now);
      take_work(now);
      expire(now);
      wait(now);
    }
    if (context_) {
      auto* c = std::exchange(context_, nullptr);
      redisAsyncFree(c);
    }
    in_flight_.clear();
  }

  void wait(nanos now) {
    nanos until = now + 100'000'000;
    if (!context_) until = std::min(until, reconnect_at_);
    if (!in_flight_.empty()) until = std::min(until, in_flight_.front()->deadline);
    if (context_ && !usable_) until = std::min(until, connect_deadline_);
    pollfd fds[2] = {{wake_, POLLIN, 0}, {-1, 0, 0}};
    if (context_) {
      fds[1].fd = context_->c.fd;
      fds[1].events = static_cast<short>((want_read_ ? POLLIN : 0) | (want_write_ ? POLLOUT : 0));
    }
    const nanos left = std::max<nanos>(0, until - steady_now());
    timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
    ::ppoll(fds, 2, &timeout, nullptr);
    if (fds[0].revents & POLLIN) {
      std::uint64_t n = 0;
      [[maybe_unused]] const auto r = ::read(wake_, &n, sizeof n);
    }
    if (context_ && (fds[1].revents & (POLLIN | POLLHUP | POLLERR))) redisAsyncHandleRead(context_);
    if (context_ && (fds[1].revents & POLLOUT)) redisAsyncHandleWrite(context_);
    if (context_ && !usable_ && steady_now() >= connect_deadline_)
      drop("no connection within redis.connect_timeout");
  }

  void connect(nanos now) {
    redisOptions o{};
    REDIS_OPTIONS_SET_TCP(&o, options_.host.c_str(), options_.port);
    auto* c = redisAsyncConnectWithOptions(&o);
    if (!c || c->err) {
      const std::string why = c ? c->errstr : "out of memory";
      if (c) redisAsyncFree(c);
      lost(why, false);
      return;
    }
    if (tls_ && redisInitiateSSLWithContext(&c->c, tls_) != REDIS_OK) {
      const std::string why = c->c.errstr;
      redisAsyncFree(c);
      lost("TLS: " + why, true);
      return;
    }
    context_ = c;
    usable_ = false;
    connect_deadline_ = now + options_.connect_timeout;
    want_read_ = want_write_ = false;
    c->data = this;
    c->ev.data = this;
    c->ev.addRead = [](void* s) { static_cast<redis_cache*>(s)->want_read_ = true; };
    c->ev.delRead = [](void* s) { static_cast<redis_cache*>(s)->want_read_ = false; };
    c->ev.addWrite = [](void* s) { static_cast<redis_cache*>(s)->want_write_ = true; };
    c->ev.delWrite = [](void* s) { static_cast<redis_cache*>(s)->want_write_ = false; };
    c->ev.cleanup = [](void* s) {
      auto* self = static_cast<redis_cache*>(s);
      self->want_read_ = self->want_write_ = false;
    };
    redisAsyncSetConnectCallback(c, [](const redisAsyncContext* a, int status) {
      auto* self = static_cast<redis_cache*>(a->data);
      if (status != REDIS_OK) self->gone(a->errstr);
    });
    redisAsyncSetDisconnectCallback(c, [](const redisAsyncContext* a, int status) {
      static_cast<redis_cache*>(a->data)->gone(status == REDIS_OK ? "disconnected" : a->errstr);
    });
    if (!options_.password.empty()) {
      if (options_.user.empty())
        redisAsyncCommand(c, &redis_cache::greeted, this, "AUTH %b", options_.password.data(),
                          options_.password.size());
      else
        redisAsyncCommand(c, &redis_cache::greeted, this, "AUTH %b %b", options_.user.data(),
                          options_.user.size(), options_.password.data(), options_.password.size());
    }
    if (options_.db != 0) redisAsyncCommand(c, &redis_cache::greeted, this, "SELECT %d", options_.db);
    redisAsyncCommand(c, &redis_cache::ready, this, "PING");
  }

  /// An answer to AUTH or SELECT: only a refusal matters.
  static void greeted(redisAsyncContext*, void* reply, void* self) {
    const auto* r = static_cast<redisReply*>(reply);
    if (r && r->type == REDIS_REPLY_ERROR)
      static_cast<redis_cache*>(self)->refused_ = std::string(r->str, r->len);
  }

  static void ready(redisAsyncContext*, void* reply, void* opaque) {
    auto* self = static_cast<redis_cache*>(opaque);
    const auto* r = static_cast<redisReply*>(reply);
    if (!r) return;  // disconnected: gone() says why
    if (r->type == REDIS_REPLY_ERROR || !self->refused_.empty()) {
      self->drop_later_ =
          self->refused_.empty() ? std::string(r->str, r->len) : std::exchange(self->refused_, {});
      return;
    }
    self->usable_ = true;
    self->backoff_ = self->options_.reconnect_min;
    self->tell({true, false, {}});
  }

  void take_work(nanos now) {
    if (!drop_later_.empty()) {
      const std::string why = std::exchange(drop_later_, {});
      const bool credentials = why.rfind("WRONGPASS", 0) == 0 || why.rfind("NOAUTH", 0) == 0 ||
                               why.rfind("NOPERM", 0) == 0 || why.find("password") != std::string::npos;
      auto* c = std::exchange(context_, nullptr);
      closing_context_ = true;
      redisAsyncFree(c);
      closing_context_ = false;
      lost(why, credentials);
    }
    std::deque<lookup_ptr> gets;
    std::deque<std::vector<std::pair<std::string, std::string>>> sets;
    {
      const std::lock_guard lock(mutex_);
      gets.swap(gets_);
      sets.swap(sets_);
    }
    for (auto& l : gets) {
      if (!usable_ || in_flight_.size() >= options_.max_waiting) {
        fail(*l, usable_ ? "too many look-ups wait" : status().reason, false);
        continue;
      }
      std::vector<const char*> words = {"MGET"};
      std::vector<std::size_t> sizes = {4};
      for (const auto& k : l->keys) words.push_back(k.data()), sizes.push_back(k.size());
      in_flight_.push_back(l);
      redisAsyncCommandArgv(context_, &redis_cache::answered, new lookup_ptr(l),
                            static_cast<int>(words.size()), words.data(), sizes.data());
    }
    const std::string ttl = std::to_string(std::max<nanos>(1, options_.ttl / 1'000'000'000));
    for (const auto& items : sets) {
      if (!usable_ || hung(now)) break;  // nothing is written to one who does not read
      for (const auto& [key, value] : items) {
        const char* words[] = {"SETEX", key.data(), ttl.data(), value.data()};
        const std::size_t sizes[] = {5, key.size(), ttl.size(), value.size()};
        redisAsyncCommandArgv(context_, nullptr, nullptr, 4, words, sizes);
      }
    }
  }

  /// Look-ups time out and nothing comes back: what was written waits in buffers.
  [[nodiscard]] bool hung(nanos now) const { return late_ > 0 && now - last_answer_ > 4 * options_.budget; }

  static void answered(redisAsyncContext*, void* reply, void* opaque) {
    const std::unique_ptr<lookup_ptr> held(static_cast<lookup_ptr*>(opaque));
    auto& l = **held;
    const auto* r = static_cast<redisReply*>(reply);
    if (l.owner) {
      auto* self = l.owner;
      if (r) self->heard();
      if (l.answered) {
        if (self->late_ > 0) --self->late_;
        return;
      }
      self->forget(*held);
    }
    if (l.answered) return;
    get_result out;
    out.took = steady_now() - l.since;
    if (!r) {
      out.error = "the connection to Redis was lost";
    } else if (r->type == REDIS_REPLY_ERROR) {
      out.error = std::string(r->str, r->len);
    } else if (r->type != REDIS_REPLY_ARRAY || r->elements != l.keys.size()) {
      out.error = "Redis answered MGET with something else";
    } else {
      out.ok = true;
      out.values.resize(r->elements);
      for (std::size_t i = 0; i < r->elements; ++i)
        if (r->element[i]->type == REDIS_REPLY_STRING)
          out.values[i].emplace(r->element[i]->str, r->element[i]->len);
    }
    l.answered = true;
    l.done(std::move(out));
  }

  void heard() {
    last_answer_ = steady_now();
    if (silent_) tell({true, false, {}});
    silent_ = false;
  }

  void forget(const lookup_ptr& l) { std::erase(in_flight_, l); }

  void expire(nanos now) {
    while (!in_flight_.empty() && in_flight_.front()->deadline <= now) {
      const lookup_ptr l = in_flight_.front();
      in_flight_.pop_front();
      ++late_;
      if (!silent_)
        tell({false, false,
              options_.host + ":" + std::to_string(options_.port) + ": no answer within redis.timeout"});
      silent_ = true;
      fail(*l, "no answer within redis.timeout", true);
    }
    // One that owes many answers is cut off rather than waited for: its buffers would grow.
    if (context_ && late_ > options_.max_waiting) drop("Redis does not answer");
  }

  void fail(lookup& l, const std::string& why, bool timed_out) {
    if (l.answered) return;
    l.answered = true;
    get_result out;
    out.error = why.empty() ? "not connected to Redis" : why;
    out.timed_out = timed_out;
    out.took = steady_now() - l.since;
    l.done(std::move(out));
  }

  /// hiredis freed the context.
  void gone(const std::string& why) {
    if (closing_context_) return;
    context_ = nullptr;
    lost(why, why.find("certificate") != std::string::npos);
  }

  void drop(const std::string& why) {
    auto* c = std::exchange(context_, nullptr);
    closing_context_ = true;
    redisAsyncFree(c);  // pending look-ups are answered with the loss
    closing_context_ = false;
    lost(why, false);
  }

  void lost(const std::string& why, bool fatal) {
    usable_ = false;
    silent_ = false;
    late_ = 0;
    refused_.clear();
    std::uniform_real_distribution<double> jitter(0.8, 1.2);
    reconnect_at_ =
        steady_now() +
        static_cast<nanos>(static_cast<double>(fatal ? options_.reconnect_max : backoff_) * jitter(random_));
    backoff_ = std::min(options_.reconnect_max, backoff_ * 2);
    tell({false, fatal, options_.host + ":" + std::to_string(options_.port) + ": " + why});
  }

  void tell(const store_status& s) {
    bool changed = false;
    {
      const std::lock_guard lock(mutex_);
      changed = s.connected != status_.connected || s.reason != status_.reason;
      status_ = s;
    }
    if (changed && options_.log)
      options_.log(s.connected ? 6
                   : s.fatal   ? 3
                               : 4,
                   s.connected ? "Redis is connected" : "Redis is not available: " + s.reason);
  }

  redis_options options_;
  redisSSLContext* tls_ = nullptr;
  int wake_ = -1;
  std::thread thread_;

  mutable std::mutex mutex_;  // the next four
  bool closing_ = false;
  std::deque<lookup_ptr> gets_;
  std::deque<std::vector<std::pair<std::string, std::string>>> sets_;
  store_status status_{false, false, "connecting"};

  // The thread's own.
  redisAsyncContext* context_ = nullptr;
  bool usable_ = false;
  bool closing_context_ = false;
  bool want_read_ = false;
  bool want_write_ = false;
  nanos reconnect_at_ = 0;
  nanos connect_deadline_ = 0;
  nanos backoff_;
  nanos last_answer_ = 0;
  bool silent_ = false;   // connected, but the last look-up got no answer in time
  std::size_t late_ = 0;  // look-ups that timed out and whose answers are still owed
  std::string refused_;
  std::string drop_later_;
  std::deque<lookup_ptr> in_flight_;  // by deadline
  std::mt19937_64 random_{std::random_device{}()};
};

}  // namespace

std::unique_ptr<level2_cache> make_redis(redis_options options) {
  return std::make_unique<redis_cache>(std::move(options));
}

}  // namespace troupe::store
