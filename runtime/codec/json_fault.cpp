#include "runtime/codec/json_fault.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "runtime/codec/json_reader.hpp"

namespace troupe::codec {
namespace {

constexpr std::size_t longest_text = std::size_t{1} << 20;

bool digit(char c) {
  return c >= '0' && c <= '9';
}

/// RFC 8259 with NaN and Infinity, which are told apart later.
class scanner {
 public:
  explicit scanner(std::string_view text) : text_(text) {}

  /// False: at() and what() say where and what; true: nothing was found.
  bool run() {
    next wants = next::value;
    for (;;) {
      while (at_ < text_.size() && std::string_view(" \n\r\t").find(text_[at_]) != std::string_view::npos)
        ++at_;
      if (at_ == text_.size()) {
        if (wants == next::end) return true;
        if (open_.empty()) return fault("the text ends where a value should be");
        return fault(open_.back() == '{' ? "the text ends before an object's '}'"
                                         : "the text ends before a list's ']'");
      }
      const char c = text_[at_];
      switch (wants) {
        case next::value_or_close:
          if (c == ']') {
            wants = close();
            break;
          }
          [[fallthrough]];
        case next::value:
          if (c == '{' || c == '[') {
            if (open_.size() == max_depth) return fault("nested deeper than 64 levels");
            open_ += c;
            wants = c == '{' ? next::key_or_close : next::value_or_close;
            ++at_;
            break;
          }
          if (c == '"' ? !string() : !word()) return false;
          wants = after();
          break;
        case next::key_or_close:
          if (c == '}') {
            wants = close();
            break;
          }
          [[fallthrough]];
        case next::key:
          if (c != '"') return expected("a name in double quotes");
          if (!string()) return false;
          wants = next::colon;
          break;
        case next::colon:
          if (c != ':') return expected("':'");
          ++at_;
          wants = next::value;
          break;
        case next::comma:
          if (c == (open_.back() == '{' ? '}' : ']')) {
            wants = close();
            break;
          }
          if (c != ',') return expected(open_.back() == '{' ? "',' or '}'" : "',' or ']'");
          ++at_;
          wants = open_.back() == '{' ? next::key : next::value;
          break;
        case next::end:
          return fault("something follows the document");
      }
    }
  }

  [[nodiscard]] std::size_t at() const { return at_; }
  [[nodiscard]] const std::string& what() const { return what_; }

 private:
  enum class next { value, value_or_close, key, key_or_close, colon, comma, end };

  [[nodiscard]] next after() const { return open_.empty() ? next::end : next::comma; }
  next close() {
    open_.pop_back();
    ++at_;
    return after();
  }

  bool fault(std::string what) {
    what_ = std::move(what);
    return false;
  }
  bool expected(const std::string& what) {
    const char c = text_[at_];
    return fault("expected " + what +
                 (c == '\''            ? ", found a single quote"
                  : c > ' ' && c < 127 ? std::string(", found '") + c + "'"
                                       : ""));
  }

  bool string() {
    const std::size_t begin = at_;
    for (++at_; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return true;
      }
      if (static_cast<unsigned char>(c) < ' ') return fault("a control character in a string");
      if (c != '\\') continue;
      const std::size_t escape = at_++;
      if (at_ == text_.size()) break;
      bool good = std::string_view("\"\\/bfnrtu").find(text_[at_]) != std::string_view::npos;
      if (good && text_[at_] == 'u')
        for (int i = 0; i < 4 && good; ++i)
          good = ++at_ < text_.size() &&
                 std::string_view("0123456789abcdefABCDEF").find(text_[at_]) != std::string_view::npos;
      if (!good) {
        at_ = escape;
        return fault("an invalid escape in a string");
      }
    }
    at_ = begin;
    return fault("a string is not closed");
  }

  bool word() {
    for (const std::string_view known : {"true", "false", "null", "NaN", "Infinity", "-Infinity"})
      if (text_.substr(at_).starts_with(known)) {
        at_ += known.size();
        return true;
      }
    const std::size_t begin = at_;
    const auto digits = [&] {
      const std::size_t from = at_;
      while (at_ < text_.size() && digit(text_[at_])) ++at_;
      return at_ > from;
    };
    if (text_[at_] == '-') ++at_;
    const bool zero = at_ < text_.size() && text_[at_] == '0';
    if (!digits()) {
      at_ = begin;
      return expected("a value");
    }
    bool good = !zero || at_ - begin <= (text_[begin] == '-' ? 2U : 1U);
    if (good && at_ < text_.size() && text_[at_] == '.') {
      ++at_;
      good = digits();
    }
    if (good && at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      ++at_;
      if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
      good = digits();
    }
    if (good) return true;
    at_ = begin;
    return fault("a number that JSON does not have");
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::string open_;  ///< the brackets around at_
  std::string what_;
};

}  // namespace

std::string json_fault(std::string_view json, std::string_view why) {
  constexpr std::string_view invalid = " is not valid JSON";
  constexpr std::string_view mark = "\xef\xbb\xbf";
  std::string text(why);
  if (!why.starts_with(invalid) || json.size() > longest_text) return text;
  if (json.starts_with(mark)) json.remove_prefix(mark.size());
  scanner scan(json);
  if (scan.run()) return text;
  const std::string_view before = json.substr(0, scan.at());
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t column = scan.at() - (before.rfind('\n') + 1) + 1;
  text = invalid;
  return text + " at line " + std::to_string(line) + ", column " + std::to_string(column) + ": " +
         scan.what();
}

}  // namespace troupe::codec
