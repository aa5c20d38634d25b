#pragma once
// A file or stream of requests, line by line: JSON lines, or the records of a CSV file (RFC 4180: a line end
// within quotes does not end a record).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace troupe::batches {

enum class line_format : std::uint8_t { jsonl, csv };

/// jsonl, json, ndjson or csv.
[[nodiscard]] std::optional<line_format> format_of_name(std::string_view name);
/// By the ending of a path: .csv, .jsonl, .ndjson, .json.
[[nodiscard]] std::optional<line_format> format_of_path(std::string_view path);
[[nodiscard]] constexpr std::string_view to_string(line_format f) {
  return f == line_format::csv ? "csv" : "jsonl";
}

/// Where a reader stands: behind the line that it gave last.
struct line_position {
  std::uint64_t offset = 0;  ///< bytes
  std::uint64_t lines = 0;   ///< line ends before it

  [[nodiscard]] bool operator==(const line_position&) const = default;
};

struct input_line {
  std::string_view text;     ///< without its end (LF or CRLF); empty when it is too long
  std::uint64_t number = 0;  ///< of the line that it begins on, from 1
  std::uint64_t size = 0;    ///< bytes that it has; more than the reader's limit: it is too long
  line_position end;         ///< behind it
};

/// Owns a buffer of about the longest line allowed; not thread safe. Lines of nothing but blanks are passed
/// over, a byte order mark at the beginning is dropped, the last line may go without an end.
class line_reader {
 public:
  /// Up to so many bytes; 0: that was all. What it throws goes through.
  using source = std::function<std::size_t(char* to, std::size_t most)>;

  /// `from`: where the source stands, an end of a line.
  line_reader(source in, line_format format, std::size_t max_line, line_position from = {});

  /// The next line, good until the next call. False: there is none.
  [[nodiscard]] bool next(input_line& line);
  [[nodiscard]] std::size_t max_line() const { return max_line_; }

 private:
  bool more();
  bool read_one(input_line& line);

  source in_;
  line_format format_;
  std::size_t max_line_;
  line_position at_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;  // of what is not given yet
  std::size_t end_ = 0;
  bool ended_ = false;
};

}  // namespace troupe::batches
