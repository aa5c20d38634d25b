#pragma once
// The seam to CAF: the only file that knows which line of CAF is underneath (0.17.6, Debian's). Actors use
// the names of namespace troupe::caf_line alone; moving to 1.x means a second branch here and nothing
// elsewhere.

#include <pthread.h>
#include <sys/resource.h>

#include <caf/all.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#if CAF_MAJOR_VERSION != 0
#error "messages/caf.hpp knows CAF 0.17 only; add the 1.x branch here"
#endif

/// A message that never leaves the process: no serialisation is asked of it.
#define TROUPE_LOCAL_MESSAGE(type) CAF_ALLOW_UNSAFE_MESSAGE_TYPE(type)

namespace troupe::caf_line {

/// What an actor last answered to a ping. Written by it alone.
struct pulse {
  std::atomic<std::uint64_t> answered{0};
  std::atomic<std::size_t> depth{0};  ///< of its mailbox, then
};

/// Asks whether an actor handles messages at all; in no actor's interface, answered by all that
/// die_of_exceptions().
struct ping {
  std::uint64_t number = 0;
  std::shared_ptr<pulse> to;
};

/// An actor that throws this dies of the work that it was given, not by a fault of its own.
struct died_of_its_work : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace troupe::caf_line

TROUPE_LOCAL_MESSAGE(troupe::caf_line::ping)

namespace troupe::caf_line {

namespace detail {
template <class>
struct signature;
template <class Out, class... In>
struct signature<Out(In...)> {
  using type = typename caf::replies_to<In...>::template with<Out>;
};
}  // namespace detail

/// actor_of<void(a), void(b)>: a typed actor that handles messages a and b.
template <class... Signatures>
using actor_of = caf::typed_actor<typename detail::signature<Signatures>::type...>;

using any_actor = caf::actor;
using address = caf::actor_addr;
using system = caf::actor_system;

/// The system's clock in nanoseconds: virtual under the deterministic scheduler.
template <class Self>
[[nodiscard]] std::int64_t now(Self* self) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(self->clock().now().time_since_epoch()).count();
}

/// Messages that wait behind the one being handled.
template <class Self>
[[nodiscard]] std::size_t mailbox_depth(Self* self) {
  return self->mailbox().size();
}

template <class State, class Self>
[[nodiscard]] State& state_of(Self* self) {
  return self->state;
}

template <class Self, class To, class Message>
void send(Self* self, const To& to, Message&& m) {
  if (to) self->send(to, std::forward<Message>(m));
}

/// Overtakes ordinary messages in the receiver's mailbox: control only (wiring, drain, crash).
template <class Self, class To, class Message>
void send_urgent(Self* self, const To& to, Message&& m) {
  if (to) self->template send<caf::message_priority::high>(to, std::forward<Message>(m));
}

/// Whether the message that is being handled comes from `who`.
template <class Self, class Who>
[[nodiscard]] bool sent_by(Self* self, const Who& who) {
  return who && self->current_sender() && self->current_sender()->id() == who->id();
}

/// From any thread.
template <class To, class Message>
void post(const To& to, Message&& m) {
  if (to) caf::anon_send(to, std::forward<Message>(m));
}

template <class To, class Message>
void post_urgent(const To& to, Message&& m) {
  if (to) caf::anon_send<caf::message_priority::high>(to, std::forward<Message>(m));
}

/// To itself, after `delay` nanoseconds.
template <class Self, class Message>
void send_later(Self* self, std::int64_t delay, Message&& m) {
  self->delayed_send(self, std::chrono::nanoseconds(delay), std::forward<Message>(m));
}

/// An exception that leaves a handler ends the actor with its text as the reason, quietly: the supervisor
/// logs it. Pings are answered.
template <class Self>
void die_of_exceptions(Self* self) {
  self->set_exception_handler([](std::exception_ptr& e) -> caf::error {
    try {
      std::rethrow_exception(e);
    } catch (const died_of_its_work& x) {
      return caf::make_error(caf::sec::runtime_error, std::string(x.what()), true);
    } catch (const std::exception& x) {
      return caf::make_error(caf::sec::runtime_error, std::string(x.what()));
    } catch (...) {
      return caf::make_error(caf::sec::runtime_error, std::string("unknown exception"));
    }
  });
  self->set_default_handler(
      [self](caf::scheduled_actor* me, caf::message_view& m) -> caf::result<caf::message> {
        if (!m.content().match_elements<ping>()) return caf::print_and_drop(me, m);
        const auto& asked = m.content().get_as<ping>(0);
        asked.to->depth.store(self->mailbox().size(), std::memory_order_relaxed);
        asked.to->answered.store(asked.number, std::memory_order_release);
        return caf::message();
      });
}

/// How an actor ended.
struct ending {
  address who;
  bool normal = false;
  bool of_its_work = false;
  std::string why;
};

/// Calls `f(ending)` when a monitored actor ends.
template <class Self, class F>
void on_down(Self* self, F f) {
  self->set_down_handler([f = std::move(f)](caf::down_msg& d) {
    ending e;
    e.who = d.source;
    e.normal =
        !d.reason || d.reason == caf::exit_reason::normal || d.reason == caf::exit_reason::user_shutdown;
    e.why = "normal";
    if (!e.normal) {
      // The text of the exception that die_of_exceptions() kept, else CAF's own words.
      const auto& context = d.reason.context();
      e.of_its_work = context.template match_elements<std::string, bool>();
      e.why = e.of_its_work || context.template match_elements<std::string>()
                  ? context.template get_as<std::string>(0)
                  : caf::actor_system_config::render(d.reason);
    }
    f(e);
  });
}

/// Overtakes ordinary messages; to any actor.
inline void post_ping(const any_actor& to, ping p) {
  if (to) caf::anon_send<caf::message_priority::high>(to, std::move(p));
}

template <class Self, class Handle>
void monitor(Self* self, const Handle& h) {
  self->monitor(h);
}

template <class Handle>
[[nodiscard]] any_actor untyped(const Handle& h) {
  return caf::actor_cast<any_actor>(h);
}

/// The other way: the caller knows what it is.
template <class Typed>
[[nodiscard]] Typed typed(const any_actor& h) {
  return caf::actor_cast<Typed>(h);
}

template <class Handle>
void end(const Handle& h) {
  if (h) caf::anon_send_exit(h, caf::exit_reason::user_shutdown);
}

/// 0.17.6
[[nodiscard]] inline std::string version() {
  return std::to_string(CAF_MAJOR_VERSION) + "." + std::to_string(CAF_MINOR_VERSION) + "." +
         std::to_string(CAF_PATCH_VERSION);
}

/// Of the thread that calls: its work yields to that of others.
inline void be_modest() {
  (void)::setpriority(PRIO_PROCESS, 0, 5);  // a third of the weight of the others
}

/// The shared workers, which poll, parse and score, have a lower priority than the threads that answer
/// callers, talk to brokers and decide who is next: those need little, and each of their waits is a
/// request's.
class modest_workers final : public caf::thread_hook {
 public:
  void init(caf::actor_system&) override {}
  void thread_started() override {
    char name[16] = "";
    // What CAF 0.17 calls its workers; threads of single actors and of the clock have other names.
    if (::pthread_getname_np(::pthread_self(), name, sizeof name) != 0) return;
    if (std::string_view(name) == "caf.multiplexer") be_modest();
  }
  void thread_terminates() override {}
};

/// Work sharing wakes an idle thread by a condition variable; work stealing, CAF's default, lets it sleep up
/// to 10 ms, which would be most of a quiet topic's latency. A turn is one message (a batch of records,
/// mostly): by default an actor runs until its mailbox is empty, and a request waits behind all that bulk
/// has.
struct system_config : caf::actor_system_config {
  explicit system_config(std::size_t threads) {
    add_thread_hook<modest_workers>();
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", threads);
    set("scheduler.max-throughput", std::size_t{1});
    set("logger.verbosity", caf::atom("quiet"));
  }
};

}  // namespace troupe::caf_line
