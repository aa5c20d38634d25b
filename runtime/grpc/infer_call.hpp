#pragma once
// ModelInfer and one request of ModelStreamInfer as the gateway sees them: read from the protocol's bytes
// into a record, answered from doubles.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "messages/call.hpp"
#include "runtime/codec/v2_infer.hpp"
#include "runtime/door/caller.hpp"
#include "runtime/grpc/status.hpp"
#include "runtime/grpc/wire.hpp"
#include "runtime/observe/trace.hpp"

namespace troupe::rpc {

/// The place that a request came from and its reply goes to. Any thread may call what is const; reply and
/// fail, one of them and once, are the call's.
class infer_exchange {
 public:
  infer_exchange() = default;
  infer_exchange(const infer_exchange&) = delete;
  infer_exchange& operator=(const infer_exchange&) = delete;

  [[nodiscard]] virtual std::string_view body() const = 0;
  /// Of the client, by its name in lower case; data() == nullptr: there is none.
  [[nodiscard]] virtual std::string_view metadata(std::string_view name) = 0;
  /// Steady clock; INT64_MAX: none.
  [[nodiscard]] virtual nanos deadline() const = 0;
  [[nodiscard]] virtual bool gone() const = 0;
  /// `request_id`: plain, for the metadata of the reply.
  virtual void reply(const infer_response& response, std::string_view request_id) = 0;
  virtual void fail(const status& why, nanos retry_after, std::string_view id,
                    std::string_view request_id) = 0;
  /// Null: it is not traced.
  [[nodiscard]] virtual const std::shared_ptr<observe::request_trace>& trace() const = 0;
  /// The call has been destroyed.
  virtual void release() = 0;

 protected:
  ~infer_exchange() = default;
};

class infer_call final : public call {
 public:
  /// `options` live as long; `arrived`: steady clock.
  infer_call(infer_exchange& from, const codec::infer_options& options, nanos arrived,
             serving::caller who = {})
      : from_(from), options_(options), arrived_(arrived), who_(std::move(who)) {}
  ~infer_call() override;

  void read(record& to, record_batch& batch) override;
  void reply(const record& request, const call_result& result) override;
  void fail(const record& request, const call_failure& why) override;
  [[nodiscard]] bool gone() const override { return from_.gone(); }

  /// Ends it unread.
  void refuse(const status& why, nanos retry_after);

 private:
  void name_it(std::string_view own);
  codec::request_fault read_parameters(const infer_request& wire, codec::v2_request& request);

  infer_exchange& from_;
  const codec::infer_options& options_;
  const nanos arrived_;
  serving::caller who_;
  guard::refusal denied_ = guard::refusal::none;  ///< to this caller
  std::string_view id_;                           ///< the request's own; empty: it has none
  std::string request_id_;                        ///< what logs and metadata call it
  codec::v2_plan plan_;
  bool raw_ = true;          ///< outputs as raw data, as the inputs were
  bool final_flag_ = false;  ///< the client wants to see which response is a request's last
  bool ended_ = false;
};

}  // namespace troupe::rpc
