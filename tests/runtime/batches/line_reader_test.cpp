#include "runtime/batches/line_reader.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace troupe::batches {
namespace {

struct got {
  std::string text;
  std::uint64_t number;
  std::uint64_t size;
  std::uint64_t end;
  bool operator==(const got&) const = default;
};

void PrintTo(const got& g, std::ostream* out) {
  *out << '"' << g.text.substr(0, 60) << "\" line " << g.number << " size " << g.size << " end " << g.end;
}

/// Gives at most `step` bytes at a time.
line_reader::source from(const std::string& text, std::size_t step, std::size_t begin = 0) {
  return [&text, step, at = begin](char* to, std::size_t most) mutable {
    const std::size_t n = std::min({most, step, text.size() - at});
    std::memcpy(to, text.data() + at, n);
    at += n;
    return n;
  };
}

std::vector<got> read(const std::string& text, line_format format, std::size_t max_line, std::size_t step,
                      line_position at = {}) {
  line_reader reader(from(text, step, at.offset), format, max_line, at);
  std::vector<got> all;
  input_line line;
  while (reader.next(line)) all.push_back({std::string(line.text), line.number, line.size, line.end.offset});
  return all;
}

TEST(LineReader, TakesLinesAsTheyCome) {
  const struct {
    const char* what;
    line_format format;
    std::string text;
    std::vector<got> lines;
  } table[] = {
      {"nothing", line_format::jsonl, "", {}},
      {"only ends", line_format::jsonl, "\n\r\n \t\n", {}},
      {"LF", line_format::jsonl, "a\nbc\n", {{"a", 1, 1, 2}, {"bc", 2, 2, 5}}},
      {"CRLF", line_format::jsonl, "a\r\nb\r\n", {{"a", 1, 1, 3}, {"b", 2, 1, 6}}},
      {"no last end", line_format::jsonl, "a\nb", {{"a", 1, 1, 2}, {"b", 2, 1, 3}}},
      {"blank lines count", line_format::jsonl, "\n\na\n\nb\n\n", {{"a", 3, 1, 4}, {"b", 5, 1, 7}}},
      {"a byte order mark", line_format::jsonl, "\xef\xbb\xbf{}\n", {{"{}", 1, 2, 6}}},
      {"quotes mean nothing", line_format::jsonl, "a\"\nb\n", {{"a\"", 1, 2, 3}, {"b", 2, 1, 5}}},
      {"CSV", line_format::csv, "a,b\n1,2\n", {{"a,b", 1, 3, 4}, {"1,2", 2, 3, 8}}},
      {"an end in quotes",
       line_format::csv,
       "a\n\"x\ny\"\n3\n",
       {{"a", 1, 1, 2}, {"\"x\ny\"", 2, 5, 8}, {"3", 4, 1, 10}}},
      {"doubled quotes", line_format::csv, "\"a\"\"\n\"\nb\n", {{"\"a\"\"\n\"", 1, 6, 7}, {"b", 3, 1, 9}}},
      {"a quote never closed", line_format::csv, "a\n\"x\ny\n", {{"a", 1, 1, 2}, {"\"x\ny\n", 2, 5, 7}}},
  };
  for (const auto& row : table)
    for (const std::size_t step : {std::size_t{1}, std::size_t{2}, std::size_t{1} << 20}) {
      SCOPED_TRACE(row.what);
      EXPECT_EQ(read(row.text, row.format, 100, step), row.lines);
    }
}

TEST(LineReader, PassesOverWhatIsTooLong) {
  for (const std::size_t size : {std::size_t{11}, std::size_t{70'000}, std::size_t{1'000'000}})
    for (const std::size_t step : {std::size_t{7}, std::size_t{65'536}, std::size_t{1} << 24}) {
      const std::string text = "first\n" + std::string(size, 'x') + "\nlast";
      const auto lines = read(text, line_format::jsonl, 10, step);
      ASSERT_EQ(lines.size(), 3U);
      EXPECT_EQ(lines[0], (got{"first", 1, 5, 6}));
      EXPECT_EQ(lines[1], (got{"", 2, size, 7 + size}));
      EXPECT_EQ(lines[2], (got{"last", 3, 4, 11 + size}));
    }
  // As long as allowed, with either end.
  EXPECT_EQ(read("0123456789\r\n0123456789\n", line_format::jsonl, 10, 3),
            (std::vector<got>{{"0123456789", 1, 10, 12}, {"0123456789", 2, 10, 23}}));
}

TEST(LineReader, GoesOnFromAnyEnd) {
  std::mt19937 random(7);
  for (const auto format : {line_format::jsonl, line_format::csv})
    for (int round = 0; round < 200; ++round) {
      std::string text;
      for (int i = 0; i < 60; ++i) text += "ab,\"\"\n\r\n\n"[random() % 11];
      std::vector<input_line> whole;
      const auto all = read(text, format, 8, 1 + random() % 9);
      line_reader reader(from(text, 5), format, 8);
      input_line line;
      std::size_t n = 0;
      while (reader.next(line)) {
        ++n;
        const auto rest = read(text, format, 8, 1 + random() % 9, line.end);
        EXPECT_EQ(rest, std::vector<got>(all.begin() + static_cast<std::ptrdiff_t>(n), all.end())) << text;
      }
      EXPECT_EQ(n, all.size());
    }
}

TEST(LineFormat, ComesFromNames) {
  EXPECT_EQ(format_of_path("a/b.CSV"), line_format::csv);
  EXPECT_EQ(format_of_path("b.jsonl"), line_format::jsonl);
  EXPECT_EQ(format_of_path("b.ndjson"), line_format::jsonl);
  EXPECT_EQ(format_of_path("a.csv/b"), std::nullopt);
  EXPECT_EQ(format_of_path("b.parquet"), std::nullopt);
  EXPECT_EQ(format_of_name("xml"), std::nullopt);
}

}  // namespace
}  // namespace troupe::batches
