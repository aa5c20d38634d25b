#include "actors/sending.hpp"

#include <string>

#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/trace.hpp"

namespace troupe {
namespace {

// Of answer::tries.
constexpr std::uint8_t without_value = 1;
constexpr std::uint8_t without_timestamp = 2;

}  // namespace

void tell_refused(observe::metrics& metrics, const std::string& by, const std::string& why) {
  metrics.delivery_errors(1);
  observe::log_every(observe::level::error, "producer", "delivery_failed", 10,
                     by + " did not take an answer; trying again", {{"error", why}});
}

kafka::outgoing answer_form::outgoing_of(answer& a) {
  const record& r = *a.request;
  const record_batch& b = *r.batch;
  kafka::outgoing out;
  out.key = r.key;
  out.source_partition = b.partition;
  out.opaque = &a;
  std::span<const header> own(b.headers.data() + r.headers_begin, r.headers_count);
  headers_.clear();
  if (a.dead) {
    out.to = a.parked ? kafka::destination::parking : kafka::destination::dead_letters;
    out.timestamp_ms = a.tries & without_timestamp ? 0 : r.timestamp_ms;
    out.headers = own;
    const std::string_view reason(a.set->text.data() + a.reason_begin, a.reason_size);
    // The broker copies headers when it takes the record, so texts may live here.
    writer_.dead_letter_headers(headers_, r, a.code, reason);
    if (r.trace) writer_.trace_header(headers_, own, r.trace->sends(r.trace->now()));
    if (a.tries & without_value) {  // coordinates and length must do
      writer_.dropped_value_headers(headers_, r);
    } else {
      out.value = r.value;
    }
    out.more_headers = headers_;
    return out;
  }
  out.value = {a.set->text.data() + a.begin, a.size};
  if (keep_timestamp_ && !(a.tries & without_timestamp)) out.timestamp_ms = r.timestamp_ms;
  if (r.headers_count != 0 || r.trace) {
    writer_.result_headers(headers_, own, r.trace ? r.trace->sends(r.trace->now()) : std::string());
    out.headers = headers_;
  }
  return out;
}

bool answer_form::shrink(answer& a) {
  if (a.parked) {  // it has a place among the dead letters, without its value if need be
    a.parked = false;
    return true;
  }
  if (!a.dead) {
    a.dead = true;
    a.code = error_code::too_large;
    a.reason_size = 0;
    return true;
  }
  if (!(a.tries & without_value)) {
    a.tries |= without_value;
    return true;
  }
  observe::fields which = {{"topic", *a.request->batch->topic},
                           {"partition", std::to_string(a.request->batch->partition)},
                           {"offset", std::to_string(a.request->offset)}};
  if (a.request->trace) which.emplace_back("trace_id", a.request->trace->id());
  observe::log_every(
      observe::level::error, "producer", "dead_letter_refused", 60,
      "the dead-letter topic refuses a record even without its value; its partition can't commit past "
      "it until the topic accepts it",
      which);
  return false;
}

bool answer_form::drop_timestamp(answer& a) {
  if (a.tries & without_timestamp) return false;
  a.tries |= without_timestamp;
  return true;
}

void answer_form::tell_delivered(const answer& a, nanos now) {
  const auto& t = *a.request->trace;
  t.sent(now, a.dead, {});
  t.end(now, a.dead ? observe::attributes{{"troupe.dead_letter", true}} : observe::attributes(),
        a.code == error_code::none ? std::string_view() : to_string(a.code));
}

}  // namespace troupe
