#include "runtime/observe/trace.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <random>

namespace troupe::observe {
namespace {

template <class Clock>
std::int64_t read_clock() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

void append(attributes& to, attributes&& more) {
  to.insert(to.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

}  // namespace

request_trace::request_trace(std::shared_ptr<const tracer> by, const policy::trace_context& own,
                             std::uint64_t parent, nanos began, std::int64_t epoch)
    : by_(std::move(by)), own_(own), parent_(parent), began_(began), epoch_(epoch), since_(began) {}

request_trace::~request_trace() {
  end(by_->now(), {}, "not_answered");
}

nanos request_trace::now() const {
  return by_->now();
}

void request_trace::describe(span_kind kind, std::string name, attributes what) {
  kind_ = kind;
  name_ = std::move(name);
  about_ = std::move(what);
}

span request_trace::made(span_kind kind, std::string name, std::uint64_t id, std::uint64_t parent,
                         nanos begin, nanos end, attributes what, std::string_view error) const {
  span one;
  one.trace = own_.trace;
  one.id = id;
  one.parent = parent;
  one.flags = own_.flags;
  one.state = state_;
  one.kind = kind;
  one.name = std::move(name);
  one.begin_ns = begin + epoch_;
  one.end_ns = std::max(begin, end) + epoch_;
  one.attributes = std::move(what);
  if (!error.empty()) {
    one.failed = true;
    one.message = error;
    one.attributes.push_back({"error.type", std::string(error)});
  }
  return one;
}

void request_trace::add(attributes what) const {
  const std::lock_guard lock(mutex_);
  append(about_, std::move(what));
}

void request_trace::end(nanos now, attributes what, std::string_view error) const {
  attributes all;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(ended_, true)) return;
    all = std::move(about_);
  }
  append(all, std::move(what));
  span own = made(kind_, name_, own_.span, parent_, began_, now, std::move(all), error);
  own.remote_parent = parent_ != 0;
  by_->to_->put(std::move(own));
}

void request_trace::child(std::string_view name, nanos begin, nanos end, attributes what,
                          std::string_view error) const {
  by_->to_->put(made(span_kind::internal, std::string(name), by_->new_id(), own_.span, begin, end,
                     std::move(what), error));
}

std::string request_trace::sends(nanos now) const {
  policy::trace_context next = own_;
  next.span = by_->new_id();
  const std::lock_guard lock(mutex_);
  sending_ = next.span;
  sending_since_ = now;
  return policy::write_traceparent(next);
}

void request_trace::sent(nanos now, bool dead, std::string_view error) const {
  std::uint64_t id = 0;
  nanos since = 0;
  {
    const std::lock_guard lock(mutex_);
    id = std::exchange(sending_, 0);
    since = sending_since_;
  }
  if (id == 0) return;
  const std::string& topic = dead ? by_->options_.dead_letter_topic : by_->options_.results_topic;
  by_->to_->put(made(span_kind::producer, "send " + topic, id, own_.span, since, now,
                     {{"messaging.system", "kafka"},
                      {"messaging.operation.name", "send"},
                      {"messaging.operation.type", "send"},
                      {"messaging.destination.name", topic}},
                     error));
}

std::shared_ptr<const tracer> tracer::make(tracer_options options, std::shared_ptr<span_sink> to) {
  return std::shared_ptr<const tracer>(new tracer(std::move(options), std::move(to)));
}

tracer::tracer(tracer_options options, std::shared_ptr<span_sink> to)
    : options_(std::move(options)),
      doors_(options_.door_ratio),
      kafka_(options_.kafka_ratio),
      to_(std::move(to)),
      state_(options_.seed) {
  if (!options_.clock) options_.clock = read_clock<std::chrono::steady_clock>;
  if (!options_.wall) options_.wall = read_clock<std::chrono::system_clock>;
  if (options_.seed == 0) {
    std::random_device device;
    state_ = std::uint64_t{device()} << 32 | device();
  }
}

/// SplitMix64 (Steele, Lea, Flood 2014); its state is a counter, so threads may share it.
std::uint64_t tracer::new_id() const {
  constexpr std::uint64_t step = 0x9e3779b97f4a7c15ULL;
  for (;;) {
    std::uint64_t z = state_.fetch_add(step, std::memory_order_relaxed) + step;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z ^= z >> 31;
    if (z != 0) return z;
  }
}

std::shared_ptr<request_trace> tracer::begin(door via, std::string_view traceparent, nanos arrived,
                                             bool may_begin) const {
  policy::trace_context own;
  std::uint64_t parent = 0;
  // The flags are looked at first: most that have a parent are not sampled.
  const auto given = traceparent.empty() ? std::nullopt : policy::read_traceparent(traceparent);
  if (given) {
    if (!doors_.takes(*given)) return nullptr;
    own = *given;
    parent = given->span;
  } else {
    const auto& sampler = via == door::kafka ? kafka_ : doors_;
    if (!may_begin || sampler.never()) return nullptr;
    const std::uint64_t low = new_id();
    if (!sampler.takes(low)) return nullptr;
    const std::uint64_t high = new_id();
    for (std::size_t i = 0; i < 8; ++i) {
      own.trace[i] = static_cast<std::uint8_t>(high >> (56 - 8 * i));
      own.trace[8 + i] = static_cast<std::uint8_t>(low >> (56 - 8 * i));
    }
    own.flags = policy::trace_context::sampled_flag | policy::trace_context::random_flag;
  }
  own.span = new_id();
  return std::shared_ptr<request_trace>(
      new request_trace(shared_from_this(), own, parent, arrived, options_.wall() - options_.clock()));
}

void tracer::begin(record_batch& polled) const {
  const bool roots = !kafka_.never();
  for (record& r : polled.records) {
    if (r.headers_count == 0 && !roots) continue;
    std::string_view parent;
    const std::span<const header> own(polled.headers.data() + r.headers_begin, r.headers_count);
    for (const header& h : own)
      if (h.name == "traceparent" && policy::is_traceparent(h.value)) {
        parent = h.value;
        break;
      }
    const auto t = begin(door::kafka, parent, polled.arrived);
    if (!t) continue;
    if (!parent.empty()) {
      std::vector<std::string_view> states;
      for (const header& h : own)
        if (h.name == "tracestate") states.push_back(h.value);
      t->set_state(policy::join_tracestate(states));
    }
    const std::string topic = polled.topic ? *polled.topic : std::string();
    t->describe(span_kind::consumer, "process " + topic,
                {{"messaging.system", "kafka"},
                 {"messaging.operation.name", "process"},
                 {"messaging.operation.type", "process"},
                 {"messaging.destination.name", topic},
                 {"messaging.destination.partition.id", std::to_string(polled.partition)},
                 {"messaging.consumer.group.name", options_.kafka_group},
                 {"messaging.kafka.offset", r.offset},
                 {"messaging.message.body.size", static_cast<std::int64_t>(r.value.size())}});
    if (r.request_id.size() > 2)
      t->add({{"troupe.request_id", std::string(r.request_id.substr(1, r.request_id.size() - 2))}});
    r.trace = t.get();
    polled.traces.push_back(t);
  }
}

}  // namespace troupe::observe
