#pragma once
// What both kinds of producer know of an answer: how it looks as a Kafka record, and what becomes of it when
// the broker refuses it.

#include <string>
#include <string_view>
#include <vector>

#include "messages/messages.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/kafka/record_sink.hpp"

namespace troupe::observe {
class metrics;
}

namespace troupe {

/// `by` ("the broker") did not take an answer, and it is tried again: counted, and in the log.
void tell_refused(observe::metrics& metrics, const std::string& by, const std::string& why);

class answer_form {
 public:
  /// `keep_timestamp`: results carry the request record's timestamp, not the time they were produced.
  explicit answer_form(bool keep_timestamp = false) : keep_timestamp_(keep_timestamp) {}

  /// Its views are good until the next call when it has headers, else as long as the answer.
  [[nodiscard]] kafka::outgoing outgoing_of(answer& a);
  [[nodiscard]] static bool has_headers(const answer& a) {
    return a.dead || a.request->headers_count != 0 || a.request->trace != nullptr;
  }

  /// The broker won't take it for its size: a result becomes a dead letter, a dead letter loses its value.
  /// False: it has none left to lose; this was said in the log.
  [[nodiscard]] static bool shrink(answer& a);
  /// The broker won't take its timestamp: it goes without. False: it had none.
  [[nodiscard]] static bool drop_timestamp(answer& a);

  /// An answer to a request that is traced is with the broker.
  static void tell_delivered(const answer& a, nanos now);

 private:
  bool keep_timestamp_;
  codec::result_writer writer_;
  std::vector<header> headers_;
};

}  // namespace troupe
