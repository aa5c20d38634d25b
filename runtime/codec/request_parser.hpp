#pragma once
// Reads requests: the JSON value and the headers of each record of a batch become numbers, a model and a
// deadline.
//
// The formats, and what each kind of bad input ends as, are in docs/formats.md. In short: a value that is not
// one JSON object (RFC 8259, UTF-8, at most 64 levels deep) or is over its size ends as a dead letter
// (`parsed` false); an object that can't be scored ends as an error result (`parsed` true). Nothing throws
// but a failed allocation.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/codec/json_reader.hpp"
#include "runtime/codec/request_head.hpp"

namespace troupe::codec {

struct parser_options {
  std::size_t max_record_bytes = std::size_t{1} << 20;  ///< a longer value is too_large, unread
  std::uint32_t max_rows = 10'000;                      ///< rows of one request
  std::uint32_t max_explained = 100;                    ///< rows of one request that asks for explanations
  std::size_t max_values = 1'000'000;                   ///< rows x features of one request
  std::uint8_t default_class = 0;                       ///< of a request without priority, an index
  /// Target by class, relative to the request's timestamp. Priority p (from 1) asks for class p - 1, a
  /// priority beyond the list for the last one; 0 or none for the default.
  std::vector<nanos> class_targets;
  nanos queue_timeout = 0;  ///< expiry of a request without timeout_ms, after its timestamp; 0: never
};

/// The limits that change while a node runs. Set from any thread.
struct live_limits {
  std::atomic<std::size_t> max_record_bytes{std::size_t{1} << 20};
  std::atomic<std::uint32_t> max_rows{10'000};
};

/// One a partition_consumer; not thread safe. Owns its buffers: what a usual record needs is kept between
/// calls, what an unusually large one needed is given back at the end of the call.
class request_parser {
 public:
  explicit request_parser(parser_options options);
  ~request_parser();
  request_parser(request_parser&&) noexcept;
  request_parser& operator=(request_parser&&) noexcept;

  /// Takes effect with the next parse.
  void limit(const live_limits& limits);

  /// Parses records [from, size) of `batch` where they are: fills what messages/batch.hpp lists under "from
  /// the parser" (every record ends with a request_id; an error has its code and message) and appends to
  /// `values`. `models` becomes batch.models, unless earlier records of the batch were already parsed against
  /// another snapshot: then that one is used, so that one batch has one. Time is the batch's own: `arrived`
  /// and `arrived_ms` must be set.
  void parse(record_batch& batch, std::shared_ptr<const model::model_table> models, std::size_t from = 0);

 private:
  class work;
  std::unique_ptr<work> work_;
};

}  // namespace troupe::codec
