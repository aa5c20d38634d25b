#include "runtime/traffic/grpc_run.hpp"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <netdb.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

namespace troupe::traffic {
namespace {

using clock_type = std::chrono::steady_clock;

constexpr int calls_a_connection = 100;  // what servers commonly allow at a time

const char* name_of(::grpc::StatusCode code) {
  static constexpr std::array<const char*, 17> names = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  const auto at = static_cast<std::size_t>(code);
  return at < names.size() ? names[at] : "UNKNOWN";
}

std::string contents(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error(file + ": can't be read");
  return {std::istreambuf_iterator<char>(in), {}};
}

std::shared_ptr<::grpc::ChannelCredentials> credentials(const grpc_target& to) {
  if (!to.tls) return ::grpc::InsecureChannelCredentials();
  ::grpc::SslCredentialsOptions o;
  if (!to.files.ca.empty()) o.pem_root_certs = contents(to.files.ca);
  if (!to.files.certificate.empty()) {
    o.pem_cert_chain = contents(to.files.certificate);
    o.pem_private_key = contents(to.files.key);
  }
  return ::grpc::SslCredentials(o);
}

/// gRPC does not say why it can't connect.
void probe(const grpc_target& to) {
  const std::string where = to.host + ":" + to.port;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(to.host.c_str(), to.port.c_str(), &hints, &found); error != 0)
    throw std::runtime_error(where + ": " + ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  std::string why = "no address";
  for (const addrinfo* a = found; a; a = a->ai_next) {
    const int fd = ::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    const timeval limit{10, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const bool connected = ::connect(fd, a->ai_addr, a->ai_addrlen) == 0;
    why = connected ? "" : errno == EINPROGRESS ? "no answer" : std::strerror(errno);
    ::close(fd);
    if (connected) return;
  }
  throw std::runtime_error(where + ": " + why);
}

struct one_call {
  std::optional<::grpc::ClientContext> context;
  std::unique_ptr<::grpc::GenericClientAsyncResponseReader> reader;
  ::grpc::ByteBuffer reply;
  ::grpc::Status status;
  std::int64_t due = 0;
  std::size_t channel = 0;
  bool busy = false;
};

class grpc_load {
 public:
  grpc_load(const grpc_target& to, const std::vector<std::string>& messages, const plan& p,
            const observer& who)
      : to_(to), plan_(p), who_(who), tally_(p), pacer_(p) {
    for (const auto& m : messages) {
      const ::grpc::Slice slice(m);
      messages_.emplace_back(&slice, 1);
    }
  }

  report run() {
    connect();
    const std::size_t at_a_time =
        static_cast<std::size_t>(plan_.connections) * (pacer_.open_loop() ? calls_a_connection : 1);
    for (std::size_t i = 0; i < at_a_time; ++i) {
      calls_.push_back(std::make_unique<one_call>());
      calls_.back()->channel = i % stubs_.size();
      free_.push_back(calls_.back().get());
    }
    std::reverse(free_.begin(), free_.end());
    begin_ = clock_type::now();
    std::thread ending([this] { end_calls(); });
    const report r = send();
    queue_.Shutdown();
    ending.join();
    return r;
  }

 private:
  [[nodiscard]] std::int64_t elapsed() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(clock_type::now() - begin_).count();
  }
  [[nodiscard]] bool stopping() const { return who_.stop && *who_.stop; }

  void connect() {
    probe(to_);
    const auto secured = credentials(to_);
    const std::string host = to_.host.find(':') == std::string::npos ? to_.host : "[" + to_.host + "]";
    for (int i = 0; i < plan_.connections; ++i) {
      ::grpc::ChannelArguments a;
      a.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
      a.SetMaxReceiveMessageSize(-1);
      a.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
      auto channel = ::grpc::CreateCustomChannel(host + ":" + to_.port, secured, a);
      (void)channel->GetState(true);
      stubs_.push_back(std::make_unique<::grpc::GenericStub>(channel));
      channels_.push_back(std::move(channel));
    }
    for (const auto& channel : channels_)
      if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10)))
        throw std::runtime_error(to_.host + ":" + to_.port + ": connected, but no gRPC: " +
                                 (to_.tls ? "TLS or its certificate is not what was expected"
                                          : "is it an HTTP port, or one with TLS?"));
  }

  /// Under mutex_.
  void begin(one_call& c, std::int64_t now) {
    c.busy = true;
    c.due = pacer_.due(next_, now);
    c.context.emplace();
    for (const auto& [name, value] : to_.metadata) c.context->AddMetadata(name, value);
    c.reply.Clear();
    c.status = {};
    const auto& message = messages_[static_cast<std::size_t>(next_) % messages_.size()];
    ++next_;
    if (tally_.out() == 0) idle_since_ = now;
    tally_.sent(c.due);
    c.reader = stubs_[c.channel]->PrepareUnaryCall(&*c.context, to_.method, message, &queue_);
    c.reader->StartCall();
    c.reader->Finish(&c.reply, &c.status, &c);
  }

  report send() {
    ::prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);  // requests go out when they are due
    const auto warm = static_cast<std::int64_t>(plan_.warmup * 1e6);
    const auto patience = static_cast<std::int64_t>(plan_.wait_for * 1e6);
    bool measuring = false;
    std::int64_t shown = 0;
    for (;;) {
      const std::int64_t now = elapsed();
      if (!measuring && now >= warm) {
        measuring = true;
        if (who_.on_measuring) who_.on_measuring();
      }
      std::int64_t pause = 0;
      progress p;
      {
        const std::lock_guard lock(mutex_);
        const std::int64_t most = pacer_.allowed(now, next_, stopping());
        for (int burst = 64; burst > 0 && next_ < most && !free_.empty(); --burst) {
          one_call& c = *free_.back();
          free_.pop_back();
          begin(c, now);
        }
        if (pacer_.ended() && next_ >= most && tally_.out() == 0) return finish();
        if ((tally_.out() > 0 || next_ < most) &&
            now - std::max(tally_.last_answer(), idle_since_) > patience) {
          give_up(most);
          return finish();
        }
        if (next_ < most)
          pause = free_.empty() ? 200 : 0;
        else
          pause = pacer_.pause(next_, elapsed(), pacer_.ended() ? 1000 : 20'000);
        p = {tally_.all_sent(), tally_.all_answered(), static_cast<double>(now) / 1e6};
      }
      if (who_.on_progress && now - shown >= 200'000) {
        shown = now;
        who_.on_progress(p);
      }
      if (pause > 0) std::this_thread::sleep_for(std::chrono::microseconds(pause));
    }
  }

  /// Under mutex_.
  report finish() {
    const report r = tally_.finish(stopping());
    over_ = true;
    for (const auto& c : calls_)
      if (c->busy) c->context->TryCancel();
    return r;
  }

  /// Under mutex_. Nobody has answered for too long.
  void give_up(std::int64_t most) {
    for (const auto& c : calls_)
      if (c->busy) tally_.lost(c->due);
    for (; pacer_.open_loop() && next_ < most; ++next_) {
      tally_.sent(pacer_.due(next_, 0));
      tally_.lost(pacer_.due(next_, 0));
    }
  }

  void end_calls() {
    void* what = nullptr;
    bool ok = false;
    while (queue_.Next(&what, &ok)) {
      auto& c = *static_cast<one_call*>(what);
      const std::int64_t now = elapsed();
      const std::lock_guard lock(mutex_);
      c.busy = false;
      if (over_) continue;
      if (c.status.ok())
        tally_.predicted(c.due, now);
      else
        tally_.failed(c.due, now, name_of(c.status.error_code()), c.status.error_message());
      // In a closed loop the next one follows from here. A server that is away refuses at once: then the
      // other thread begins it, after its pause.
      if (!pacer_.open_loop() && c.status.ok() && next_ < pacer_.allowed(now, next_, stopping()))
        begin(c, now);
      else
        free_.push_back(&c);
    }
  }

  const grpc_target& to_;
  const plan& plan_;
  const observer& who_;
  std::vector<::grpc::ByteBuffer> messages_;
  clock_type::time_point begin_;
  std::vector<std::shared_ptr<::grpc::Channel>> channels_;
  std::vector<std::unique_ptr<::grpc::GenericStub>> stubs_;
  ::grpc::CompletionQueue queue_;
  std::mutex mutex_;  // guards what follows
  std::vector<std::unique_ptr<one_call>> calls_;
  std::vector<one_call*> free_;
  tally tally_;
  pacer pacer_;
  std::int64_t next_ = 0;
  std::int64_t idle_since_ = 0;
  bool over_ = false;
};

}  // namespace

grpc_target read_grpc_address(const std::string& text) {
  const bool scheme = text.find("://") != std::string::npos;
  const http_target url = read_url(scheme ? text : "http://" + text);
  const auto host_at = scheme ? text.find("://") + 3 : 0;
  if (url.path != "/" ||
      text.find(':', text.rfind(']') == std::string::npos ? host_at : text.rfind(']')) == std::string::npos)
    throw std::invalid_argument(text + ": expected host:port");
  grpc_target to;
  to.host = url.host;
  to.port = url.port;
  to.tls = url.tls;
  return to;
}

report run_grpc(const grpc_target& to, const std::vector<std::string>& messages, const plan& p,
                const observer& who) {
  return grpc_load(to, messages, p, who).run();
}

}  // namespace troupe::traffic
