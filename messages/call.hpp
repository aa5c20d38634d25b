#pragma once
// A request whose caller waits (HTTP, gRPC): a door makes it, the gateway reads it, follows it and ends it.

#include <string_view>

#include "messages/batch.hpp"
#include "messages/errors.hpp"

namespace troupe {

/// What the model said to the rows of a call.
struct call_result {
  const double* outputs = nullptr;  ///< rows x output width, row-major, all finite
  nanos model_time = 0;             ///< execution time of the batch that the rows were in, 0 if none was run
  std::string_view explanation;     ///< JSON (runtime/codec/explanation.hpp); empty: none was asked for
};

/// How a call ended without a prediction.
struct call_failure {
  error_code code = error_code::unavailable;
  std::string_view message;
  nanos retry_after = 0;  ///< of `unavailable`: it may be worth asking again then; 0: not known
};

/// Ended exactly once, with reply() or fail(), on the gateway's thread; one that is destroyed before that
/// tells its caller that the service is unavailable.
class call {
 public:
  call() = default;
  call(const call&) = delete;
  call& operator=(const call&) = delete;
  virtual ~call() = default;

  /// Reads the request into `to`, a fresh record at the end of `batch`, as the parser of Kafka's records
  /// does: request_id, model, rows and values, class, target and expiry; or the error and its message. The
  /// batch has `models`, `arrived`, `arrived_ms` and `via`; texts may go to its arena, views may point into
  /// the call, which lives until it has ended. On the gateway's thread. Throws nothing but a failed
  /// allocation.
  virtual void read(record& to, record_batch& batch) = 0;

  virtual void reply(const record& request, const call_result& result) = 0;
  virtual void fail(const record& request, const call_failure& why) = 0;

  /// The caller has gone: what is not scored yet need not be, and nobody reads a reply.
  [[nodiscard]] virtual bool gone() const { return false; }
};

}  // namespace troupe
