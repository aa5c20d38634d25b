#pragma once
// One line of a batch: read into a record as Kafka's parser reads a value, or as a row of a CSV file; and
// written as Kafka's result or error value (docs/formats.md). Used by the node's batches and by
// `troupe batch` alike, so that both say the same of the same line.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "messages/batch.hpp"
#include "messages/errors.hpp"
#include "runtime/batches/line_reader.hpp"

namespace troupe::batches {

/// How the lines of one input are to be read; shared by them all.
struct line_rules {
  line_format format = line_format::jsonl;
  bool csv_names = true;   ///< a CSV file begins with its features' names; else with a row of all features
  std::string csv_header;  ///< these names, as they stand there
  std::string model;       ///< who answers; empty: whom a line names, else the default
  std::string version;     ///< the only one that may; empty: whom a line names, else the production version
  std::int64_t timestamp_ms = 0;  ///< of every request, epoch milliseconds; 0: its arrival
  std::size_t max_line = std::size_t{1} << 20;
  std::string max_line_option;  ///< what sets it, for errors
  std::uint32_t max_rows = 10'000;
  std::uint32_t max_explained = 100;
  std::uint8_t cls = 0;    ///< of every line, whatever its priority
  nanos class_target = 0;  ///< of that class
  /// Asked about each line once it is read: makes one that may not be scored a record that is refused.
  /// Empty: all may be. Called from several threads.
  std::function<void(record&, record_batch&)> judge;
};

/// Not thread safe; keeps buffers.
class line_codec {
 public:
  line_codec();
  ~line_codec();
  line_codec(const line_codec&) = delete;
  line_codec& operator=(const line_codec&) = delete;

  /// Reads `text` into `to`, the newest record of `batch`, whose models, arrived and arrived_ms are set: all
  /// that a parser fills, or the error. A line without request_id is "line-NUMBER". `size`: as the reader
  /// said. `text` and `rules` must live as long as the batch's records are looked at.
  void read(const line_rules& rules, std::string_view text, std::uint64_t number, std::uint64_t size,
            record& to, record_batch& batch);

  /// Appends the result and a line end. False, and nothing appended: an output is not finite.
  [[nodiscard]] bool result(std::string& out, const record& request, const double* outputs,
                            std::string_view explanation = {});
  /// Appends the error and a line end. `number` names a request that was never read.
  void error(std::string& out, const record& request, std::uint64_t number, error_code code,
             std::string_view message);

 private:
  struct work;
  std::unique_ptr<work> work_;
};

}  // namespace troupe::batches
