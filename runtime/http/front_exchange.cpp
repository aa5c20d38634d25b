#include "runtime/http/front_exchange.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace troupe::http {
namespace {

thread_local const loop_port* this_loop = nullptr;

// What an exchange in the pool may keep of its buffers, and how many there are.
constexpr std::size_t kept_bytes = 16 * 1024;
constexpr std::size_t kept_exchanges = 512;

}  // namespace

/// Puts the control block of a shared_ptr into the exchange itself.
template <class T>
struct in_place {
  using value_type = T;
  pooled_exchange* of;

  explicit in_place(pooled_exchange* exchange) : of(exchange) {}
  template <class U>
  in_place(const in_place<U>& other) : of(other.of) {}  // NOLINT: allocators convert

  T* allocate(std::size_t n) {
    static_assert(sizeof(T) <= 64 && alignof(T) <= alignof(std::max_align_t));
    if (n != 1) throw std::bad_alloc();
    return reinterpret_cast<T*>(of->control_.data());
  }
  void deallocate(T*, std::size_t) { of->drop(); }
  friend bool operator==(const in_place& a, const in_place& b) { return a.of == b.of; }
};

loop_port::loop_port() : wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (wake_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

loop_port::~loop_port() {
  ::close(wake_);
}

void loop_port::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(wake_, &one, sizeof one);
}

void loop_port::deliver(pooled_exchange* replied) {
  if (this_loop == this) {
    local_.push_back(replied);
    return;
  }
  bool first = false;
  bool late = false;
  {
    const std::lock_guard lock(mutex_);
    late = closed_;
    first = replied_.empty();
    if (!late) replied_.push_back(replied);
  }
  if (late)
    replied->let_go();
  else if (first)
    wake();
}

bool loop_port::adopt(incoming&& one) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    sockets_.push_back(std::move(one));
  }
  wake();
  return true;
}

void loop_port::own_thread() {
  this_loop = this;
}

pooled_exchange* loop_port::take() {
  if (free_.empty()) {
    const std::lock_guard lock(mutex_);
    free_.swap(returned_);
  }
  if (free_.empty()) return new pooled_exchange(shared_from_this());
  pooled_exchange* one = free_.back();
  free_.pop_back();
  return one;
}

void loop_port::collect(std::vector<pooled_exchange*>& replied, std::vector<incoming>& sockets) {
  replied.clear();
  sockets.clear();
  const std::lock_guard lock(mutex_);
  replied.swap(replied_);
  sockets.swap(sockets_);
}

void loop_port::close(std::vector<pooled_exchange*>& replied, std::vector<incoming>& sockets) {
  std::vector<pooled_exchange*> idle;
  replied.clear();
  sockets.clear();
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    replied.swap(replied_);
    sockets.swap(sockets_);
    idle.swap(returned_);
  }
  replied.insert(replied.end(), local_.begin(), local_.end());
  local_.clear();
  idle.insert(idle.end(), free_.begin(), free_.end());
  free_.clear();
  this_loop = nullptr;
  for (auto* one : idle) delete one;
}

void loop_port::give_back(pooled_exchange* one) {
  if (this_loop == this) {
    if (free_.size() < kept_exchanges) {
      free_.push_back(one);
      return;
    }
  } else {
    const std::lock_guard lock(mutex_);
    if (!closed_ && returned_.size() < kept_exchanges) {
      returned_.push_back(one);
      return;
    }
  }
  const auto keep = one->port_;  // this, perhaps for the last time
  delete one;
}

exchange_ptr pooled_exchange::publish() {
  holders_.store(2, std::memory_order_relaxed);
  return {static_cast<exchange*>(this), [](exchange* e) { static_cast<pooled_exchange*>(e)->dropped(); },
          in_place<exchange>(this)};
}

void pooled_exchange::reply(response&& what) {
  if (replied_.exchange(true, std::memory_order_acq_rel)) return;
  out = std::move(what);
  port_->deliver(this);
}

void pooled_exchange::dropped() {
  if (!replied_.load(std::memory_order_acquire)) reply(error_response(503, "the request was dropped"));
}

void pooled_exchange::drop() {
  if (holders_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  clear();
  port_->give_back(this);
}

void pooled_exchange::settle(std::size_t bytes) {
  if (bytes == settled_) return;
  if (bytes > settled_)
    total->fetch_add(bytes - settled_, std::memory_order_relaxed);
  else
    total->fetch_sub(settled_ - bytes, std::memory_order_relaxed);
  settled_ = bytes;
}

void pooled_exchange::clear() {
  for (byte_buffer* buffer : {&head_bytes, &body, &plain}) {
    if (buffer->capacity() > kept_bytes) buffer->release();
    buffer->clear();
  }
  settle(0);
  fields.clear();
  if (fields.capacity() > 256) fields.shrink_to_fit();
  head = {};
  view = {};
  certificate.clear();
  accepts = coding::identity;
  out.body = {};
  out.headers.clear();
  out_head.clear();
  if (out_head.capacity() > kept_bytes) out_head.shrink_to_fit();
  connection = nullptr;
  gone_.store(false, std::memory_order_relaxed);
  replied_.store(false, std::memory_order_relaxed);
  holders_.store(1, std::memory_order_relaxed);
}

}  // namespace troupe::http
