#pragma once
// The rows of a Parquet file as CSV. A process of its own reads the file (scripts/batch/parquet.py, which
// needs pyarrow) and writes them into a pipe: nothing is kept on disk, and of the file only some thousand
// rows are in memory. Whoever goes on somewhere in it has the rows before that left out.

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/batches/files.hpp"

namespace troupe::cli {

class parquet_source {
 public:
  struct options {
    std::vector<std::string> command;   ///< the reader; its options are put behind it
    std::string name;                   ///< of the file, for errors
    std::vector<std::string> features;  ///< the columns to read, if all of them are there; else all are
    std::uint64_t skip = 0;             ///< rows to leave out
  };

  /// `file`: open for reading, a regular file. Waits until the reader knows the file. Throws usage_error with
  /// what is wrong with the file, with the reader or with what it needs.
  parquet_source(const batches::file_handle& file, options o, const std::atomic<bool>& stop);
  /// Ends the reader, if it is still there.
  ~parquet_source();
  parquet_source(const parquet_source&) = delete;
  parquet_source& operator=(const parquet_source&) = delete;

  [[nodiscard]] std::uint64_t rows() const { return rows_; }  ///< of the whole file

  /// The next bytes of the CSV: a line of names, then a line a row. 0: these were all, or `stop`. Throws
  /// usage_error when the reader refused the file, std::runtime_error when it failed on its way.
  [[nodiscard]] std::size_t read(char* to, std::size_t most);

 private:
  void start(const batches::file_handle& file);
  [[nodiscard]] std::size_t read_pipe(char* to, std::size_t most);
  void reap();
  void stop_reader();

  options options_;
  const std::atomic<bool>& stop_;
  batches::file_handle pipe_;
  batches::file_handle errors_;
  pid_t child_ = -1;
  std::uint64_t rows_ = 0;
  bool ended_ = false;
};

/// python3 and scripts/batch/parquet.py. Throws std::runtime_error when that is not there.
[[nodiscard]] std::vector<std::string> parquet_command();

}  // namespace troupe::cli
