#pragma once
// How far a batch has come: everything up to `output` of the results is there for good and answers all lines
// of the input up to `input`. Written after the results are on disk; whoever goes on cuts the results to
// `output` first, so that no line is ever answered twice or left out.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>

#include "runtime/batches/files.hpp"
#include "runtime/batches/line_reader.hpp"

namespace troupe::batches {

struct checkpoint {
  file_stamp of;      ///< the input that it is about
  std::string model;  ///< who answers, as its maker writes it; another one: it is no use
  line_position input;
  std::uint64_t output = 0;  ///< bytes
  std::uint64_t done = 0;    ///< lines answered, errors among them
  std::uint64_t errors = 0;

  [[nodiscard]] bool operator==(const checkpoint&) const = default;
};

/// The file is there, but is no checkpoint. One line.
struct checkpoint_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// nullopt: there is none. Throws checkpoint_error, std::system_error.
[[nodiscard]] std::optional<checkpoint> read_checkpoint(const std::filesystem::path& path);
/// Throws std::system_error; then the one before is still there.
void write_checkpoint(const std::filesystem::path& path, const checkpoint& c);

}  // namespace troupe::batches
