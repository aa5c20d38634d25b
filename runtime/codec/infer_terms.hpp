#pragma once
// A request of a door whose caller waits becomes a record: defaults, urgency, model, and the checks behind
// its values. What Kafka's parser does besides for its own format (request_parser.hpp).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/codec/request_head.hpp"
#include "runtime/codec/tensor_rows.hpp"

namespace troupe::codec {

struct infer_options {
  std::vector<nanos> class_targets;    ///< by class; priority p (from 1) asks for class p - 1
  std::uint8_t default_class = 0;      ///< of a request without priority
  nanos expiry = 30'000'000'000;       ///< of a request without timeout, after its arrival; 0: never
  std::uint32_t max_rows = 10'000;     ///< of one request
  std::size_t max_elements = 100'000;  ///< of all inputs of one request
  std::uint32_t max_explained = 100;   ///< rows of one request that asks for explanations
  bool explain = true;                 ///< requests may ask for explanations

  [[nodiscard]] tensor_limits limits() const { return {max_rows, max_elements}; }
};

/// Who asks for what, however the door's protocol says it.
struct infer_head {
  std::string_view id;           ///< the caller's; empty: none
  std::string_view fallback_id;  ///< stands in for it
  std::string_view model;        ///< empty: the default
  std::string_view version;      ///< empty: the production version; no other one ever stands in
  double priority = 0;
  std::optional<std::uint8_t> default_class;  ///< of a request without priority; none: the door's
  double timeout = 0;                         ///< nanoseconds; 0: the door's own
  bool explain = false;
  nanos arrived = 0;  ///< when the request came; 0: with its batch
  header_lookup header = nullptr;
  const void* request = nullptr;  ///< of header
};

/// Not thread safe.
class infer_terms {
 public:
  /// Fills all of `r` but its values: request_id, model, class, target and expiry; or the error. The batch's
  /// `models`, `arrived` and `arrived_ms` are set. `fault`: found while the request was read, reported unless
  /// its model is not there.
  void begin(record& r, record_batch& batch, const infer_head& head, const infer_options& options,
             const request_fault& fault = {});
  /// After the values were read, or could not be.
  static void finish(record& r, record_batch& batch, const infer_options& options,
                     const request_fault& fault);

 private:
  model_finder models_;
};

}  // namespace troupe::codec
