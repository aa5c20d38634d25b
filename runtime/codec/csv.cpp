#include "runtime/codec/csv.hpp"

#include <algorithm>

namespace troupe::codec {

csv_reader::csv_reader(std::string_view text) : left_(text) {
  constexpr std::string_view mark = "\xef\xbb\xbf";
  if (left_.starts_with(mark)) left_.remove_prefix(mark.size());
}

bool csv_reader::fail(std::string_view why) {
  error_ = "line " + std::to_string(line_) + ": " + std::string(why);
  left_ = {};
  return false;
}

bool csv_reader::next(std::vector<std::string_view>& fields) {
  fields.clear();
  if (left_.empty()) return false;
  record_line_ = line_;
  unquoted_.clear();
  bool reserved = false;
  const char* p = left_.data();
  const char* const end = p + left_.size();
  for (;;) {
    if (p != end && *p == '"') {
      const char* const begin = ++p;
      bool doubled = false;
      for (;; ++p) {
        if (p == end) return fail("a quoted field is not closed");
        if (*p == '\n') ++line_;
        if (*p != '"') continue;
        if (p + 1 == end || p[1] != '"') break;
        doubled = true;
        ++p;
      }
      std::string_view field(begin, static_cast<std::size_t>(p - begin));
      ++p;
      if (doubled) {
        // Once for the whole record, so that what was handed out stays where it is.
        if (!reserved) unquoted_.reserve(static_cast<std::size_t>(end - begin));
        reserved = true;
        const std::size_t from = unquoted_.size();
        for (std::size_t i = 0; i < field.size(); ++i) {
          unquoted_ += field[i];
          if (field[i] == '"') ++i;
        }
        field = std::string_view(unquoted_).substr(from);
      }
      fields.push_back(field);
      if (p != end && *p != ',' && *p != '\n' && !(*p == '\r' && p + 1 != end && p[1] == '\n'))
        return fail("text behind a closing quote");
    } else {
      const char* const begin = p;
      while (p != end && *p != ',' && *p != '\n') {
        if (*p == '"') return fail("a quote in a field that is not quoted");
        ++p;
      }
      const char* last = p;
      if (last != begin && (p == end || *p == '\n') && last[-1] == '\r') --last;
      if (std::find(begin, last, '\r') != last)
        return fail("a carriage return in a field that is not quoted");
      fields.push_back({begin, static_cast<std::size_t>(last - begin)});
    }
    if (p != end && *p == '\r') ++p;
    if (p == end) break;
    if (*p++ == ',') continue;
    ++line_;
    break;
  }
  left_ = {p, static_cast<std::size_t>(end - p)};
  if (width_ == 0) width_ = fields.size();
  if (fields.size() == width_) return true;
  line_ = record_line_;
  return fail(std::to_string(fields.size()) + (fields.size() == 1 ? " field" : " fields") +
              ", the header has " + std::to_string(width_));
}

}  // namespace troupe::codec
