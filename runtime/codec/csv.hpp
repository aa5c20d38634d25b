#pragma once
// Comma-separated values by RFC 4180, strictly: a quote only around a whole field (doubled inside), as many
// fields in every record as in the first. Lines end with CRLF or LF, the last one may go without. A byte
// order mark at the start is skipped.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::codec {

class csv_reader {
 public:
  explicit csv_reader(std::string_view text);

  /// The next record's fields, good until the next call. False: there is none, or error() says why not.
  [[nodiscard]] bool next(std::vector<std::string_view>& fields);
  /// Empty: all is well.
  [[nodiscard]] const std::string& error() const { return error_; }
  /// The line that the last record began on, from 1.
  [[nodiscard]] std::size_t line() const { return record_line_; }

 private:
  bool fail(std::string_view why);

  std::string_view left_;
  std::size_t line_ = 1;
  std::size_t record_line_ = 0;
  std::size_t width_ = 0;
  std::string unquoted_;  ///< fields with doubled quotes
  std::string error_;
};

}  // namespace troupe::codec
