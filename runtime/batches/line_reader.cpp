#include "runtime/batches/line_reader.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace troupe::batches {
namespace {

constexpr std::size_t chunk = std::size_t{64} << 10;
constexpr std::string_view mark = "\xef\xbb\xbf";

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return out;
}

bool blank(std::string_view text) {
  return text.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

std::optional<line_format> format_of_name(std::string_view name) {
  const std::string n = lower(name);
  if (n == "csv") return line_format::csv;
  if (n == "jsonl" || n == "ndjson" || n == "json") return line_format::jsonl;
  return std::nullopt;
}

std::optional<line_format> format_of_path(std::string_view path) {
  const auto dot = path.rfind('.');
  const auto slash = path.rfind('/');
  if (dot == std::string_view::npos || (slash != std::string_view::npos && dot < slash)) return std::nullopt;
  return format_of_name(path.substr(dot + 1));
}

line_reader::line_reader(source in, line_format format, std::size_t max_line, line_position from)
    : in_(std::move(in)), format_(format), max_line_(max_line), at_(from) {
  buffer_.resize(chunk);
}

/// Reads on behind what is there. False: the source has ended.
bool line_reader::more() {
  if (ended_) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < chunk / 2) buffer_.resize(buffer_.size() * 2);
  const std::size_t n = in_(buffer_.data() + end_, buffer_.size() - end_);
  end_ += n;
  ended_ = n == 0;
  return n != 0;
}

bool line_reader::read_one(input_line& line) {
  line.number = at_.lines + 1;
  if (at_.offset == 0) {
    while (end_ - begin_ < mark.size() && more()) {
    }
    if (std::string_view(buffer_.data() + begin_, end_ - begin_).starts_with(mark)) {
      begin_ += mark.size();
      at_.offset += mark.size();
    }
  }
  std::size_t seen = 0;   // bytes from begin_ that hold no end
  std::uint64_t cut = 0;  // bytes of a line that is too long, already passed over
  bool quoted = false;
  bool return_at_end = false;  // the last byte passed over is a CR
  for (;;) {
    const char* const from = buffer_.data() + begin_;
    const std::size_t have = end_ - begin_;
    std::size_t end = have;
    if (format_ == line_format::jsonl) {
      if (const void* lf = have > seen ? std::memchr(from + seen, '\n', have - seen) : nullptr)
        end = static_cast<std::size_t>(static_cast<const char*>(lf) - from);
    } else {
      for (std::size_t i = seen; i < have; ++i) {
        if (from[i] == '"') quoted = !quoted;
        if (from[i] != '\n') continue;
        ++at_.lines;
        if (quoted) continue;
        end = i;
        break;
      }
    }
    if (end < have || (ended_ && (have > 0 || cut > 0))) {
      if (end < have && format_ == line_format::jsonl) ++at_.lines;
      const std::size_t whole = end + (end < have ? 1 : 0);
      line.text = {from, end};
      line.size = cut + end;
      if (end < have && line.text.ends_with('\r')) {
        line.text.remove_suffix(1);
        --line.size;
      } else if (end == 0 && have > 0 && return_at_end) {
        --line.size;
      }
      if (line.size > max_line_) line.text = {};
      begin_ += whole;
      at_.offset += cut + whole;
      line.end = at_;
      return true;
    }
    if (ended_) return false;
    seen = have;
    if (have > max_line_ + 1) {  // the one may be the CR of its end
      cut += have;
      return_at_end = from[have - 1] == '\r';
      begin_ = end_;
      seen = 0;
    }
    (void)more();
  }
}

bool line_reader::next(input_line& line) {
  do {
    if (!read_one(line)) return false;
  } while (line.size <= max_line_ && blank(line.text));
  return true;
}

}  // namespace troupe::batches
