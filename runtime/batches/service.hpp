#pragma once
// Batches that a node scores: kept on disk, one after another, lines in the order of the input.
//
//   <directory>/<id>/batch.json      what was asked for, and how it ended
//                    input           what was sent; not there when the input was named by its path
//                    results.jsonl   the answers so far
//                    checkpoint      how far they reach for good (checkpoint.hpp)
//
// A batch survives a crash of the process and of the machine: results are on disk before the checkpoint says
// so, and what lies behind it is cut off by who goes on. A disk that is full halts a batch, which goes on
// once there is room.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "messages/call.hpp"
#include "runtime/batches/line_codec.hpp"
#include "runtime/batches/line_reader.hpp"

namespace troupe::batches {

/// Begun, or gone on with after a restart; ended; or it has trouble.
enum class batch_event : std::uint8_t { started, ended, halted };

struct service_options {
  std::filesystem::path directory;
  std::filesystem::path input_directory;  ///< empty: inputs are sent
  std::uint64_t max_bytes = std::uint64_t{1} << 30;
  std::size_t max_queued = 100;
  std::size_t in_flight = 4096;  ///< lines
  nanos retention = 7LL * 24 * 3600 * 1'000'000'000;
  line_rules rules;  ///< limits and class of all lines

  /// Takes the calls of lines; each ends once, on whatever thread.
  std::function<void(std::vector<std::unique_ptr<call>>)> hand_in;
  /// Asked about each line of a batch that belongs to a client, once it is read (line_rules::judge). `model`
  /// is that of the batch, if it names one. Empty: all may be scored.
  std::function<void(std::string_view client, std::string_view model, record&, record_batch&)> judge;
  /// Told how many run and wait, and of lines that ended. Any of them may be empty.
  std::function<void(std::size_t running, std::size_t queued)> count;
  std::function<void(std::size_t ok, std::size_t errors)> lines;
  std::function<void(std::string_view id, batch_event what, std::string_view text)> tell;
};

enum class batch_state : std::uint8_t { queued, running, succeeded, failed, cancelled };
[[nodiscard]] std::string_view to_string(batch_state s);

/// A batch as it is now.
struct batch_status {
  std::string id;
  batch_state state = batch_state::queued;
  std::string client;  ///< to whom it belongs; empty: to nobody, for nobody was asked
  std::string model;   ///< as asked for
  std::string version;
  line_format format = line_format::jsonl;
  std::string input;  ///< the path in the input directory; empty: it was sent
  std::uint64_t input_bytes = 0;
  std::uint64_t bytes_done = 0;
  std::optional<std::uint64_t> lines_total;  ///< once they are counted
  std::uint64_t lines_done = 0;
  std::uint64_t lines_errors = 0;
  std::uint64_t result_bytes = 0;  ///< that may be fetched
  std::int64_t created_ms = 0;     ///< epoch
  std::int64_t started_ms = 0;     ///< 0: not yet
  std::int64_t ended_ms = 0;
  std::string problem;  ///< failed: why; running: what it waits for
};

/// What can't be done, as an HTTP status says it.
struct service_error {
  int status = 0;
  std::string message;
  nanos retry_after = 0;  ///< 0: nobody knows
};

struct batch_request {
  std::string client = {};  ///< to whom it is to belong
  std::string model;
  std::string version;
  line_format format = line_format::jsonl;
  std::string_view body;
  std::string input;  ///< instead of a body: a path in the input directory
  /// Asked about the first record of a CSV input: an error, or whether it names the features. Empty: it does.
  std::function<std::optional<service_error>(std::string_view first, bool& names)> csv_head = nullptr;
  /// Asked when all else is well, with the number of lines that would be scored; a refusal leaves nothing.
  /// Empty: lines are counted when the batch runs.
  std::function<std::optional<service_error>(std::uint64_t lines)> admit = nullptr;
};

class service {
 public:
  /// Makes the directory if need be and reads what is there. Throws std::runtime_error in one line when it
  /// can't be used, also because another process uses it.
  explicit service(service_options options);
  ~service();
  service(const service&) = delete;
  service& operator=(const service&) = delete;

  /// From now on batches run, those first that were begun.
  void start();
  /// The running batch keeps what was answered so far; nothing is handed in any more. Idempotent.
  void stop();

  // Any thread; they wait for the disk.
  [[nodiscard]] std::optional<service_error> submit(const batch_request& request, batch_status& made);
  [[nodiscard]] std::vector<batch_status> list() const;  ///< the newest first
  [[nodiscard]] std::optional<batch_status> find(std::string_view id) const;
  /// One that has not ended is cancelled, `removed` false; one that has is removed.
  [[nodiscard]] std::optional<service_error> remove(std::string_view id, batch_status& was, bool& removed);
  /// Up to `most` bytes of the results from `from`, of those that are there for good.
  [[nodiscard]] std::optional<service_error> results(std::string_view id, std::uint64_t from,
                                                     std::uint64_t most, std::string& into) const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::batches
