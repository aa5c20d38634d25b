#pragma once
// A new version scores real rows before it gets traffic: its memory is touched, its caches are warm, and an
// engine that can't score fails here and not on a request.

#include <cstddef>
#include <filesystem>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "runtime/model/model.hpp"

namespace troupe::model {

/// A few rows that were scored lately, by model name: what a version without rows of its own is warmed with.
class recent_rows {
 public:
  static constexpr std::size_t kept = 64;

  /// Replaces what is kept of that model. `rows`: pointers to `width` doubles. From any thread, seldom.
  void offer(const std::string& model, std::span<const double* const> rows, std::size_t width);
  /// Rows of that width, one after another; empty if there are none.
  [[nodiscard]] std::vector<double> take(const std::string& model, std::size_t width) const;

 private:
  struct some {
    std::string model;
    std::size_t width = 0;
    std::vector<double> values;
  };
  mutable std::mutex mutex_;
  std::vector<some> some_;
};

/// `<version>/probe.json` or `input_example.json`, whichever is there: a JSON list of rows, each a list of
/// numbers (null: missing) in the order of the features, or an object by feature name. Returns rows x width
/// doubles, empty without such a file. Throws load_error.
[[nodiscard]] std::vector<double> probe_rows(const std::filesystem::path& version_dir, const schema& columns);

struct warm_up_result {
  std::size_t rows = 0;
  const char* from = "";  ///< probe, recent, zeros
  long took_us = 0;       ///< of the last round
};

/// Scores the version's own rows, else recent ones, else a row of zeros, a few rounds. Throws load_error when
/// the engine fails, or gives a number that is not finite for one of the version's own rows.
warm_up_result warm_up(const loaded_model& m, const recent_rows& recent);

}  // namespace troupe::model
