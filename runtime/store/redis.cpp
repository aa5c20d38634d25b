#include "runtime/store/redis.hpp"

#include <fcntl.h>
#include <hiredis/async.h>
#include <hiredis/hiredis_ssl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <ctime>
#include <deque>
#include <limits>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>

#include "runtime/store/redis_tls.hpp"

namespace troupe::store {
namespace {

constexpr nanos millisecond = 1'000'000;
constexpr nanos never = std::numeric_limits<nanos>::max();
/// What a command costs in memory beside its bytes, about.
constexpr std::size_t command_overhead = 128;
/// SETEX without an answer yet; more wait here, where look-ups overtake them.
constexpr std::size_t stores_in_flight = 128;

[[nodiscard]] nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Ends the loop's wait from another thread.
class wakeup {
 public:
  wakeup() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (fd_ < 0) throw std::runtime_error("redis: no file descriptor for a wake-up");
  }
  ~wakeup() { ::close(fd_); }
  wakeup(const wakeup&) = delete;
  wakeup& operator=(const wakeup&) = delete;

  void ring() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = ::write(fd_, &one, sizeof one);
  }
  void silence() const {
    std::uint64_t n = 0;
    [[maybe_unused]] const auto r = ::read(fd_, &n, sizeof n);
  }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

/// A name being resolved, shared with the thread that does it: getaddrinfo may block for many seconds.
struct resolution {
  std::shared_ptr<wakeup> wake;
  std::vector<std::string> addresses;
  std::string error;
  std::atomic<bool> done = false;  // written last
};

void resolve(const std::string& host, int flags, resolution& out) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  if (const int e = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); e != 0) {
    out.error = ::gai_strerror(e);
    return;
  }
  for (const addrinfo* a = found; a; a = a->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (::getnameinfo(a->ai_addr, a->ai_addrlen, text.data(), static_cast<socklen_t>(text.size()), nullptr, 0,
                      NI_NUMERICHOST) == 0)
      out.addresses.emplace_back(text.data());
  }
  ::freeaddrinfo(found);
  if (out.addresses.empty()) out.error = "no address";
}

/// TLS alerts (RFC 8446, 6.2) that will come again until someone changes a certificate or a setting.
[[nodiscard]] bool lasting_alert(int reason) {
  const int alert = reason - SSL_AD_REASON_OFFSET;
  return alert == 40 || (alert >= 42 && alert <= 48) || alert == 70 || alert == 116;
}

/// One look-up on its way: answered by Redis or by the clock, whichever is first.
struct lookup {
  std::vector<std::string> keys;
  std::function<void(get_result)> done;
  nanos since = 0;
  nanos deadline = 0;
  std::size_t bytes = 0;
  std::string refusal;  // set: not to be sent at all
  bool ended = false;
};
using lookup_ptr = std::shared_ptr<lookup>;
using item = std::pair<std::string, std::string>;

/// A command without an answer yet. Redis answers in order, so a queue of these is all there is to know.
struct command {
  enum class kind : std::uint8_t { auth, select, ping, store, look_up };
  kind what = kind::ping;
  nanos sent = 0;
  std::size_t bytes = 0;
  std::size_t keys = 0;
  lookup_ptr look;
};

/// hiredis keeps it in two places.
[[nodiscard]] std::string problem(const redisAsyncContext* c) {
  if (c->errstr && *c->errstr) return c->errstr;
  return *c->c.errstr ? c->c.errstr : "the connection failed";
}

[[nodiscard]] std::size_t cost(const item& i) {
  return i.first.size() + i.second.size() + command_overhead;
}

class redis_cache final : public level2_cache {
 public:
  explicit redis_cache(redis_options o)
      : options_(std::move(o)),
        address_(options_.host + ":" + std::to_string(options_.port)),
        ttl_(std::to_string(std::max<nanos>(1, options_.ttl / 1'000'000'000))),
        tls_(make_redis_tls(options_)),
        silent_after_(std::max(100 * millisecond, 4 * options_.budget)),
        hung_after_(std::max(options_.connect_timeout, 2 * silent_after_)),
        backoff_(options_.reconnect_min),
        random_(options_.seed ? options_.seed : std::random_device{}()) {
    thread_ = std::thread([this] { run(); });
  }

  ~redis_cache() override { close(); }

  void get(std::vector<std::string> keys, std::function<void(get_result)> done) override {
    auto l = std::make_shared<lookup>();
    l->bytes = command_overhead;
    for (const auto& k : keys) l->bytes += k.size();
    l->keys = std::move(keys);
    l->done = std::move(done);
    l->since = steady_now();
    l->deadline = l->since + options_.budget;
    bool ring = false;
    {
      const std::lock_guard lock(mutex_);
      if (closing_) return;
      if (waiting_ >= options_.max_waiting || bytes_ + l->bytes > options_.max_waiting_bytes) {
        // Only the callback waits, for one turn of the loop.
        l->refusal = "too many look-ups wait for Redis";
        l->keys = {};
        l->bytes = 0;
      }
      ++waiting_;
      bytes_ += l->bytes;
      gets_.push_back(std::move(l));
      ring = !std::exchange(rung_, true);
    }
    if (ring) wake_->ring();
  }

  void set(std::vector<item> items) override {
    std::size_t bytes = 0;
    for (const auto& i : items) bytes += cost(i);
    bool ring = false;
    {
      const std::lock_guard lock(mutex_);
      if (closing_ || !usable_ || bytes_ + bytes > options_.max_waiting_bytes) {
        counts_.dropped += items.size();
        return;
      }
      bytes_ += bytes;
      if (sets_.empty()) {
        sets_ = std::move(items);
      } else {
        sets_.insert(sets_.end(), std::move_iterator(items.begin()), std::move_iterator(items.end()));
      }
      ring = !std::exchange(rung_, true);
    }
    if (ring) wake_->ring();
  }

  store_status status() const override {
    const std::lock_guard lock(mutex_);
    return status_;
  }

  store_counters counters() const override {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

  void close() override {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_->ring();
    const std::lock_guard lock(join_);  // a second caller returns no earlier than the first
    if (thread_.joinable()) thread_.join();
  }

 private:
  enum class phase : std::uint8_t { idle, resolving, connecting, ready };
  struct failure {
    std::string why;
    bool fatal = false;
  };

  // --- the store's thread ---

  void run() {
    // A write to a connection that Redis closed is an error here, not a SIGPIPE; other signals are for other
    // threads.
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    ::pthread_setname_np(::pthread_self(), "redis");
    while (take_inbox()) {
      advance(steady_now());
      send_work();
      wait();
      settle();
      const nanos now = steady_now();
      expire(now);
      watch(now);
      settle();
    }
    failure_ = failure{"the cache was closed", false};
    if (context_) redisAsyncFree(context_);
    for (const auto& l : new_gets_) end_with(*l, failure_->why, &store_counters::refused);
    count(&store_counters::dropped, new_sets_.size() + queued_sets_.size());
    const std::lock_guard lock(mutex_);
    usable_ = false;
    status_ = {false, false, failure_->why};
  }

  /// False once closed.
  bool take_inbox() {
    const std::lock_guard lock(mutex_);
    rung_ = false;
    new_gets_.swap(gets_);
    new_sets_.swap(sets_);
    return !closing_;
  }

  /// Brings the connection a step further.
  void advance(nanos now) {
    if (phase_ == phase::idle && now >= reconnect_at_) {
      phase_ = phase::resolving;
      connect_deadline_ = now + options_.connect_timeout;
      if (!resolution_) start_resolving();
    }
    if (phase_ == phase::resolving && resolution_ && resolution_->done.load(std::memory_order_acquire)) {
      const auto found = std::exchange(resolution_, nullptr);
      if (found->addresses.empty())
        fail("cannot resolve the name: " + found->error);
      else
        connect_to(std::move(found->addresses));
    }
    settle();
  }

  /// One after the other until the deadline; which is the first differs from attempt to attempt.
  void connect_to(std::vector<std::string> addresses) {
    std::rotate(addresses.begin(),
                addresses.begin() + static_cast<std::ptrdiff_t>(attempts_++ % addresses.size()),
                addresses.end());
    candidates_.assign(addresses.begin() + 1, addresses.end());
    connect(addresses.front());
  }

  void start_resolving() {
    auto r = std::make_shared<resolution>();
    r->wake = wake_;
    resolve(options_.host, AI_NUMERICHOST, *r);
    if (!r->addresses.empty()) {
      r->done = true;
      resolution_ = std::move(r);
      return;
    }
    r->error.clear();
    try {
      std::thread([r, host = options_.host] {
        resolve(host, AI_ADDRCONFIG, *r);
        r->done.store(true, std::memory_order_release);
        r->wake->ring();
      }).detach();
      resolution_ = std::move(r);
    } catch (const std::system_error& e) {
      fail(std::string("cannot resolve the name: ") + e.what());
    }
  }

  void connect(const std::string& address) {
    phase_ = phase::connecting;
    tcp_up_ = false;
    tls_error_.clear();
    ERR_clear_error();
    redisOptions o{};
    const std::uint16_t instead =
        options_.sockets ? options_.sockets->opening(address, static_cast<std::uint16_t>(options_.port)) : 0;
    REDIS_OPTIONS_SET_TCP(&o, instead ? "127.0.0.1" : address.c_str(), instead ? instead : options_.port);
    auto* c = redisAsyncConnectWithOptions(&o);
    if (!c || c->err) {
      fail(c ? problem(c) : "out of memory");
      if (c) redisAsyncFree(c);
      return;
    }
    context_ = c;
    ::fcntl(c->c.fd, F_SETFD, FD_CLOEXEC);
    want_read_ = want_write_ = false;
    c->data = this;
    watched_ = c->c.fd;
    if (options_.sockets) options_.sockets->opened(watched_, instead != 0);
    c->dataCleanup = [](void* s) {
      auto* self = static_cast<redis_cache*>(s);
      if (self->options_.sockets) self->options_.sockets->closing(self->watched_);
      self->context_ = nullptr;
    };
    c->ev.data = this;
    c->ev.addRead = [](void* s) { static_cast<redis_cache*>(s)->want_read_ = true; };
    c->ev.delRead = [](void* s) { static_cast<redis_cache*>(s)->want_read_ = false; };
    c->ev.addWrite = [](void* s) { static_cast<redis_cache*>(s)->want_write_ = true; };
    c->ev.delWrite = [](void* s) { static_cast<redis_cache*>(s)->want_write_ = false; };
    c->ev.cleanup = [](void* s) {
      auto* self = static_cast<redis_cache*>(s);
      self->want_read_ = self->want_write_ = false;
    };
    guard_reader(c->c.reader);
    redisAsyncSetConnectCallback(c, [](const redisAsyncContext* a, int status) {
      auto* self = static_cast<redis_cache*>(a->data);
      if (status == REDIS_OK)
        self->tcp_up_ = true;
      else
        self->gone(problem(a));
    });
    redisAsyncSetDisconnectCallback(c, [](const redisAsyncContext* a, int status) {
      static_cast<redis_cache*>(a->data)->gone(status == REDIS_OK ? "disconnected" : problem(a));
    });
    if (tls_ && !start_tls(c)) return;
    greet();
  }

  bool start_tls(redisAsyncContext* c) {
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(tls_.get()), &SSL_free);
    const std::string& name = options_.tls_server_name.empty() ? options_.host : options_.tls_server_name;
    bool ok = ssl != nullptr;
    if (ok) {
      SSL_set_app_data(ssl.get(), this);
      SSL_set_verify(ssl.get(), SSL_VERIFY_PEER, &redis_cache::verified);
      // hiredis checks the chain only: the name is for us to ask for.
      if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), name.c_str()) != 1)
        ok = SSL_set1_host(ssl.get(), name.c_str()) == 1 &&
             SSL_set_tlsext_host_name(ssl.get(), name.c_str()) == 1;
      ERR_clear_error();
    }
    if (!ok || redisInitiateSSL(&c->c, ssl.get()) != REDIS_OK) {
      fail(std::string("TLS: ") + (c->c.err ? c->c.errstr : "cannot start"));
      return false;
    }
    ssl.release();  // the context's now
    return true;
  }

  static int verified(int ok, X509_STORE_CTX* store) {
    if (!ok) {
      const auto* ssl =
          static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
      static_cast<redis_cache*>(SSL_get_app_data(ssl))->tls_error_ =
          X509_verify_cert_error_string(X509_STORE_CTX_get_error(store));
    }
    return ok;
  }

  /// hiredis aborts or goes on in confusion at an answer nobody asked for, and takes an array of any length:
  /// both are refused where its reader makes the answer (null reads as "out of memory", which ends the
  /// connection).
  void guard_reader(redisReader* reader) {
    base_ = reader->fn;
    guarded_ = *base_;
    guarded_.createArray = [](const redisReadTask* t, std::size_t n) -> void* {
      auto* self = static_cast<redis_cache*>(t->privdata);
      return self->expected(t) && self->expected_array(t, n) ? self->base_->createArray(t, n) : nullptr;
    };
    guarded_.createString = [](const redisReadTask* t, char* text, std::size_t n) -> void* {
      auto* self = static_cast<redis_cache*>(t->privdata);
      return t->type == REDIS_REPLY_ERROR || self->expected(t) ? self->base_->createString(t, text, n)
                                                               : nullptr;
    };
    guarded_.createInteger = [](const redisReadTask* t, long long n) -> void* {
      auto* self = static_cast<redis_cache*>(t->privdata);
      return self->expected(t) ? self->base_->createInteger(t, n) : nullptr;
    };
    guarded_.createDouble = [](const redisReadTask* t, double v, char* text, std::size_t n) -> void* {
      auto* self = static_cast<redis_cache*>(t->privdata);
      return self->expected(t) ? self->base_->createDouble(t, v, text, n) : nullptr;
    };
    guarded_.createNil = [](const redisReadTask* t) -> void* {
      auto* self = static_cast<redis_cache*>(t->privdata);
      return self->expected(t) ? self->base_->createNil(t) : nullptr;
    };
    guarded_.createBool = [](const redisReadTask* t, int v) -> void* {
      auto* self = static_cast<redis_cache*>(t->privdata);
      return self->expected(t) ? self->base_->createBool(t, v) : nullptr;
    };
    reader->fn = &guarded_;
    reader->privdata = this;
  }

  bool expected(const redisReadTask* task) {
    if (task->parent || !commands_.empty()) return true;
    fail("protocol error: an answer nobody asked for");
    return false;
  }

  bool expected_array(const redisReadTask* task, std::size_t size) {
    if (!task->parent && size <= commands_.front().keys) return true;
    fail("protocol error: an array of " + std::to_string(size) + " where none of that size belongs");
    return false;
  }

  /// AUTH and SELECT as configured, and a PING whose answer says that Redis serves us.
  void greet() {
    if (!options_.password.empty()) {
      words_ = {"AUTH"};
      if (!options_.user.empty()) words_.emplace_back(options_.user);
      words_.emplace_back(options_.password);
      if (!send(command::kind::auth)) return;
    }
    const std::string db = std::to_string(options_.db);
    if (options_.db != 0) {
      words_ = {"SELECT", db};
      if (!send(command::kind::select)) return;
    }
    words_ = {"PING"};
    send(command::kind::ping);
  }

  /// The command whose words are in words_.
  bool send(command::kind what, std::size_t bytes = 0, const lookup_ptr& look = nullptr) {
    pointers_.clear();
    sizes_.clear();
    for (const auto w : words_) {
      pointers_.push_back(w.data());
      sizes_.push_back(w.size());
    }
    if (redisAsyncCommandArgv(context_, &redis_cache::answered, this, static_cast<int>(words_.size()),
                              pointers_.data(), sizes_.data()) != REDIS_OK) {
      fail(problem(context_));
      return false;
    }
    commands_.push_back({what, steady_now(), bytes, look ? look->keys.size() : 0, look});
    return true;
  }

  void send_work() {
    for (auto& l : new_gets_) {
      const bool open = phase_ == phase::ready && !failure_ && !silent_;
      if (!l->refusal.empty()) {
        end_with(*l, l->refusal, &store_counters::refused);
      } else if (l->keys.empty()) {
        free_bytes(l->bytes);
        get_result none;
        none.ok = true;
        end(*l, std::move(none), &store_counters::answered);
      } else if (!open) {
        free_bytes(l->bytes);
        end_with(*l, status().reason, &store_counters::refused);
      } else {
        words_ = {"MGET"};
        words_.insert(words_.end(), l->keys.begin(), l->keys.end());
        if (send(command::kind::look_up, l->bytes, l)) {
          deadlines_.push_back(l);
        } else {
          free_bytes(l->bytes);
          end_with(*l, failure_->why, &store_counters::failed);
        }
      }
    }
    new_gets_.clear();
    for (auto& i : new_sets_) queued_sets_.push_back(std::move(i));
    new_sets_.clear();
    if (phase_ != phase::ready) drop_sets();
    while (phase_ == phase::ready && !failure_ && !queued_sets_.empty() &&
           stores_unanswered_ < stores_in_flight) {
      const item& i = queued_sets_.front();
      words_ = {"SETEX", i.first, ttl_, i.second};
      if (!send(command::kind::store, cost(i))) break;
      ++stores_unanswered_;
      queued_sets_.pop_front();
    }
    // Most often the socket takes it all: one system call less than asking first.
    if (phase_ == phase::ready && want_write_ && !failure_) redisAsyncHandleWrite(context_);
  }

  void drop_sets() {
    if (queued_sets_.empty()) return;
    for (const auto& i : queued_sets_) free_bytes(cost(i));
    count(&store_counters::dropped, queued_sets_.size());
    queued_sets_.clear();
  }

  static void answered(redisAsyncContext* c, void* reply, void* opaque) {
    auto* self = static_cast<redis_cache*>(opaque);
    if (!reply && !self->failure_) self->gone(problem(c));  // hiredis says why only after all callbacks
    self->answer(static_cast<const redisReply*>(reply));
  }

  /// Null: the connection is lost.
  void answer(const redisReply* r) {
    const command c = std::move(commands_.front());
    commands_.pop_front();
    free_bytes(c.bytes);
    if (failure_) r = nullptr;  // what else came with the cause is of no use
    if (r) heard();
    const bool error = r && r->type == REDIS_REPLY_ERROR;
    switch (c.what) {
      case command::kind::auth:
      case command::kind::select:
      case command::kind::ping:
        if (error)
          refused(c.what, std::string(r->str, r->len));
        else if (r && r->type != REDIS_REPLY_STATUS)
          fail("protocol error: this is not how Redis greets");
        else if (r && c.what == command::kind::ping)
          become_ready();
        break;
      case command::kind::store:
        --stores_unanswered_;
        if (error) complain(std::string(r->str, r->len));
        count(error ? &store_counters::rejected : r ? &store_counters::stored : &store_counters::dropped);
        break;
      case command::kind::look_up:
        if (!c.look->ended) land(*c.look, c.keys, r);
        break;
    }
  }

  void land(lookup& l, std::size_t keys, const redisReply* r) {
    if (!r) {
      end_with(l, "the connection to Redis was lost" + (failure_ ? ": " + failure_->why : std::string()),
               &store_counters::failed);
      return;
    }
    if (r->type == REDIS_REPLY_ERROR) {
      end_with(l, std::string(r->str, r->len), &store_counters::failed);
      return;
    }
    get_result out;
    out.ok = r->type == REDIS_REPLY_ARRAY && r->elements == keys;
    if (out.ok) out.values.resize(keys);
    for (std::size_t i = 0; out.ok && i < keys; ++i) {
      const auto& e = *r->element[i];
      if (e.type == REDIS_REPLY_STRING)
        out.values[i].emplace(e.str, e.len);
      else
        out.ok = e.type == REDIS_REPLY_NIL;
    }
    if (out.ok) {
      end(l, std::move(out), &store_counters::answered);
      return;
    }
    // Whatever this answers, it was not our question: nothing after it can be trusted.
    fail("protocol error: the answer to MGET is not a value a key");
    end_with(l, failure_->why, &store_counters::failed);
  }

  void refused(command::kind what, const std::string& text) {
    const auto begins = [&](std::string_view word) { return text.rfind(word, 0) == 0; };
    if (begins("LOADING") || begins("MASTERDOWN") || begins("BUSY") || begins("ERR max number of clients"))
      fail(text);
    else if (what == command::kind::auth)
      fail("redis.user and redis.password are refused: " + text, true);
    else if (begins("NOAUTH"))
      fail("a password is needed (redis.password): " + text, true);
    else if (what == command::kind::select)
      fail("redis.db " + std::to_string(options_.db) + ": " + text, true);
    else
      fail(text, begins("NOPERM"));
  }

  void become_ready() {
    phase_ = phase::ready;
    backoff_ = options_.reconnect_min;
    complained_.clear();
    count(&store_counters::connects);
    tell({true, false, {}});
  }

  /// An item was not stored: said once a connection and text.
  void complain(const std::string& text) {
    if (std::exchange(complained_, text) == text) return;
    if (options_.log) options_.log(5, "Redis does not store: " + text);
  }

  void heard() {
    last_heard_ = steady_now();
    if (std::exchange(silent_, false)) tell({true, false, {}});
  }

  void wait() {
    nanos until = never;
    if (phase_ == phase::idle) until = reconnect_at_;
    if (phase_ == phase::resolving || phase_ == phase::connecting) until = connect_deadline_;
    if (phase_ == phase::ready && !commands_.empty())
      until = silent_since() + (silent_ ? hung_after_ : silent_after_);
    if (!deadlines_.empty()) until = std::min(until, deadlines_.front()->deadline);
    std::array<pollfd, 2> fds{{{wake_->fd(), POLLIN, 0}, {-1, 0, 0}}};
    if (failure_) until = 0;
    if (context_) {
      fds[1].fd = context_->c.fd;
      fds[1].events = static_cast<short>((want_read_ ? POLLIN : 0) | (want_write_ ? POLLOUT : 0));
    }
    const nanos left = until == never ? 0 : std::max<nanos>(0, until - steady_now());
    const timespec timeout{static_cast<std::time_t>(left / 1'000'000'000),
                           static_cast<long>(left % 1'000'000'000)};
    ::ppoll(fds.data(), fds.size(), until == never ? nullptr : &timeout, nullptr);
    if (fds[0].revents & POLLIN) wake_->silence();
    if (context_ && (fds[1].revents & (POLLIN | POLLHUP | POLLERR))) {
      redisAsyncHandleRead(context_);
      if (context_ && context_->c.reader->len - context_->c.reader->pos > options_.max_reply_bytes)
        fail("an answer of more than " + std::to_string(options_.max_reply_bytes) + " bytes");
    }
    if (context_ && !failure_ && (fds[1].revents & POLLOUT)) redisAsyncHandleWrite(context_);
  }

  /// Look-ups whose budget is spent.
  void expire(nanos now) {
    while (!deadlines_.empty() && (deadlines_.front()->ended || deadlines_.front()->deadline <= now)) {
      const lookup_ptr l = std::move(deadlines_.front());
      deadlines_.pop_front();
      if (l->ended) continue;
      get_result out;
      out.timed_out = true;
      out.error = "no answer within redis.timeout";
      end(*l, std::move(out), &store_counters::timed_out);
    }
  }

  [[nodiscard]] nanos silent_since() const { return std::max(commands_.front().sent, last_heard_); }

  /// A connection that takes too long to come up, or to answer.
  void watch(nanos now) {
    if (phase_ == phase::ready && context_ && !commands_.empty()) {
      const nanos silent_for = now - silent_since();
      if (silent_for >= hung_after_) {
        fail("no answer for " + std::to_string(hung_after_ / millisecond) + " ms, connecting anew");
      } else if (silent_for >= silent_after_ && !silent_) {
        silent_ = true;
        tell({false, false,
              address_ + ": no answer for " + std::to_string(silent_after_ / millisecond) + " ms"});
      }
    }
    if ((phase_ != phase::resolving && phase_ != phase::connecting) || now < connect_deadline_) return;
    fail(phase_ == phase::resolving ? "the name is not resolved within redis.connect_timeout"
         : tcp_up_                  ? "connected, but no answer within redis.connect_timeout"
                                    : "no connection within redis.connect_timeout");
  }

  void end_with(lookup& l, const std::string& why, std::uint64_t store_counters::*what) {
    get_result out;
    out.error = why.empty() ? "not connected to Redis" : why;
    end(l, std::move(out), what);
  }

  void end(lookup& l, get_result out, std::uint64_t store_counters::*what) {
    l.ended = true;
    l.keys = {};
    out.took = steady_now() - l.since;
    {
      const std::lock_guard lock(mutex_);
      --waiting_;
      ++(counts_.*what);
    }
    const auto done = std::exchange(l.done, nullptr);
    done(std::move(out));
  }

  /// hiredis is about to free the context.
  void gone(const std::string& why) {
    const unsigned long e = tls_ ? ERR_peek_last_error() : 0;
    const int reason = ERR_GET_REASON(e);
    if (!tls_error_.empty())
      fail("the certificate of Redis is not trusted (redis.tls_ca): " + tls_error_, true);
    else if (e && ERR_reason_error_string(e))
      fail(std::string("TLS: ") + ERR_reason_error_string(e),
           phase_ != phase::ready && lasting_alert(reason));
    else if (tls_ && phase_ == phase::connecting && options_.tls_cert.empty() &&
             (tcp_up_ || why.find("reset") != std::string::npos))
      // TLS 1.3: the alert that says so is easily lost to the reset that follows it.
      fail(why + " (it may ask for a client certificate)");
    else
      fail(why);
    ERR_clear_error();
  }

  /// The connection is to end; the first cause counts. Safe within hiredis' callbacks: settle() does the
  /// work.
  void fail(const std::string& why, bool fatal = false) {
    if (!failure_) failure_ = failure{why, fatal};
  }

  void settle() {
    while (failure_) {
      if (context_) redisAsyncFree(context_);  // look-ups under way end here
      const failure f = std::move(*failure_);
      failure_.reset();
      if (phase_ == phase::connecting && !tcp_up_ && !candidates_.empty() &&
          steady_now() < connect_deadline_) {
        const std::string next = std::move(candidates_.front());
        candidates_.pop_front();
        connect(next);
        continue;
      }
      if (phase_ == phase::ready) count(&store_counters::disconnects);
      phase_ = phase::idle;
      silent_ = false;
      drop_sets();
      std::uniform_real_distribution<double> jitter(0.8, 1.2);
      const nanos pause = f.fatal ? options_.reconnect_fatal : backoff_;
      reconnect_at_ = steady_now() + static_cast<nanos>(static_cast<double>(pause) * jitter(random_));
      backoff_ = std::min(options_.reconnect_max, backoff_ * 2);
      tell({false, f.fatal, address_ + ": " + f.why});
    }
  }

  void tell(const store_status& s) {
    bool changed = false;
    {
      const std::lock_guard lock(mutex_);
      changed = s.connected != status_.connected || s.reason != status_.reason;
      status_ = s;
      usable_ = phase_ == phase::ready;
    }
    if (changed && options_.log)
      options_.log(s.connected ? 6
                   : s.fatal   ? 3
                               : 4,
                   s.connected ? "Redis is connected" : "Redis is not available: " + s.reason);
  }

  void count(std::uint64_t store_counters::*what, std::size_t n = 1) {
    const std::lock_guard lock(mutex_);
    counts_.*what += n;
  }

  void free_bytes(std::size_t n) {
    if (n == 0) return;
    const std::lock_guard lock(mutex_);
    bytes_ -= n;
  }

  const redis_options options_;
  const std::string address_;
  const std::string ttl_;
  const std::shared_ptr<ssl_ctx_st> tls_;
  const nanos silent_after_;
  const nanos hung_after_;  // given up
  const std::shared_ptr<wakeup> wake_ = std::make_shared<wakeup>();

  mutable std::mutex mutex_;  // down to counts_
  bool closing_ = false;
  bool rung_ = false;
  bool usable_ = false;
  std::size_t waiting_ = 0;  // look-ups whose callback has not run
  std::size_t bytes_ = 0;    // of what is queued or not yet answered
  std::vector<lookup_ptr> gets_;
  std::vector<item> sets_;
  store_status status_{false, false, "connecting"};
  store_counters counts_;

  std::mutex join_;
  std::thread thread_;

  // The thread's own.
  phase phase_ = phase::idle;
  redisAsyncContext* context_ = nullptr;  // null once hiredis has freed it
  std::optional<failure> failure_;
  redisReplyObjectFunctions* base_ = nullptr;
  redisReplyObjectFunctions guarded_{};
  std::shared_ptr<resolution> resolution_;
  int watched_ = -1;  // the connection's descriptor
  bool want_read_ = false;
  bool want_write_ = false;
  bool tcp_up_ = false;
  bool silent_ = false;  // so long that look-ups are not even sent
  std::string tls_error_;
  std::string complained_;
  std::deque<std::string> candidates_;  // addresses of the host not tried in this attempt
  std::size_t attempts_ = 0;
  nanos reconnect_at_ = 0;
  nanos connect_deadline_ = 0;
  nanos last_heard_ = 0;
  nanos backoff_;
  std::mt19937_64 random_;
  std::vector<lookup_ptr> new_gets_;
  std::vector<item> new_sets_;
  std::deque<item> queued_sets_;
  std::deque<command> commands_;      // in the order sent
  std::deque<lookup_ptr> deadlines_;  // in the order of their deadlines
  std::size_t stores_unanswered_ = 0;
  std::vector<std::string_view> words_;
  std::vector<const char*> pointers_;
  std::vector<std::size_t> sizes_;
};

}  // namespace

std::unique_ptr<level2_cache> make_redis(redis_options options) {
  return std::make_unique<redis_cache>(std::move(options));
}

}  // namespace troupe::store
