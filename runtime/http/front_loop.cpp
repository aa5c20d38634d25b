#include "runtime/http/front_loop.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <new>
#include <random>
#include <system_error>
#include <utility>

#include "runtime/http/reply_head.hpp"
#include "runtime/http/text.hpp"

namespace troupe::http {

enum class phase {
  handshake,
  head,
  body,
  chunks,
  waiting,    // for the reply
  writing,    // what the socket did not take at once
  lingering,  // answered for the last time: what still comes is thrown away
  closed,
};

/// A connection that idles has this and its socket, and no buffer.
struct front_connection {
  int socket = -1;
  phase now = phase::head;
  bool readable = true;      // there may be something to read
  bool ended = false;        // the client has ended its side
  bool started = false;      // a request has begun
  bool close_after = false;  // the reply that is being written is the last
  bool queued = false;       // in the list of those that go on in the next turn
  nanos deadline = 0;
  std::size_t slot = 0;     // its place in the loop's list
  std::size_t scanned = 0;  // so much of `pending` holds no end of a header
  std::string pending;      // read, and not used yet
  pooled_exchange* current = nullptr;
  std::string_view out_head;  // left to write
  std::string_view out_body;
  std::unique_ptr<tls_session> tls;
  std::string client;
  std::string certificate;
};

namespace {

constexpr std::size_t read_bytes = 16 * 1024;
constexpr std::size_t body_step = 64 * 1024;
constexpr std::size_t worth_compressing = 1024;
constexpr std::size_t accepts_a_turn = 64;
constexpr std::size_t drain_turns = 64;  // a queue of 4096, as long as Linux' default lets one be
constexpr int reads_a_turn = 16;
constexpr nanos sweep_period = 250'000'000;
constexpr nanos linger_time = 1'000'000'000;
front_connection* const no_connection = nullptr;
constexpr std::string_view end_of_head = "\r\n\r\n";

nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

nanos nanos_of(std::chrono::milliseconds t) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(t).count();
}

bool usable_id(std::string_view id) {
  if (id.empty() || id.size() > 128) return false;
  for (const char c : id)
    if (c < 0x20 || c > 0x7e) return false;
  return true;
}

/// SplitMix64 (Steele, Lea, Flood 2014): fast, and unique is all that an id must be.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/// A line that ends without CR.
bool bare_line_feed(std::string_view text) {
  for (auto at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at + 1))
    if (at == 0 || text[at - 1] != '\r') return true;
  return false;
}

std::string address_text(const sockaddr_storage& from) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (from.ss_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(from).sin_addr, text.data(), text.size());
  } else if (from.ss_family == AF_INET6) {
    const auto& six = reinterpret_cast<const sockaddr_in6&>(from).sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&six))
      ::inet_ntop(AF_INET, &six.s6_addr[12], text.data(), text.size());
    else
      ::inet_ntop(AF_INET6, &six, text.data(), text.size());
  }
  return text.data();
}

struct transfer {
  enum class state { some, again, ended, failed };
  state what = state::again;
  std::size_t bytes = 0;
};

transfer of_tls(tls_session::transfer r) {
  switch (r.state) {
    case tls_state::done:
      return {transfer::state::some, r.bytes};
    case tls_state::again:
      return {};
    case tls_state::closed:
      return {transfer::state::ended, 0};
    case tls_state::failed:
      break;
  }
  return {transfer::state::failed, 0};
}

transfer of_call(ssize_t n) {
  if (n > 0) return {transfer::state::some, static_cast<std::size_t>(n)};
  if (n == 0) return {transfer::state::ended, 0};
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return {};
  return {transfer::state::failed, 0};
}

transfer read_some(front_connection& c, char* to, std::size_t most) {
  if (c.tls) return of_tls(c.tls->read(to, most));
  return of_call(::recv(c.socket, to, most, MSG_DONTWAIT));
}

transfer write_some(front_connection& c) {
  if (c.tls) {
    const std::string_view next = c.out_head.empty() ? c.out_body : c.out_head;
    return of_tls(c.tls->write(next.data(), next.size()));
  }
  std::array<iovec, 2> parts{{{const_cast<char*>(c.out_head.data()), c.out_head.size()},
                              {const_cast<char*>(c.out_body.data()), c.out_body.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = c.out_body.empty() ? 1 : 2;
  return of_call(::sendmsg(c.socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

}  // namespace

struct front_loop::impl {
  impl(front_shared& s, std::size_t i, std::shared_ptr<loop_port> p, std::atomic<std::size_t>& own)
      : shared(s), options(s.options), index(i), port(std::move(p)), count(own) {
    epoll = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
    watch(port->wake_socket(), EPOLLIN | EPOLLET, port.get());
    std::random_device seed;
    random = (static_cast<std::uint64_t>(seed()) << 32) ^ seed();
  }
  ~impl() {
    if (listener >= 0) ::close(listener);
    ::close(epoll);
  }
  impl(const impl&) = delete;
  impl& operator=(const impl&) = delete;

  void watch(int socket, std::uint32_t events, void* what) const {
    epoll_event e{};
    e.events = events;
    e.data.ptr = what;
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &e) != 0)
      throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  }

  void run();
  void turn();
  void end();

  // Connections.
  std::size_t accept();
  void adopt(loop_port::incoming&& one);

  // Reading.
  void event(front_connection& c, std::uint32_t events);
  void advance(front_connection& c);
  bool read_body(front_connection& c);
  void eat(front_connection& c, std::string_view& in);
  bool eat_head(front_connection& c, std::string_view& in);
  bool eat_body(front_connection& c, std::string_view& in);
  bool eat_chunks(front_connection& c, std::string_view& in);
  bool begin_body(front_connection& c);
  bool fits(front_connection& c, std::size_t bytes);
  void complete(front_connection& c);
  bool decode(front_connection& c);
  void hand_over(front_connection& c);

  // Writing.
  void refuse(front_connection& c, const refusal& why);
  [[nodiscard]] refusal too_large(const pooled_exchange& e) const {
    const std::string& path = shared.options.larger_body.first;
    const bool hint = !path.empty() && e.view.path == path;
    return {413, hint ? shared.too_large_with_hint : shared.too_large};
  }
  void replied(pooled_exchange* one);
  void send(front_connection& c, pooled_exchange& with, bool last);
  void write(front_connection& c);
  void written(front_connection& c);
  void linger(front_connection& c);
  void close(front_connection& c);
  void drain();
  void sweep();
  void timed_out(front_connection& c);

  /// Without memory for one connection the others go on.
  template <class Work>
  void guarded(front_connection& c, Work work) {
    try {
      work(c);
    } catch (const std::bad_alloc&) {
      close(c);
    }
  }

  void go_on(front_connection& c) {
    if (c.queued) return;
    c.queued = true;
    again.push_back(&c);
  }
  pooled_exchange* fresh() {
    pooled_exchange* one = port->take();
    if (!one->total) one->total = shared.buffered;
    return one;
  }
  void idle(front_connection& c) {
    c.now = phase::head;
    c.started = false;
    c.deadline = now + nanos_of(drained ? options.last_words : options.idle_timeout);
  }

  front_shared& shared;
  const front_options& options;
  const std::size_t index;
  std::shared_ptr<loop_port> port;
  std::atomic<std::size_t>& count;
  int epoll = -1;
  int listener = -1;
  bool accepting = false;
  std::function<front_loop&()> pick;

  nanos now = 0;
  nanos next_sweep = 0;
  std::time_t date_of = 0;
  std::string date;
  std::uint64_t random = 0;
  bool drained = false;
  bool taken = false;  // since the last turn_over
  std::vector<std::unique_ptr<front_connection>> all;
  std::vector<std::unique_ptr<front_connection>> buried;  // closed in this turn: an event may still name them
  std::vector<front_connection*> again;
  std::vector<front_connection*> going;
  std::vector<pooled_exchange*> done;
  std::vector<loop_port::incoming> sockets;
  std::array<char, read_bytes> scratch{};
};

// The loop

void front_loop::impl::run() {
  port->own_thread();
  while (!shared.stopping.load(std::memory_order_acquire)) turn();
  end();
}

void front_loop::impl::turn() {
  constexpr int most = 256;
  std::array<epoll_event, most> events;
  int timeout = -1;
  if (!again.empty() || !port->local().empty() || taken) {
    timeout = 0;
  } else if (!all.empty() || (listener >= 0 && !accepting)) {
    const nanos left = next_sweep - steady_now();
    timeout = left <= 0 ? 0 : static_cast<int>(left / 1'000'000 + 1);
  }
  const int n = ::epoll_wait(epoll, events.data(), most, timeout);
  now = steady_now();
  bool woken = false;
  going.swap(again);
  for (int i = 0; i < n; ++i) {
    const auto& e = events[static_cast<std::size_t>(i)];
    if (e.data.ptr == port.get())
      woken = true;
    else if (e.data.ptr == this)
      accept();
    else
      guarded(*static_cast<front_connection*>(e.data.ptr), [&](auto& c) { event(c, e.events); });
  }
  for (std::size_t i = 0; i < going.size(); ++i) {
    front_connection* c = going[i];  // null: closed since
    if (c == nullptr) continue;
    c->queued = false;
    guarded(*c, [this](auto& one) { advance(one); });
  }
  going.clear();
  if (woken) {
    port->collect(done, sockets);
    for (auto* one : done) replied(one);
    for (auto& one : sockets) adopt(std::move(one));
    if (shared.draining.load(std::memory_order_acquire)) drain();
  }
  if (taken) {
    taken = false;
    shared.turn_over(index);
  }
  done.clear();
  done.swap(port->local());
  for (auto* one : done) replied(one);
  done.clear();
  if (now >= next_sweep) sweep();
  buried.clear();
}

void front_loop::impl::end() {
  while (!all.empty()) close(*all.back());
  buried.clear();
  std::vector<pooled_exchange*> late;
  std::vector<loop_port::incoming> orphans;
  port->close(late, orphans);
  for (auto* one : late) one->let_go();
  for (auto& one : orphans) {
    ::close(one.socket);
    shared.connections.fetch_sub(1, std::memory_order_relaxed);
  }
}

void front_loop::impl::sweep() {
  next_sweep = now + sweep_period;
  // From behind: closing moves the last one into the gap.
  for (std::size_t i = all.size(); i-- > 0;)
    if (i < all.size() && now >= all[i]->deadline) timed_out(*all[i]);
  if (listener >= 0 && !accepting) {
    accepting = true;
    watch(listener, EPOLLIN, this);
  }
}

void front_loop::impl::timed_out(front_connection& c) {
  switch (c.now) {
    case phase::head:
      if (!c.started) {
        // A request may have come that no turn has got to.
        c.readable = true;
        guarded(c, [this](auto& one) { advance(one); });
        if (c.now == phase::head && !c.started) close(c);
        return;
      }
      [[fallthrough]];
    case phase::body:
    case phase::chunks:
      return refuse(c, {408, "the request did not come in time"});
    case phase::waiting: {
      pooled_exchange* late = std::exchange(c.current, fresh());
      late->connection = nullptr;
      late->set_gone();
      // What the reply needs of the request; `late` lives on until its handler lets go.
      pooled_exchange& reply = *c.current;
      reply.head.http_10 = late->head.http_10;
      reply.head.keep_alive = late->head.keep_alive;
      reply.head.method = late->head.method == "HEAD" ? "HEAD" : "";
      reply.out = error_response(504, "no reply within the reply timeout");
      const std::string id(late->view.correlation_id);
      const std::string origin(late->head.origin);
      reply.view.correlation_id = id;
      reply.head.origin = origin;
      send(c, reply, !late->head.keep_alive);
      return advance(c);
    }
    case phase::handshake:
    case phase::writing:
    case phase::lingering:
      return close(c);
    case phase::closed:
      return;
  }
}

/// Nobody can tell a client that its idle connection ends before it has sent the next request, except in the
/// reply to that one: whoever speaks within a moment still gets it, with Connection: close. And clients whose
/// connection the kernel has taken already may have sent theirs.
void front_loop::impl::drain() {
  if (std::exchange(drained, true)) return;
  if (listener >= 0) {
    for (std::size_t turns = 0; turns < drain_turns && accept() == accepts_a_turn; ++turns) {
    }
    ::close(listener);
    listener = -1;
  }
  for (const auto& c : all)
    if ((c->now == phase::head && !c->started) || c->now == phase::handshake)
      c->deadline = std::min(c->deadline, now + nanos_of(options.last_words));
}

// Connections

/// How many it took.
std::size_t front_loop::impl::accept() {
  for (std::size_t i = 0; i < accepts_a_turn; ++i) {
    sockaddr_storage from{};
    socklen_t length = sizeof from;
    const int socket =
        ::accept4(listener, reinterpret_cast<sockaddr*>(&from), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return i;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        // Later there may be some: the next sweep looks again.
        ::epoll_ctl(epoll, EPOLL_CTL_DEL, listener, nullptr);
        accepting = false;
        if (next_sweep < now) next_sweep = now + sweep_period;
        return i;
      }
      continue;  // that one has gone again
    }
    const std::size_t open = shared.connections.load(std::memory_order_relaxed);
    const bool full = open >= options.max_connections;
    // Refused ones linger for a moment; beyond twice the limit there is not even an answer.
    if (open >= 2 * options.max_connections || (full && shared.tls())) {
      ::close(socket);
      continue;
    }
    shared.connections.fetch_add(1, std::memory_order_relaxed);
    loop_port::incoming one{socket, address_text(from), full};
    front_loop& to = pick();
    if (to.impl_.get() == this) {
      adopt(std::move(one));
    } else if (!to.port_->adopt(std::move(one))) {
      ::close(socket);
      shared.connections.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  return accepts_a_turn;
}

void front_loop::impl::adopt(loop_port::incoming&& one) {
  auto fresh_one = std::make_unique<front_connection>();
  front_connection& c = *fresh_one;
  c.socket = one.socket;
  c.client = std::move(one.client);
  c.slot = all.size();
  all.push_back(std::move(fresh_one));
  count.fetch_add(1, std::memory_order_relaxed);
  if (next_sweep < now) next_sweep = now + sweep_period;
  const int on = 1;
  ::setsockopt(c.socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  idle(c);
  try {
    watch(c.socket, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &c);
    if (const auto tls = one.refused ? nullptr : shared.tls()) {
      c.tls = std::make_unique<tls_session>(*tls, c.socket);
      c.now = phase::handshake;
      c.deadline = now + nanos_of(drained ? options.last_words : options.read_timeout);
    }
  } catch (const std::exception&) {
    return close(c);
  }
  if (one.refused) refuse(c, {503, "too many connections"});
}

void front_loop::impl::close(front_connection& c) {
  if (c.now == phase::closed) return;
  if (c.current != nullptr) {
    c.current->connection = nullptr;
    // One that waits for its reply comes back with it.
    if (c.now == phase::waiting)
      c.current->set_gone();
    else
      c.current->let_go();
    c.current = nullptr;
  }
  if (c.tls && c.now != phase::handshake && c.now != phase::lingering) c.tls->finish();
  c.tls.reset();
  c.now = phase::closed;
  if (c.queued)
    for (auto* list : {&again, &going}) std::replace(list->begin(), list->end(), &c, no_connection);
  // A child that was just forked may still have the socket: then close() alone leaves it in the epoll set,
  // with the address of what is freed below.
  ::epoll_ctl(epoll, EPOLL_CTL_DEL, c.socket, nullptr);
  ::close(c.socket);
  c.pending = {};
  const std::size_t gap = c.slot;
  buried.push_back(std::move(all[gap]));
  if (gap + 1 != all.size()) {
    all[gap] = std::move(all.back());
    all[gap]->slot = gap;
  }
  all.pop_back();
  count.fetch_sub(1, std::memory_order_relaxed);
  shared.connections.fetch_sub(1, std::memory_order_relaxed);
}

// Reading

void front_loop::impl::event(front_connection& c, std::uint32_t events) {
  if (c.now == phase::closed) return;
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) return close(c);
  if ((events & EPOLLRDHUP) != 0) {
    c.ended = true;
    if (c.now == phase::waiting) c.current->set_gone();
  }
  if ((events & (EPOLLIN | EPOLLRDHUP)) != 0) c.readable = true;
  if (c.now == phase::writing) write(c);
  advance(c);
}

/// Reads and works until there is nothing to read, or a reply to wait for, or others have waited long enough.
void front_loop::impl::advance(front_connection& c) {
  for (int reads = 0;; ++reads) {
    if (c.now == phase::handshake) {
      switch (c.tls->handshake()) {
        case tls_state::again:
          return;
        case tls_state::done:
          c.certificate = c.tls->subject();
          idle(c);
          c.readable = true;
          break;
        default:
          return close(c);
      }
    }
    if (c.now == phase::lingering) {
      if (!c.readable) return;
      const auto got = of_call(::recv(c.socket, scratch.data(), scratch.size(), MSG_DONTWAIT));
      if (got.what == transfer::state::again) c.readable = false;
      if (got.what == transfer::state::ended || got.what == transfer::state::failed) return close(c);
    } else if (c.now == phase::head || c.now == phase::body || c.now == phase::chunks) {
      if (!c.pending.empty() && c.now == phase::head && !c.started) {
        // What came behind the request before.
        std::string kept = std::move(c.pending);
        c.pending.clear();
        std::string_view in = kept;
        eat(c, in);
        if (c.now == phase::closed) return;
        if (in.size() == kept.size())
          c.pending = std::move(kept);
        else
          c.pending.assign(in);
        if (c.now != phase::head && c.now != phase::body && c.now != phase::chunks) return;
      }
      if (!c.readable) return;
      if (c.now == phase::body) {
        if (!read_body(c)) return;
      } else {
        const auto got = read_some(c, scratch.data(), scratch.size());
        if (got.what == transfer::state::again) {
          c.readable = false;
          return;
        }
        // The end of a request that is cut short: nobody reads an answer to it.
        if (got.what != transfer::state::some) return close(c);
        if (!c.tls && got.bytes < scratch.size() && !c.ended) c.readable = false;
        if (c.pending.empty()) {
          std::string_view in(scratch.data(), got.bytes);
          eat(c, in);
          if (c.now == phase::closed) return;
          if (!in.empty()) c.pending.assign(in);
        } else {
          c.pending.append(scratch.data(), got.bytes);
          std::string kept = std::move(c.pending);
          c.pending.clear();
          std::string_view in = kept;
          eat(c, in);
          if (c.now == phase::closed) return;
          if (in.size() == kept.size())
            c.pending = std::move(kept);
          else if (!in.empty())
            c.pending.assign(in);
        }
      }
    } else {
      return;
    }
    if (reads >= reads_a_turn) return go_on(c);
  }
}

/// The rest of a body straight into its place. False: enough for now.
bool front_loop::impl::read_body(front_connection& c) {
  byte_buffer& body = c.current->body;
  const std::size_t left = static_cast<std::size_t>(c.current->head.length) - body.size();
  // Grown by what has come, not by what was announced.
  const std::size_t room = std::min(left, std::max(body_step, body.size()));
  if (body.capacity() < body.size() + room) {
    if (!fits(c, body.size() + room)) return false;
    body.reserve(body.size() + room);
  }
  const std::size_t asked = std::min(left, body.capacity() - body.size());
  const auto got = read_some(c, body.data() + body.size(), asked);
  if (got.what == transfer::state::again) {
    c.readable = false;
    return false;
  }
  if (got.what != transfer::state::some) {
    close(c);
    return false;
  }
  if (!c.tls && got.bytes < asked && !c.ended) c.readable = false;
  body.grew(got.bytes);
  if (got.bytes == left) complete(c);
  return true;
}

/// Uses what it can of `in`, request after request.
void front_loop::impl::eat(front_connection& c, std::string_view& in) {
  for (;;) {
    switch (c.now) {
      case phase::head:
        if (!eat_head(c, in)) return;
        break;
      case phase::body:
        if (!eat_body(c, in)) return;
        break;
      case phase::chunks:
        if (!eat_chunks(c, in)) return;
        break;
      case phase::lingering:
      case phase::closed:
        in = {};
        return;
      default:
        if (c.close_after) in = {};
        return;
    }
  }
}

bool front_loop::impl::eat_head(front_connection& c, std::string_view& in) {
  if (!c.started) {
    // Empty lines before a request are let pass (RFC 9112, 2.2).
    while (in.size() >= 2 && in[0] == '\r' && in[1] == '\n') in.remove_prefix(2);
    if (in.empty()) return false;
    c.started = true;
    c.scanned = 0;
    c.deadline = now + nanos_of(options.read_timeout);
  }
  const auto at = in.find(end_of_head, c.scanned);
  const std::size_t length = at == std::string_view::npos ? in.size() : at + end_of_head.size();
  if (length > options.max_header) {
    refuse(c, {431, "the request's header is too large"});
    return true;
  }
  if (at == std::string_view::npos) {
    if (bare_line_feed(in)) {
      refuse(c, {400, "malformed request: a line ends without CR"});
      return true;
    }
    c.scanned = in.size() < 3 ? 0 : in.size() - 3;
    return false;
  }
  pooled_exchange& e = *(c.current = fresh());
  e.view.arrived = now;
  e.head_bytes.append(in.substr(0, length));
  in.remove_prefix(length);
  if (const refusal bad = e.parser.head(e.head_bytes.view(), e.fields, e.head)) {
    refuse(c, bad);
    return true;
  }
  const request_head& head = e.head;
  e.view.method = head.method;
  e.view.path = head.path;
  e.view.query = head.query;
  e.view.correlation_id = usable_id(head.correlation_id) ? head.correlation_id
                          : usable_id(head.request_id)   ? head.request_id
                                                         : std::string_view{};
  if (e.view.correlation_id.empty()) {
    static constexpr std::string_view digits = "0123456789abcdef";
    for (std::size_t half = 0; half < 2; ++half) {
      std::uint64_t bits = next_random(random);
      for (std::size_t i = 0; i < 16; ++i, bits >>= 4) e.made_id[16 * half + i] = digits[bits & 15];
    }
    e.view.correlation_id = {e.made_id.data(), e.made_id.size()};
  }
  if (!begin_body(c)) return true;
  if (c.now == phase::head) complete(c);
  if (c.now != phase::body && c.now != phase::chunks) return true;
  if (head.expect_continue && !head.http_10 && in.empty()) {
    static constexpr std::string_view go = "HTTP/1.1 100 Continue\r\n\r\n";
    c.out_head = go;
    c.out_body = {};
    const auto sent = write_some(c);
    c.out_head = {};
    // Twenty-five bytes on a connection with nothing in flight: all or none.
    if (sent.what != transfer::state::some || sent.bytes != go.size()) close(c);
  }
  return true;
}

/// Refuses what need not be read.
bool front_loop::impl::begin_body(front_connection& c) {
  pooled_exchange& e = *c.current;
  const request_head& head = e.head;
  if (head.length > options.max_body) {
    refuse(c, too_large(e));
    return false;
  }
  if (content_coding(head.content_encoding) == coding::unknown) {
    refuse(c, {415, "an unknown Content-Encoding: send gzip, deflate or none"});
    return false;
  }
  if (options.compress_replies) e.accepts = accepted_coding(head.accept_encoding);
  if (head.body == request_head::framing::length) c.now = phase::body;
  if (head.body == request_head::framing::chunked) c.now = phase::chunks;
  return true;
}

/// Room for a body of so many bytes among all that are in memory; else the request is refused.
bool front_loop::impl::fits(front_connection& c, std::size_t bytes) {
  c.current->settle(bytes);
  if (shared.buffered->load(std::memory_order_relaxed) <= options.max_buffered) return true;
  c.current->settle(0);
  refuse(c, {503, "too many bodies are in memory"});
  return false;
}

bool front_loop::impl::eat_body(front_connection& c, std::string_view& in) {
  byte_buffer& body = c.current->body;
  const std::size_t left = static_cast<std::size_t>(c.current->head.length) - body.size();
  const std::size_t n = std::min(left, in.size());
  if (n == 0) return false;
  if (!fits(c, body.size() + n)) return true;
  body.append(in.substr(0, n));
  in.remove_prefix(n);
  if (n < left) return false;
  complete(c);
  return true;
}

bool front_loop::impl::eat_chunks(front_connection& c, std::string_view& in) {
  if (in.empty()) return false;
  pooled_exchange& e = *c.current;
  if (!fits(c, e.body.size() + in.size())) return true;
  const auto step = e.parser.chunks(in, e.body, options.max_body);
  in.remove_prefix(step.used);
  if (step.refused) {
    refuse(c, step.refused.status == 413 ? too_large(e) : step.refused);
    return true;
  }
  if (!step.done) {
    // The line of a chunk's size, or the trailers.
    if (in.size() > options.max_header) {
      refuse(c, {431, "the request's trailers are too large"});
      return true;
    }
    return false;
  }
  if (!fits(c, e.body.size())) return true;
  complete(c);
  return true;
}

/// The request is here.
void front_loop::impl::complete(front_connection& c) {
  pooled_exchange& e = *c.current;
  e.view.body = e.body.view();
  if (!e.head.content_encoding.empty() && e.body.size() > 0 && !decode(c)) return;
  c.now = phase::waiting;
  c.deadline = now + nanos_of(options.reply_timeout);
  if (shared.cors.on() && cors_policy::preflight(e.head)) {
    e.out = shared.cors.answer_preflight(e.head);
    return send(c, e, !e.head.keep_alive);
  }
  hand_over(c);
}

bool front_loop::impl::decode(front_connection& c) {
  pooled_exchange& e = *c.current;
  const coding which = content_coding(e.head.content_encoding);
  if (which == coding::identity) return true;
  const std::size_t taken_now = shared.buffered->load(std::memory_order_relaxed);
  const std::size_t budget = options.max_buffered - std::min(options.max_buffered, taken_now);
  switch (inflate_all(which, e.body.view(), std::min(options.max_body, budget), e.plain)) {
    case inflated::ok:
      break;
    case inflated::too_large:
      refuse(c, budget < options.max_body && e.plain.size() <= options.max_body
                    ? refusal{503, "too many bodies are in memory"}
                    : refusal{413, shared.too_large_plain});
      return false;
    case inflated::broken:
      refuse(c, {400, "the body is not what Content-Encoding says"});
      return false;
  }
  e.body.release();
  if (!fits(c, e.plain.size())) return false;
  e.view.body = e.plain.view();
  return true;
}

void front_loop::impl::hand_over(front_connection& c) {
  static constexpr std::array<char, byte_buffer::padding> nothing{};
  pooled_exchange& e = *c.current;
  if (e.view.body.empty()) e.view.body = {nothing.data(), 0};
  e.view.headers = e.fields;
  e.client.assign(c.client);
  e.view.client = e.client;
  if (!c.certificate.empty()) e.certificate.assign(c.certificate);
  e.view.certificate = e.certificate;
  e.connection = &c;
  taken = true;
  auto& local = port->local();
  const std::size_t before = local.size();
  try {
    shared.take(index, e.publish());
  } catch (const std::exception&) {
    // The exchange was dropped on the way, and is answered by that.
  }
  // Answered at once: not by way of the turn's end.
  if (local.size() > before && local.back() == &e) {
    local.pop_back();
    send(c, e, !e.head.keep_alive);
  }
}

// Writing

void front_loop::impl::refuse(front_connection& c, const refusal& why) {
  if (c.current == nullptr) c.current = fresh();
  c.current->out = error_response(why.status, why.why);
  if (why.status == 503) c.current->out.headers.emplace_back("Retry-After", "1");
  send(c, *c.current, true);
}

/// A handler has answered, or let go.
void front_loop::impl::replied(pooled_exchange* one) {
  front_connection* c = one->connection;
  if (c == nullptr) return one->let_go();
  guarded(*c, [&](auto& to) {
    send(to, *one, !one->head.keep_alive);
    advance(to);
  });
}

void front_loop::impl::send(front_connection& c, pooled_exchange& with, bool last) {
  with.connection = nullptr;
  c.now = phase::writing;
  response& what = with.out;
  reply_line line;
  if (options.compress_replies && with.accepts != coding::identity && what.body.size() > worth_compressing) {
    bool coded = false;
    for (const auto& [name, value] : what.headers) coded = coded || same_name(name, "content-encoding");
    std::string smaller = coded ? std::string() : deflate_all(with.accepts, what.body);
    if (!smaller.empty() && smaller.size() < what.body.size()) {
      what.body = std::move(smaller);
      line.encoding = coding_name(with.accepts);
    }
  }
  if (now / 1'000'000'000 != date_of) {
    date_of = now / 1'000'000'000;
    date = http_date(std::time(nullptr));
  }
  c.close_after = last || shared.draining.load(std::memory_order_relaxed);
  line.length = what.body.size();
  line.keep_alive = !c.close_after;
  line.http_10 = with.head.http_10;
  line.date = date;
  line.correlation_id = with.view.correlation_id;
  std::string& head = with.out_head;
  head.clear();
  write_reply_head(what, line, head);
  if (options.compress_replies) head += "Vary: Accept-Encoding\r\n";
  shared.cors.add_fields(with.head.origin, head);
  head += "\r\n";
  const bool no_body =
      with.head.method == "HEAD" || what.status == 204 || what.status == 304 || what.status < 200;
  c.out_body = no_body ? std::string_view{} : std::string_view(what.body);
  // One record, and one packet.
  if (c.tls && !c.out_body.empty() && c.out_body.size() <= read_bytes) {
    head += c.out_body;
    c.out_body = {};
  }
  c.out_head = head;
  c.deadline = now + nanos_of(options.reply_timeout);
  write(c);
}

void front_loop::impl::write(front_connection& c) {
  while (!c.out_head.empty() || !c.out_body.empty()) {
    const auto sent = write_some(c);
    if (sent.what == transfer::state::again) return;
    if (sent.what != transfer::state::some) return close(c);
    const std::size_t of_head = std::min(sent.bytes, c.out_head.size());
    c.out_head.remove_prefix(of_head);
    c.out_body.remove_prefix(sent.bytes - of_head);
  }
  written(c);
}

void front_loop::impl::written(front_connection& c) {
  std::exchange(c.current, nullptr)->let_go();
  if (c.close_after) return linger(c);
  idle(c);
}

/// Closing a socket with unread data resets the connection, and the reply may be lost with it: what still
/// comes is thrown away for a moment.
void front_loop::impl::linger(front_connection& c) {
  c.pending = {};
  if (c.tls) c.tls->finish();
  ::shutdown(c.socket, SHUT_WR);
  c.now = phase::lingering;
  c.deadline = now + linger_time;
  go_on(c);
}

// The outside

front_shared::front_shared(const front_options& o) : options(o), cors(o.cors_origins) {
  const std::string section = o.name.substr(0, o.name.find('.'));
  const std::string limit = ": at most " + std::to_string(o.max_body) + " bytes (" +
                            (section == o.name ? "" : section + ".") + "max_body)";
  too_large = "the request's body is too large" + limit;
  too_large_plain = "the request's body is too large without its Content-Encoding" + limit;
  too_large_with_hint = too_large + o.larger_body.second;
}

front_loop::front_loop(front_shared& shared, std::size_t index)
    : port_(std::make_shared<loop_port>()), impl_(std::make_unique<impl>(shared, index, port_, own_)) {}

front_loop::~front_loop() = default;

void front_loop::accept_from(int socket, std::function<front_loop&()> pick) {
  impl_->listener = socket;
  impl_->pick = std::move(pick);
  impl_->watch(socket, EPOLLIN, impl_.get());
  impl_->accepting = true;
}

void front_loop::run() {
  impl_->run();
}

}  // namespace troupe::http
