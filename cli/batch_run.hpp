#pragma once
// Scores a file of requests with one model, on all cores, and remembers how far it has come.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/batches/line_reader.hpp"
#include "runtime/model/model.hpp"

namespace troupe::cli {

struct batch_run_options {
  std::string input;   ///< "-": standard input
  std::string output;  ///< "-": standard output
  batches::line_format format = batches::line_format::jsonl;
  std::vector<std::string> parquet;  ///< what reads the input, a Parquet file, as CSV; empty: it is none
  std::shared_ptr<const model::loaded_model> model;
  std::size_t threads = 1;
  std::size_t max_line = std::size_t{1} << 20;
  std::uint32_t max_rows = 10'000;
  std::uint32_t max_explained = 100;
  bool restart = false;
};

struct batch_run_report {
  std::uint64_t done = 0;     ///< lines answered, those of earlier runs too
  std::uint64_t errors = 0;   ///< of them
  std::uint64_t resumed = 0;  ///< of them by earlier runs
  std::uint64_t bytes = 0;    ///< of the input, read so far; of a Parquet file its rows
  std::uint64_t bytes_all = 0;
  double seconds = 0;
  bool finished = false;   ///< false: it was told to stop
  std::string checkpoint;  ///< where the next run goes on from; empty: there is none
  std::string first_error;
};

/// `tell` is called now and then. Throws usage_error, std::runtime_error; what was answered until then stays,
/// and the same call goes on from there.
[[nodiscard]] batch_run_report run_batch(const batch_run_options& options, const std::atomic<bool>& stop,
                                         const std::function<void(const batch_run_report&)>& tell);

}  // namespace troupe::cli
