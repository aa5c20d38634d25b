#include "runtime/grpc/server.hpp"

#include <arpa/inet.h>
#include <grpc/support/log.h>
#include <grpcpp/alarm.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/async_unary_call.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "messages/reply_turn.hpp"
#include "runtime/grpc/goaway.hpp"
#include "runtime/grpc/infer_call.hpp"
#include "runtime/grpc/methods.hpp"
#include "runtime/grpc/tls.hpp"
#include "runtime/grpc/unpack.hpp"
#include "runtime/observe/request_log.hpp"
#include "runtime/observe/trace.hpp"

namespace troupe::rpc {
namespace {

constexpr const char* infer_path = "/inference.GRPCInferenceService/ModelInfer";
constexpr std::string_view stream_path = "/inference.GRPCInferenceService/ModelStreamInfer";
constexpr std::string_view watch_path = "/grpc.health.v1.Health/Watch";
constexpr std::string_view reflection_paths[] = {
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
/// Calls that a lane is ready to take at once; as many more wait in the library.
constexpr int ready_infers = 64;
constexpr int ready_others = 8;
/// Calls that travel together at most, so that the first does not wait for long.
constexpr std::size_t most_together = 256;
/// For more of them, one after the other.
constexpr int looks_in_vain = 2;
// g++ says by a macro that there is AddressSanitizer, clang by a feature.
#if defined(__SANITIZE_ADDRESS__)
#define TROUPE_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TROUPE_ADDRESS_SANITIZER
#endif
#endif
#if defined(TROUPE_ADDRESS_SANITIZER)
constexpr std::size_t most_spare = 0;  // so that it sees what is used after its end
#else
constexpr std::size_t most_spare = 256;
#endif
constexpr nanos quiet_for = 200'000'000;    // in a drain: clients have heard that they are to go
constexpr std::size_t most_message = 1024;  // of a status: clients limit the size of metadata
constexpr std::size_t copied_reply = 4096;
constexpr std::size_t most_kept_text = std::size_t{1} << 20;

[[nodiscard]] nanos steady_now() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

/// What a completion queue gives back.
class event {
 public:
  virtual void happened(bool ok) = 0;

 protected:
  ~event() = default;
};

template <class T, void (T::*What)(bool)>
class event_of final : public event {
 public:
  explicit event_of(T* owner) : owner_(owner) {}
  void happened(bool ok) override { (owner_->*What)(ok); }

 private:
  T* owner_;
};

void* tag(event& of) {
  return &of;
}

/// ModelInfer alone, its messages as bytes; all other methods come through the generic service.
class infer_service final : public ::grpc::Service {
 public:
  infer_service() {
    AddMethod(
        new ::grpc::internal::RpcServiceMethod(infer_path, ::grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
    MarkMethodRaw(0);
  }
  void request(::grpc::ServerContext& context, ::grpc::ByteBuffer& message,
               ::grpc::ServerAsyncResponseWriter<::grpc::ByteBuffer>& to,
               ::grpc::ServerCompletionQueue& queue, void* what) {
    RequestAsyncUnary(0, &context, &message, &to, &queue, &queue, what);
  }
};

::grpc::ByteBuffer buffer_of(std::string_view text) {
  const ::grpc::Slice slice(text.data(), text.size());
  return {&slice, 1};
}

/// Large replies are not copied once more.
::grpc::ByteBuffer buffer_of(std::string&& text) {
  if (text.size() <= copied_reply) return buffer_of(std::string_view(text));
  auto* kept = new std::string(std::move(text));
  const ::grpc::Slice slice(
      kept->data(), kept->size(), [](void* p) { delete static_cast<std::string*>(p); }, kept);
  return {&slice, 1};
}

/// A message as one piece of memory, unpacked.
class message_body {
 public:
  [[nodiscard]] std::string_view text() const {
    if (unpacked_) return plain_;
    return {reinterpret_cast<const char*>(slice_.begin()), slice_.size()};
  }

  status take(const ::grpc::ByteBuffer& from, std::size_t limit) {
    if (!from.Valid()) return {};
    if (!from.TrySingleSlice(&slice_).ok() && !from.DumpToSingleSlice(&slice_).ok())
      return {status_code::internal, "the message can't be read"};
    if (packed(text())) {
      const unpacked how = unpack(text(), limit, plain_);
      if (how == unpacked::broken)
        return {status_code::invalid_argument, "the message is no valid gzip or deflate data"};
      if (how == unpacked::too_large) return too_large(limit);
      unpacked_ = true;
    }
    return text().size() > limit ? too_large(limit) : status{};
  }

 private:
  static status too_large(std::size_t limit) {
    return {status_code::resource_exhausted,
            "the message is larger than the " + std::to_string(limit) + " bytes allowed"};
  }

  ::grpc::Slice slice_;
  std::string plain_;
  bool unpacked_ = false;
};

/// What may stand in metadata; gRPC ends the process for anything else.
bool sendable(std::string_view text) {
  return !text.empty() && text.size() <= 128 && text.front() != ' ' && text.back() != ' ' &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

::grpc::Status ending(::grpc::ServerContext& context, const status& why, nanos retry_after) {
  if (why.ok()) return ::grpc::Status::OK;
  std::string message = why.message.substr(0, most_message);
  std::string details;
  if (retry_after > 0) {
    const auto seconds = (retry_after + 999'999'999) / 1'000'000'000;
    context.AddTrailingMetadata("retry-after", std::to_string(seconds));
    write_retry_details(details, static_cast<int>(why.code), message, retry_after);
  }
  return {static_cast<::grpc::StatusCode>(why.code), std::move(message), std::move(details)};
}

std::string_view metadata_of(const ::grpc::ServerContext& context, std::string_view name) {
  const auto& all = context.client_metadata();
  const auto found = all.find(::grpc::string_ref(name.data(), name.size()));
  if (found == all.end()) return {};
  return {found->second.size() > 0 ? found->second.data() : "", found->second.size()};
}

// --- the guard

std::string_view nth_metadata(const void* request, std::string_view name, std::size_t before_last) {
  const auto& all = static_cast<const ::grpc::ServerContext*>(request)->client_metadata();
  auto [first, end] = all.equal_range(::grpc::string_ref(name.data(), name.size()));
  while (end != first) {
    --end;
    if (before_last-- == 0) return {end->second.size() > 0 ? end->second.data() : "", end->second.size()};
  }
  return {};
}

/// "ipv4:192.0.2.1:5000", "ipv6:%5B2001:db8::1%5D:5000" or with the brackets themselves.
std::string_view peer_of(const void* request, std::string& buffer) {
  const std::string peer = static_cast<const ::grpc::ServerContext*>(request)->peer();
  const auto scheme = peer.find(':');
  buffer.clear();
  for (std::size_t i = scheme == std::string::npos ? peer.size() : scheme + 1; i < peer.size(); ++i) {
    const std::string_view three = std::string_view(peer).substr(i, 3);
    const bool opens = three == "%5B" || three == "%5b", closes = three == "%5D" || three == "%5d";
    buffer += opens ? '[' : closes ? ']' : peer[i];
    if (opens || closes) i += 2;
  }
  return buffer;
}

/// The same without the port.
std::string address_of(const ::grpc::ServerContext& context) {
  std::string peer;
  peer_of(&context, peer);
  peer.resize(std::min(peer.size(), peer.rfind(':')));
  if (peer.starts_with('[') && peer.ends_with(']')) peer = peer.substr(1, peer.size() - 2);
  return peer;
}

guard::kind kind_of(std::string_view path) {
  const auto slash = path.rfind('/');
  const auto name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (path.starts_with("/grpc.health.v1.Health/") || name == "ServerLive" || name == "ServerReady")
    return guard::kind::health;
  if (path.starts_with("/grpc.reflection.")) return guard::kind::docs;
  if (name == "RepositoryModelLoad" || name == "RepositoryModelUnload") return guard::kind::admin;
  return guard::kind::page;
}

using rules_ptr = std::shared_ptr<const serving::caller_rules>;

guard::verdict ask(const rules_ptr& rules, const ::grpc::ServerContext& context, guard::kind what) {
  if (!rules) return {};
  return rules->keeper->check({door::grpc, what, &context, nth_metadata, peer_of});
}

status status_of(const guard::verdict& v) {
  return {status_of_http(guard::http_status_of(v.why)), std::string(v.message)};
}

// --- traces

using trace_ptr = std::shared_ptr<observe::request_trace>;

trace_ptr trace_of(const std::shared_ptr<const observe::tracer>& by, const ::grpc::ServerContext& context,
                   std::string_view path, nanos arrived) {
  if (!by) return nullptr;
  auto t = by->begin(door::grpc, metadata_of(context, "traceparent"), arrived);
  if (!t) return nullptr;
  const auto [first, end] = context.client_metadata().equal_range("tracestate");
  std::vector<std::string_view> states;
  for (auto at = first; at != end; ++at) states.emplace_back(at->second.data(), at->second.size());
  t->set_state(policy::join_tracestate(states));
  if (path.starts_with('/')) path.remove_prefix(1);
  const auto slash = path.find('/');
  observe::attributes what = {{"rpc.system", "grpc"},
                              {"rpc.service", std::string(path.substr(0, slash))},
                              {"rpc.method", std::string(path.substr(slash + 1))},
                              {"client.address", address_of(context)}};
  t->describe(observe::span_kind::server, std::string(path), std::move(what));
  return t;
}

/// Whether it is the server's.
bool is_fault(status_code code) {
  return code == status_code::unknown || code == status_code::deadline_exceeded ||
         code == status_code::unimplemented || code == status_code::internal ||
         code == status_code::unavailable;
}

/// Only that is an error of its span.
void end_trace(const trace_ptr& trace, status_code code) {
  if (!trace) return;
  const bool failed = is_fault(code);
  const std::string number = std::to_string(static_cast<int>(code));
  trace->end(trace->now(), {{"rpc.grpc.status_code", static_cast<std::int64_t>(code)}},
             failed ? std::string_view(number) : std::string_view());
}

// --- the log

using log_ptr = std::shared_ptr<const observe::request_log>;

void tell_request(const log_ptr& to, const ::grpc::ServerContext& context, std::string_view path,
                  nanos arrived, status_code code, const guard::client_ptr& who, std::string_view request_id,
                  const trace_ptr& trace) {
  if (!to) return;
  const bool failed = is_fault(code) && code != status_code::unimplemented;  // a client's mistake, for once
  const nanos took =
      std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1) - arrived;
  if (!to->wants(failed, took)) return;
  if (path.starts_with('/')) path.remove_prefix(1);
  const std::string client = address_of(context);
  observe::answered_request one;
  one.door = "grpc";
  one.route = path;
  one.status = name_of(code);
  one.failed = failed;
  one.refused = code != status_code::ok;
  one.took = took;
  one.client = client;
  if (who) one.key = who->name();
  one.request_id = request_id;
  if (trace) one.trace_id = trace->id();
  to->tell(one);
}

nanos deadline_of(const ::grpc::ServerContext& context) {
  const gpr_timespec at = gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_MONOTONIC);
  if (gpr_time_cmp(at, gpr_inf_future(GPR_CLOCK_MONOTONIC)) >= 0 || at.tv_sec > INT64_MAX / 2'000'000'000)
    return INT64_MAX;
  return at.tv_sec * 1'000'000'000 + at.tv_nsec;
}

struct lane;

/// A call that the library has given to a lane and that has not ended. On the lane's thread only.
class open_rpc {
 public:
  /// Ends it now, as the server does.
  virtual void abandon() = 0;
  /// The server begins to stop.
  virtual void stopping() {}

  open_rpc* next = nullptr;
  open_rpc* previous = nullptr;

 protected:
  ~open_rpc() = default;
};

/// Does what may block, and what happens once a second.
class worker {
 public:
  explicit worker(std::function<void()> every_second) : every_second_(std::move(every_second)) {}
  ~worker() { stop(); }

  void start() {
    thread_ = std::thread([this] { run(); });
  }
  /// False: it is not done, because too many wait, or this has stopped.
  bool post(std::function<void()> job) {
    const std::lock_guard lock(mutex_);
    if (stopped_ || jobs_.size() >= most_waiting) return false;
    jobs_.push_back(std::move(job));
    wake_.notify_one();
    return true;
  }
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
      wake_.notify_one();
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    auto tick = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    for (;;) {
      wake_.wait_until(lock, tick, [this] { return stopped_ || !jobs_.empty(); });
      if (!jobs_.empty()) {
        auto job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        job();
        lock.lock();
      } else if (stopped_) {
        return;
      }
      if (const auto now = std::chrono::steady_clock::now(); now >= tick) {
        tick = now + std::chrono::seconds(1);
        lock.unlock();
        every_second_();
        lock.lock();
      }
    }
  }

  static constexpr std::size_t most_waiting = 64;

  std::function<void()> every_second_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stopped_ = false;
  std::thread thread_;
};

class watch;

}  // namespace

struct server_parts {
  server_parts(const server_options& o, std::shared_ptr<serving::backend> b)
      : options(o), backend(std::move(b)), background([this] { refresh_health(); }) {}
  ~server_parts() { stop(std::chrono::milliseconds(0)); }

  void listen();
  void start(server::taker how);
  void refresh_health();
  void stop(std::chrono::milliseconds grace);

  server_options options;
  std::shared_ptr<serving::backend> backend;
  std::map<std::string, method, std::less<>> methods;
  std::atomic<bool> draining{false};
  server::taker take;
  infer_service infers;
  ::grpc::AsyncGenericService others;
  std::vector<std::unique_ptr<lane>> lanes;
  std::unique_ptr<tls_copies> certificates;
  std::unique_ptr<::grpc::Server> grpc;
  int port = 0;
  goaway farewell;
  nanos drains_since = 0;
  std::mutex stop_mutex;
  bool stopped = false;
  std::mutex watches_mutex;
  std::set<watch*> watches;
  worker background;
};

namespace {

/// What outlives the server, for calls that do.
struct shared_state {
  codec::infer_options infer;
  nanos retry_after = 0;
  std::shared_ptr<const observe::request_log> log;  ///< null: no request has a line
  std::atomic<std::size_t> open{0};
  std::atomic<nanos> last_came{0};  ///< steady clock
};

class infer_rpc;

/// Replies on their way to a lane. The lane itself sends them: it then sees their ends without being woken
/// for each, and no two threads write to one connection. Kept by the lane and by its calls.
class outbox final : public reply_turn::waker {
 public:
  outbox(::grpc::CompletionQueue& queue, event& on_mail) : queue_(queue), on_mail_(on_mail) {}

  struct letter {
    infer_rpc* to = nullptr;
    std::unique_ptr<status> why;  ///< of a failure
    nanos retry_after = 0;
    std::size_t begin = 0;  ///< of a response, in the text
    std::size_t size = 0;
  };
  struct mail {
    std::vector<letter> letters;
    std::string text;
  };

  static void put(const std::shared_ptr<outbox>& into, letter&& one, std::string_view text) {
    {
      const std::lock_guard lock(into->mutex_);
      mail& m = into->mail_;
      one.begin = m.text.size();
      one.size = text.size();
      m.text += text;
      m.letters.push_back(std::move(one));
      if (into->rung_) return;
    }
    if (!reply_turn::tell(into)) into->ring();
  }
  void turn_ended() override { ring(); }
  /// `empty` is what was taken before.
  void take(mail& empty) {
    empty.letters.clear();
    empty.text.clear();
    if (empty.text.capacity() > most_kept) std::string().swap(empty.text);
    const std::lock_guard lock(mutex_);
    std::swap(mail_, empty);
    rung_ = false;
  }

 private:
  void ring() {
    const std::lock_guard lock(mutex_);
    if (rung_ || mail_.letters.empty()) return;
    rung_ = true;
    // Under the lock, so that the lane, which takes the mail under it, can't be gone before this is done.
    bell_.Set(&queue_, gpr_time_0(GPR_CLOCK_MONOTONIC), tag(on_mail_));
  }

  static constexpr std::size_t most_kept = std::size_t{1} << 20;
  ::grpc::CompletionQueue& queue_;
  event& on_mail_;
  std::mutex mutex_;
  mail mail_;
  bool rung_ = false;
  ::grpc::Alarm bell_;
};

struct lane {
  lane(server_parts& o, std::shared_ptr<shared_state> s, std::size_t i,
       std::unique_ptr<::grpc::ServerCompletionQueue> q)
      : owner(o), shared(std::move(s)), index(i), queue(std::move(q)) {}
  ~lane() {
    for (void* one : spare) ::operator delete(one);
  }
  lane(const lane&) = delete;
  lane& operator=(const lane&) = delete;

  void start();
  void run();
  void link(open_rpc& one) {
    one.next = first;
    if (first != nullptr) first->previous = &one;
    first = &one;
  }
  void unlink(open_rpc& one) {
    if (one.next != nullptr) one.next->previous = one.previous;
    (one.previous != nullptr ? one.previous->next : first) = one.next;
    one.next = one.previous = nullptr;
    if (closing && first == nullptr) queue->Shutdown();
  }
  template <class F>
  void for_each_open(F f) {
    for (open_rpc* one = first; one != nullptr;) {
      open_rpc* const then = one->next;
      f(*one);
      one = then;
    }
  }
  /// From another thread: what the lane is to do about stopping.
  void tell_stopping() { stopping_alarm.Set(queue.get(), gpr_now(GPR_CLOCK_MONOTONIC), &stopping_event); }
  void tell_closing() { closing_alarm.Set(queue.get(), gpr_now(GPR_CLOCK_MONOTONIC), &closing_event); }
  void stop(bool) {
    for_each_open([](open_rpc& one) { one.stopping(); });
  }
  void close(bool) {
    closing = true;
    if (first == nullptr) return queue->Shutdown();
    for_each_open([](open_rpc& one) { one.abandon(); });
  }

  server_parts& owner;
  const std::shared_ptr<shared_state> shared;
  const std::size_t index;
  const std::unique_ptr<::grpc::ServerCompletionQueue> queue;
  std::vector<std::unique_ptr<call>> taken;
  /// Memory of ModelInfers that have ended: too large for the allocator's quick lists.
  std::vector<void*> spare;
  open_rpc* first = nullptr;
  bool closing = false;
  nanos now = 0;  ///< steady clock, when this turn began
  void deliver(bool);
  event_of<lane, &lane::deliver> mail_event{this};
  const std::shared_ptr<outbox> out = std::make_shared<outbox>(*queue, mail_event);
  outbox::mail mail;
  ::grpc::Alarm stopping_alarm;
  ::grpc::Alarm closing_alarm;
  event_of<lane, &lane::stop> stopping_event{this};
  event_of<lane, &lane::close> closing_event{this};
  std::thread thread;
};

// --- ModelInfer

/// One ModelInfer. Belongs to its lane until it has ended there, and to its call until that is destroyed.
class infer_rpc final : public open_rpc, public infer_exchange {
 public:
  /// On the lane's thread, or before it runs.
  static void make(lane& from) {
    void* at = nullptr;
    if (from.spare.empty()) {
      at = ::operator new(sizeof(infer_rpc));
    } else {
      at = from.spare.back();
      from.spare.pop_back();
    }
    ::new (at) infer_rpc(from);
  }
  infer_rpc(const infer_rpc&) = delete;
  infer_rpc& operator=(const infer_rpc&) = delete;

  std::string_view body() const override { return body_.text(); }
  std::string_view metadata(std::string_view name) override { return metadata_of(context_, name); }
  nanos deadline() const override { return deadline_of(context_); }
  bool gone() const override { return gone_.load(std::memory_order_relaxed); }
  const trace_ptr& trace() const override { return trace_; }

  void reply(const infer_response& response, std::string_view request_id) override {
    if (ended_.exchange(true)) return;
    thread_local std::string text;  // kept between replies: most are of one size
    text.clear();
    write(text, response);
    request_id_ = request_id;
    outbox::put(out_, {this, nullptr, 0, 0, 0}, text);
    if (text.capacity() > most_kept_text) std::string().swap(text);
  }
  void fail(const status& why, nanos retry_after, std::string_view, std::string_view request_id) override {
    if (ended_.exchange(true)) return;
    request_id_ = request_id;
    outbox::put(out_, {this, std::make_unique<status>(why), retry_after, 0, 0}, {});
  }
  void release() override {
    shared_->open.fetch_sub(1, std::memory_order_relaxed);
    if (!unref()) return;
    this->~infer_rpc();  // the lane may be gone: its memory is not for it
    ::operator delete(this);
  }

  // On the lane.
  void abandon() override {
    refuse({status_code::unavailable, "the server is stopping"}, shared_->retry_after);
  }
  void send(std::string_view response) {
    tell_ids();
    over(status_code::ok);
    writer_.Finish(buffer_of(response), ::grpc::Status::OK, tag(finished_event_));
  }
  void send(const status& why, nanos retry_after) {
    tell_ids();
    over(why.code);
    writer_.FinishWithError(ending(context_, why, retry_after), tag(finished_event_));
  }

 private:
  explicit infer_rpc(lane& from) : lane_(from), shared_(from.shared), out_(from.out) {
    context_.AsyncNotifyWhenDone(tag(gone_event_));
    from.owner.infers.request(context_, request_, writer_, *from.queue, tag(arrived_event_));
  }
  ~infer_rpc() = default;

  void arrived(bool ok) {
    if (!ok) return retire();  // it never was a call, and gone_event_ does not come
    lane_.link(*this);
    refs_.store(1, std::memory_order_relaxed);
    arrived_ = lane_.now;
    if (lane_.closing) return abandon();
    make(lane_);
    trace_ = trace_of(lane_.owner.options.tracer, context_, infer_path, lane_.now);
    auto asked = ask(lane_.owner.options.guard, context_, guard::kind::inference);
    if (!asked.ok()) return refuse(status_of(asked), asked.retry_after);
    if (shared_->log) who_ = asked.who;
    if (const status bad = body_.take(request_, lane_.owner.options.max_message); !bad.ok())
      return refuse(bad, 0);
    request_.Clear();
    shared_->open.fetch_add(1, std::memory_order_relaxed);
    shared_->last_came.store(lane_.now, std::memory_order_relaxed);
    refs_.store(2, std::memory_order_relaxed);
    lane_.taken.push_back(std::make_unique<infer_call>(
        *this, shared_->infer, lane_.now, serving::caller(std::move(asked.who), lane_.owner.options.guard)));
  }
  void gone(bool) {
    if (context_.IsCancelled()) gone_.store(true, std::memory_order_relaxed);
    part_done();
  }
  void finished(bool) { part_done(); }
  void part_done() {
    if (--left_ > 0) return;
    lane_.unlink(*this);
    if (unref()) retire();
  }
  [[nodiscard]] bool unref() { return refs_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  /// On the lane.
  void retire() {
    lane& kept_by = lane_;
    this->~infer_rpc();
    if (kept_by.spare.size() < most_spare)
      kept_by.spare.push_back(this);
    else
      ::operator delete(this);
  }
  void refuse(const status& why, nanos retry_after) {
    if (!ended_.exchange(true)) send(why, retry_after);
  }
  void over(status_code code) {
    end_trace(trace_, code);
    tell_request(shared_->log, context_, infer_path, arrived_, code, who_, request_id_, trace_);
  }
  void tell_ids() {
    if (sendable(request_id_)) context_.AddInitialMetadata("x-request-id", request_id_);
    if (trace_) context_.AddInitialMetadata("traceresponse", trace_->traceparent());
  }

  lane& lane_;
  const std::shared_ptr<shared_state> shared_;
  const std::shared_ptr<outbox> out_;
  std::string request_id_;
  ::grpc::ServerContext context_;
  ::grpc::ByteBuffer request_;
  ::grpc::ServerAsyncResponseWriter<::grpc::ByteBuffer> writer_{&context_};
  message_body body_;
  trace_ptr trace_;
  guard::client_ptr who_;  ///< for the log
  nanos arrived_ = 0;
  std::atomic<int> refs_{1};
  std::atomic<bool> ended_{false};
  std::atomic<bool> gone_{false};
  int left_ = 2;  // the end and gone_event_
  event_of<infer_rpc, &infer_rpc::arrived> arrived_event_{this};
  event_of<infer_rpc, &infer_rpc::gone> gone_event_{this};
  event_of<infer_rpc, &infer_rpc::finished> finished_event_{this};
};

// --- everything else, by the generic service

class other_rpc;

/// What a method does with its call. Called on the lane's thread, one at a time.
class role {
 public:
  role() = default;
  role(const role&) = delete;
  role& operator=(const role&) = delete;
  virtual ~role() = default;
  /// The first message is read without being asked for.
  virtual void message(message_body&& body) = 0;
  /// No more messages: the client has ended its side, or has gone.
  virtual void ended() = 0;
  virtual void written() {}
  virtual void stopping() {}
  /// The call is over: nothing is called any more, and the rest of the role's own references go.
  virtual void over() {}
};

/// A call of any other method: messages both ways, one after the other. read(), send() and finish() may be
/// called from any thread, while the caller holds a reference; after the end they do nothing.
class other_rpc final : public open_rpc {
 public:
  explicit other_rpc(lane& from) : lane_(from), shared_(from.shared) {
    context_.AsyncNotifyWhenDone(tag(gone_event_));
    from.owner.others.RequestCall(&context_, &stream_, from.queue.get(), from.queue.get(),
                                  tag(arrived_event_));
  }

  void read() {
    const std::lock_guard lock(mutex_);
    if (reading_ || no_more_ || over_) return;
    reading_ = true;
    message_.Clear();
    stream_.Read(&message_, tag(read_event_));
  }
  void send(std::string&& message) {
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    waiting_.push_back(std::move(message));
    go_on();
  }
  void finish(const status& how, nanos retry_after = 0) {
    {
      const std::lock_guard lock(mutex_);
      if (ending_) return;
      ending_ = end{how, retry_after};
    }
    // The caller's reference keeps all of it; what is told is told before the client can see the end.
    tell_end(how.code);
    const std::lock_guard lock(mutex_);
    go_on();
  }
  /// Of one request of a stream, or of this as a whole.
  void tell(nanos arrived, status_code code, std::string_view request_id, const trace_ptr& trace) const {
    tell_request(shared_->log, context_, path(), arrived, code, who_, request_id, trace);
  }
  [[nodiscard]] std::size_t waiting() {
    const std::lock_guard lock(mutex_);
    return waiting_.size();
  }
  [[nodiscard]] bool gone() const { return gone_.load(std::memory_order_relaxed); }
  [[nodiscard]] nanos deadline() const { return deadline_of(context_); }
  [[nodiscard]] std::string_view metadata(std::string_view name) const { return metadata_of(context_, name); }
  [[nodiscard]] const std::string& path() const { return context_.method(); }
  [[nodiscard]] guard::verdict ask_guard(guard::kind what) const {
    return ask(lane_.owner.options.guard, context_, what);
  }
  /// Who was let in when the call began.
  [[nodiscard]] const guard::client_ptr& who() const { return who_; }
  /// Of one request of a stream: a stream may be open for days.
  [[nodiscard]] trace_ptr begin_trace() const {
    return trace_of(lane_.owner.options.tracer, context_, stream_path, lane_.now);
  }
  [[nodiscard]] lane& on() { return lane_; }
  [[nodiscard]] const std::shared_ptr<shared_state>& shared() const { return shared_; }

  void ref() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void unref() {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  void abandon() override {
    {
      const std::lock_guard lock(mutex_);
      waiting_.clear();
    }
    finish({status_code::unavailable, "the server is stopping"}, shared_->retry_after);
  }
  void stopping() override {
    if (role_) role_->stopping();
  }

 private:
  struct end {
    status how;
    nanos retry_after = 0;
  };

  /// Probes are not told of, nor streams that end as they should: their requests were.
  void tell_end(status_code code) const {
    if (!shared_->log) return;
    const guard::kind of = kind_of(path());
    const bool told = code == status_code::ok || code == status_code::cancelled
                          ? of != guard::kind::health && path() != stream_path
                          : of != guard::kind::health;
    if (told) tell(arrived_, code, {}, nullptr);
  }

  /// Under the lock: one operation at a time, messages first.
  void go_on() {
    if (writing_ || over_) return;
    if (!waiting_.empty()) {
      writing_ = true;
      stream_.Write(buffer_of(std::move(waiting_.front())), tag(written_event_));
      waiting_.pop_front();
    } else if (ending_) {
      writing_ = over_ = true;
      stream_.Finish(ending(context_, ending_->how, ending_->retry_after), tag(finished_event_));
    }
  }

  void arrived(bool ok);
  void read_done(bool ok) {
    message_body body;
    status bad;
    if (ok) bad = body.take(message_, lane_.owner.options.max_message);
    {
      const std::lock_guard lock(mutex_);
      reading_ = false;
      if (!ok || !bad.ok()) no_more_ = true;
      message_.Clear();
    }
    if (!bad.ok())
      finish(bad);
    else if (ok)
      role_->message(std::move(body));
    else
      role_->ended();
    perhaps_over();
  }
  void written(bool ok) {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      if (!ok) waiting_.clear();  // nobody is there
    }
    role_->written();
    const std::lock_guard lock(mutex_);
    go_on();
  }
  void finished(bool) {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
    }
    finished_ = true;
    perhaps_over();
  }
  void was_gone(bool) {
    told_ = true;
    if (context_.IsCancelled()) gone_.store(true, std::memory_order_relaxed);
    if (gone()) {
      {
        const std::lock_guard lock(mutex_);
        waiting_.clear();
      }
      finish({status_code::cancelled, "cancelled"});
    }
    perhaps_over();
  }
  void perhaps_over() {
    if (!finished_ || !told_ || left_) return;
    {
      const std::lock_guard lock(mutex_);
      if (reading_) return;
    }
    left_ = true;
    lane_.unlink(*this);
    if (role_) role_->over();
    unref();
  }

  lane& lane_;
  const std::shared_ptr<shared_state> shared_;
  ::grpc::GenericServerContext context_;
  ::grpc::GenericServerAsyncReaderWriter stream_{&context_};
  std::unique_ptr<role> role_;
  guard::client_ptr who_;
  nanos arrived_ = 0;
  std::atomic<int> refs_{1};
  std::atomic<bool> gone_{false};
  // On the lane's thread only.
  bool finished_ = false;
  bool told_ = false;
  bool left_ = false;
  // Under the lock.
  std::mutex mutex_;
  ::grpc::ByteBuffer message_;
  std::deque<std::string> waiting_;
  std::optional<end> ending_;
  bool reading_ = false;
  bool no_more_ = false;
  bool writing_ = false;
  bool over_ = false;

  event_of<other_rpc, &other_rpc::arrived> arrived_event_{this};
  event_of<other_rpc, &other_rpc::read_done> read_event_{this};
  event_of<other_rpc, &other_rpc::written> written_event_{this};
  event_of<other_rpc, &other_rpc::finished> finished_event_{this};
  event_of<other_rpc, &other_rpc::was_gone> gone_event_{this};
};

/// One message, one answer.
class unary final : public role {
 public:
  unary(other_rpc& rpc, const method& what) : rpc_(rpc), method_(what) {}
  void message(message_body&& body) override {
    asked_ = true;
    if (rpc_.who() && !rpc_.who()->may_all()) {
      const std::string model = model_named(rpc_.path(), body.text());
      if (!model.empty() && !rpc_.who()->may_use_model(model))
        return rpc_.finish(
            status_of(rpc_.on().owner.options.guard->keeper->refuse(door::grpc, guard::refusal::model)));
    }
    if (!method_.blocking) return answer(rpc_, method_, body.text());
    rpc_.ref();
    const bool will =
        rpc_.on().owner.background.post([rpc = &rpc_, what = &method_, text = std::string(body.text())] {
          answer(*rpc, *what, text);
          rpc->unref();
        });
    if (will) return;
    rpc_.finish({status_code::unavailable, "too many of these are waiting"}, rpc_.shared()->retry_after);
    rpc_.unref();
  }
  void ended() override {
    if (!asked_) rpc_.finish({status_code::invalid_argument, "there is no request"});
  }

 private:
  static void answer(other_rpc& rpc, const method& what, std::string_view request) {
    std::string response;
    const status how = what.answer(request, response, rpc.who().get());
    if (how.ok()) rpc.send(std::move(response));
    rpc.finish(how);
  }

  other_rpc& rpc_;
  const method& method_;
  bool asked_ = false;
};

/// ModelStreamInfer. What is open here: read, and its response is not yet written. At the limit nothing is
/// read, so a client that sends without reading is slowed down by flow control.
class infer_stream final : public role {
 public:
  explicit infer_stream(other_rpc& rpc) : rpc_(rpc), most_(rpc.on().owner.options.max_stream_open) {}

  void message(message_body&& body) override;
  void ended() override {
    ended_ = true;
    perhaps_end();
  }
  void written() override {
    --open_;
    if (ended_)
      perhaps_end();
    else if (!stopping_)
      rpc_.read();
  }
  void stopping() override {
    stopping_ = true;
    perhaps_end();
  }

 private:
  void perhaps_end() {
    if (open_ > 0) return;
    if (ended_)
      rpc_.finish({});
    else if (stopping_)
      rpc_.finish({status_code::unavailable, "the server is stopping"}, rpc_.shared()->retry_after);
  }

  other_rpc& rpc_;
  const std::size_t most_;
  std::size_t open_ = 0;
  bool ended_ = false;
  bool stopping_ = false;
};

/// One request of a stream.
class streamed final : public infer_exchange {
 public:
  streamed(other_rpc& rpc, message_body&& body)
      : rpc_(rpc), body_(std::move(body)), trace_(rpc.begin_trace()), arrived_(rpc.on().now) {
    rpc_.ref();
  }

  std::string_view body() const override { return body_.text(); }
  std::string_view metadata(std::string_view name) override { return rpc_.metadata(name); }
  nanos deadline() const override { return rpc_.deadline(); }
  bool gone() const override { return rpc_.gone(); }
  const trace_ptr& trace() const override { return trace_; }
  void reply(const infer_response& response, std::string_view request_id) override {
    end_trace(trace_, status_code::ok);
    rpc_.tell(arrived_, status_code::ok, request_id, trace_);
    std::string text;
    write_streamed(text, response);
    rpc_.send(std::move(text));
  }
  void fail(const status& why, nanos, std::string_view id, std::string_view request_id) override {
    end_trace(trace_, why.code);
    rpc_.tell(arrived_, why.code, request_id, trace_);
    std::string text;
    write_streamed_error(text, std::string_view(why.message).substr(0, most_message), id);
    rpc_.send(std::move(text));
  }
  void release() override {
    rpc_.shared()->open.fetch_sub(1, std::memory_order_relaxed);
    rpc_.unref();
    delete this;
  }

 private:
  ~streamed() = default;
  other_rpc& rpc_;
  message_body body_;
  trace_ptr trace_;
  const nanos arrived_;
};

void infer_stream::message(message_body&& body) {
  auto asked = rpc_.ask_guard(guard::kind::inference);
  const int refused = asked.ok() ? 0 : guard::http_status_of(asked.why);
  if (refused == 401 || refused == 403)
    return rpc_.finish(status_of(asked));  // a token that has expired since
  ++open_;
  shared_state& shared = *rpc_.shared();
  shared.open.fetch_add(1, std::memory_order_relaxed);
  shared.last_came.store(rpc_.on().now, std::memory_order_relaxed);
  auto made =
      std::make_unique<infer_call>(*new streamed(rpc_, std::move(body)), shared.infer, rpc_.on().now,
                                   serving::caller(std::move(asked.who), rpc_.on().owner.options.guard));
  if (refused != 0)
    made->refuse(status_of(asked), asked.retry_after);
  else
    rpc_.on().taken.push_back(std::move(made));
  if (open_ < most_ && !stopping_) rpc_.read();
}

class reflection_stream final : public role {
 public:
  explicit reflection_stream(other_rpc& rpc) : rpc_(rpc) {}
  void message(message_body&& body) override {
    std::string response;
    if (reflect(body.text(), response))
      rpc_.send(std::move(response));
    else
      rpc_.finish({status_code::invalid_argument, "the message is not a ServerReflectionRequest"});
  }
  void written() override { rpc_.read(); }
  void ended() override { rpc_.finish({}); }
  void stopping() override { rpc_.finish({status_code::unavailable, "the server is stopping"}); }

 private:
  other_rpc& rpc_;
};

/// Health/Watch.
class watch final : public role {
 public:
  explicit watch(other_rpc& rpc) : rpc_(rpc), owner_(rpc.on().owner) {}
  void message(message_body&& body) override {
    if (!read_health_request(body.text(), service_))
      return rpc_.finish({status_code::invalid_argument, "the message is not a HealthCheckRequest"});
    const std::lock_guard lock(owner_.watches_mutex);
    owner_.watches.insert(this);
    look();
  }
  void ended() override {}  // it goes on until the client cancels
  void stopping() override {
    {
      const std::lock_guard lock(owner_.watches_mutex);
      look();
    }
    rpc_.finish({status_code::unavailable, "the server is stopping"});
  }
  void over() override {
    const std::lock_guard lock(owner_.watches_mutex);
    owner_.watches.erase(this);
  }
  /// Under the lock of the watches.
  void look() {
    const health now = health_of(*owner_.backend, owner_.draining.load(), service_);
    if (now == told_ || rpc_.waiting() > 0) return;  // a client that does not read hears of it later
    told_ = now;
    rpc_.send(write_health(now));
  }

 private:
  other_rpc& rpc_;
  server_parts& owner_;
  std::string service_;
  health told_ = health::unknown;
};

void other_rpc::arrived(bool ok) {
  if (!ok) {
    delete this;
    return;
  }
  lane_.link(*this);
  arrived_ = lane_.now;
  if (lane_.closing) return abandon();
  new other_rpc(lane_);
  const std::string& path = context_.method();
  auto asked = ask_guard(kind_of(path));
  if (!asked.ok()) return finish(status_of(asked), asked.retry_after);
  who_ = std::move(asked.who);
  const auto& methods = lane_.owner.methods;
  if (const auto found = methods.find(path); found != methods.end())
    role_ = std::make_unique<unary>(*this, found->second);
  else if (path == stream_path)
    role_ = std::make_unique<infer_stream>(*this);
  else if (path == watch_path)
    role_ = std::make_unique<watch>(*this);
  else if (path == reflection_paths[0] || path == reflection_paths[1])
    role_ = std::make_unique<reflection_stream>(*this);
  else
    return finish({status_code::unimplemented, "there is no method " + path.substr(0, 200)});
  read();
}

// --- lanes

void lane::start() {
  for (int i = 0; i < ready_infers; ++i) infer_rpc::make(*this);
  for (int i = 0; i < ready_others; ++i) new other_rpc(*this);
  thread = std::thread([this] { run(); });
}

void lane::deliver(bool) {
  out->take(mail);
  for (const auto& one : mail.letters) {
    if (one.why)
      one.to->send(*one.why, one.retry_after);
    else
      one.to->send(std::string_view(mail.text).substr(one.begin, one.size));
  }
}

void lane::run() {
  void* what = nullptr;
  bool ok = false;
  while (queue->Next(&what, &ok)) {
    now = steady_now();
    static_cast<event*>(what)->happened(ok);
    // What else there is by now, so that it can travel together. Each look serves one connection, so one that
    // finds nothing does not say that there is nothing.
    for (int in_vain = 0; in_vain < looks_in_vain && taken.size() < most_together;) {
      if (queue->AsyncNext(&what, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC)) !=
          ::grpc::CompletionQueue::GOT_EVENT) {
        ++in_vain;
        continue;
      }
      in_vain = 0;
      static_cast<event*>(what)->happened(ok);
    }
    if (taken.empty()) continue;
    std::vector<std::unique_ptr<call>> together;
    together.reserve(taken.size());
    for (auto& one : taken) together.push_back(std::move(one));
    taken.clear();
    owner.take(index, std::move(together));
  }
}

/// What the library would only log: that and why the port can't be had. It then has a moment to be taken by
/// another program, for which the library's own failure is reported too.
void try_port(const server_options& options) {
  const std::string where = options.name + ": port " + std::to_string(options.port);
  sockaddr_storage address{};
  socklen_t size = 0;
  if (auto* four = reinterpret_cast<sockaddr_in*>(&address);
      inet_pton(AF_INET, options.bind.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(static_cast<std::uint16_t>(options.port));
    size = sizeof *four;
  } else if (auto* six = reinterpret_cast<sockaddr_in6*>(&address);
             inet_pton(AF_INET6, options.bind.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(static_cast<std::uint16_t>(options.port));
    size = sizeof *six;
  } else {
    throw bind_error(where + ": '" + options.bind +
                     "' is no IP address; use for example 0.0.0.0 or 127.0.0.1");
  }
  const int one = 1, socket = ::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int error = socket < 0 ? errno : 0;
  if (error == 0) ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (error == 0 && ::bind(socket, reinterpret_cast<sockaddr*>(&address), size) != 0) error = errno;
  if (error == 0 && ::listen(socket, 1) != 0) error = errno;
  if (socket >= 0) ::close(socket);
  if (error == 0) return;
  if (error == EADDRINUSE)
    throw bind_error(where + " is in use: end the program that listens there, or set " + options.name +
                     " to a free port (0 takes any)");
  if (error == EACCES)
    throw bind_error(where + " is not allowed: ports below 1024 need a privilege; set " + options.name +
                     " to a higher one");
  throw bind_error(where + " can't be opened: " + std::strerror(error));
}

std::shared_ptr<::grpc::ServerCredentials> credentials_of(const server_options& options,
                                                          std::unique_ptr<tls_copies>& copies) {
  if (const std::string fault = tls_fault(options.tls, options.name); !fault.empty())
    throw std::runtime_error(fault);
  const tls_files& files = options.tls;
  if (files.certificate.empty()) return ::grpc::InsecureServerCredentials();
  copies = std::make_unique<tls_copies>(files, options.name, options.tls_refused);
  namespace tls = ::grpc::experimental;
  constexpr unsigned refresh = 1;  // second: the copies change only when the files can be used
  const std::string identity = copies->identity();
  auto provider = files.client_ca.empty()
                      ? std::make_shared<tls::FileWatcherCertificateProvider>(identity, identity, refresh)
                      : std::make_shared<tls::FileWatcherCertificateProvider>(identity, identity,
                                                                              copies->client_ca(), refresh);
  tls::TlsServerCredentialsOptions how(std::move(provider));
  how.watch_identity_key_cert_pairs();
  if (!files.client_ca.empty()) {
    how.watch_root_certs();
    how.set_cert_request_type(files.client_required
                                  ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                  : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return tls::TlsServerCredentials(how);
}

int milliseconds(std::chrono::milliseconds t) {
  return t.count() <= 0 ? INT32_MAX : static_cast<int>(std::min<std::int64_t>(t.count(), INT32_MAX));
}

void (*library_log)(std::string_view) = nullptr;

/// The library stays initialized for good: calls may outlive servers.
void begin_library() {
  static const bool once = [] {
    ::grpc_init();
    gpr_set_log_function([](gpr_log_func_args* said) {
      if (library_log != nullptr && said->severity == GPR_LOG_SEVERITY_ERROR) library_log(said->message);
    });
    return true;
  }();
  (void)once;
}

}  // namespace

void server_parts::listen() {
  begin_library();
  const auto credentials = credentials_of(options, certificates);
  try_port(options);
  methods = make_methods(
      backend, {options.server_name, options.server_version, static_cast<int>(options.infer.max_rows)},
      draining);

  ::grpc::ServerBuilder builder;
  const int most = static_cast<int>(std::min<std::size_t>(options.max_message, INT32_MAX));
  builder.SetMaxReceiveMessageSize(most);
  builder.SetMaxSendMessageSize(-1);
  const auto set = [&](const char* name, int value) { builder.AddChannelArgument(name, value); };
  set(GRPC_ARG_ALLOW_REUSEPORT, 0);  // otherwise a second server takes the same port, and half of the calls
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS,
      static_cast<int>(std::min<std::size_t>(options.max_streams, INT32_MAX)));
  set(GRPC_ARG_KEEPALIVE_TIME_MS, milliseconds(options.keepalive));
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, milliseconds(options.keepalive_timeout));
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  set(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // an idle connection is asked again and again
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, milliseconds(options.min_ping_interval));
  set(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10);
  set(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);  // unpack.hpp does it, with a limit
  set(GRPC_ARG_ENABLE_CHANNELZ, 0);
  if (options.idle_timeout.count() > 0)
    set(GRPC_ARG_MAX_CONNECTION_IDLE_MS, milliseconds(options.idle_timeout));
  if (options.max_age.count() > 0) set(GRPC_ARG_MAX_CONNECTION_AGE_MS, milliseconds(options.max_age));
  const bool six = options.bind.find(':') != std::string::npos;
  const std::string address =
      (six ? "[" + options.bind + "]" : options.bind) + ":" + std::to_string(options.port);
  builder.AddListeningPort(address, credentials, &port);
  builder.RegisterService(&infers);
  builder.RegisterAsyncGenericService(&others);

  auto shared = std::make_shared<shared_state>();
  shared->infer = options.infer;
  shared->retry_after = std::chrono::nanoseconds(options.retry_after).count();
  shared->log = options.log;
  for (std::size_t i = 0; i < std::max<std::size_t>(1, options.threads); ++i)
    lanes.push_back(std::make_unique<lane>(*this, shared, i, builder.AddCompletionQueue()));
  grpc = builder.BuildAndStart();
  if (!grpc || port == 0) {
    for (auto& one : lanes) one->queue->Shutdown();
    throw bind_error(options.name + ": port " + std::to_string(options.port) + " can't be opened");
  }
}

void server_parts::start(server::taker how) {
  take = std::move(how);
  background.start();
  for (auto& one : lanes) one->start();
}

void server_parts::refresh_health() {
  const std::lock_guard lock(watches_mutex);
  for (watch* one : watches) one->look();
}

void server_parts::stop(std::chrono::milliseconds grace) {
  const std::lock_guard lock(stop_mutex);
  if (std::exchange(stopped, true) || !grpc) return;
  draining = true;
  farewell.forget();
  const bool started = !lanes.empty() && lanes.front()->thread.joinable();
  if (started)
    for (auto& one : lanes) one->tell_stopping();
  grpc->Shutdown(std::chrono::system_clock::now() + grace);
  background.stop();
  for (auto& one : lanes) {
    if (started) {
      one->tell_closing();
      one->thread.join();
    } else {
      one->queue->Shutdown();
    }
    void* what = nullptr;
    bool ok = false;
    while (one->queue->Next(&what, &ok)) static_cast<event*>(what)->happened(ok);
  }
}

std::string server::reload_tls() {
  return parts_->certificates ? parts_->certificates->look() : std::string();
}

server::server(const server_options& options, std::shared_ptr<serving::backend> backend)
    : parts_(std::make_unique<server_parts>(options, std::move(backend))) {
  parts_->listen();
}
server::~server() = default;

void server::start(taker take) {
  parts_->start(std::move(take));
}
int server::port() const {
  return parts_->port;
}
std::size_t server::open() const {
  return parts_->lanes.front()->shared->open.load(std::memory_order_relaxed);
}
void server::refresh_health() {
  parts_->refresh_health();
}
void server::drain() {
  parts_->draining = true;
  parts_->drains_since = steady_now();
  parts_->refresh_health();
  parts_->farewell.send(*parts_->grpc);
}
bool server::wait_drained(nanos deadline) {
  const nanos words = std::chrono::nanoseconds(parts_->options.last_words).count();
  const auto& shared = *parts_->lanes.front()->shared;
  for (;;) {
    const nanos now = steady_now();
    const nanos last = shared.last_came.load(std::memory_order_relaxed);
    const bool quiet = last == 0 || now - std::max(last, parts_->drains_since) >= quiet_for;
    if (open() == 0 && (quiet || now - parts_->drains_since >= words)) return true;
    if (now >= deadline) return open() == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}
void server::stop(std::chrono::milliseconds grace) {
  parts_->stop(grace);
}

void set_library_log(void (*log)(std::string_view text)) {
  library_log = log;
  begin_library();
}

}  // namespace troupe::rpc
