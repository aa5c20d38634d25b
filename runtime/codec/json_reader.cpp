#include "runtime/codec/json_reader.hpp"

#include <simdjson.h>

#include <cstring>
#include <new>
#include <string>

#include "runtime/codec/dom_text.hpp"

namespace troupe::codec {
namespace {

namespace dom = simdjson::dom;

// What a document that is not one of the usual ones may leave behind in a reader.
constexpr std::size_t kept_capacity = std::size_t{64} << 10;
constexpr std::size_t first_capacity = std::size_t{4} << 10;

bool token_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' || c == '-' ||
         c == '.';
}

bool space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/// Whether `text` is a number by JSON's grammar; `integer` tells that it has neither fraction nor exponent.
bool json_number(std::string_view text, bool& integer) {
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t from = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    return i - from;
  };
  integer = true;
  if (i < text.size() && text[i] == '-') ++i;
  if (i < text.size() && text[i] == '0') {
    ++i;
  } else if (digits() == 0) {
    return false;
  }
  if (i < text.size() && text[i] == '.') {
    integer = false;
    ++i;
    if (digits() == 0) return false;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    integer = false;
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (digits() == 0) return false;
  }
  return i == text.size();
}

/// The end of the string that starts (with its quote) at `at`: behind the closing quote, or the text's end.
std::size_t string_end(std::string_view text, std::size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      return at + 1;
    }
  }
  return text.size();
}

std::string_view reason(simdjson::error_code code) {
  switch (code) {
    case simdjson::UTF8_ERROR:
      return " is not valid UTF-8";
    case simdjson::EMPTY:
      return " is empty";
    case simdjson::DEPTH_ERROR:
      return " is nested deeper than 64 levels";
    case simdjson::UNCLOSED_STRING:
      return " is not valid JSON: a string is not closed";
    case simdjson::UNESCAPED_CHARS:
      return " is not valid JSON: a control character in a string";
    case simdjson::STRING_ERROR:
      return " is not valid JSON: an invalid escape in a string";
    default:
      return " is not valid JSON";
  }
}

}  // namespace

class json_reader::work {
 public:
  std::string_view read(std::string_view json, dom::element& root);
  void shrink();
  [[nodiscard]] bool repaired() const { return was_repaired_; }

 private:
  bool repair(std::string_view json);
  simdjson::error_code run(const char* json, std::size_t size, dom::element& root);

  dom::parser json_;
  std::unique_ptr<char[]> buffer_;
  std::size_t buffer_size_ = 0;
  std::string repaired_;
  bool was_repaired_ = false;
  std::string text_;
};

void json_reader::work::shrink() {
  if (buffer_size_ > kept_capacity) {
    buffer_.reset();
    buffer_size_ = 0;
  }
  if (json_.capacity() > kept_capacity) json_ = dom::parser();
  if (repaired_.capacity() > kept_capacity) std::string().swap(repaired_);
}

/// Parses `json`; `root` is good until the next run.
simdjson::error_code json_reader::work::run(const char* json, std::size_t size, dom::element& root) {
  if (size > json_.capacity()) {
    std::size_t capacity = first_capacity;
    while (capacity < size) capacity *= 2;
    // The library counts the document itself as a level.
    if (const auto error = json_.allocate(capacity, max_depth + 1)) return error;
  }
  // The library reads whole blocks, so it works on a copy with room behind it.
  if (buffer_size_ < size + simdjson::SIMDJSON_PADDING) {
    buffer_size_ = json_.capacity() + simdjson::SIMDJSON_PADDING;
    buffer_ = std::make_unique<char[]>(buffer_size_);
  }
  std::memcpy(buffer_.get(), json, size);
  return json_.parse(buffer_.get(), size, false).get(root);
}

/// Copies `json` into repaired_ with each token that the library has no number for (NaN, Infinity, 1e400) as
/// a marker string, and long integers as doubles. False if nothing was changed. All else stays for the
/// library to judge.
bool json_reader::work::repair(std::string_view json) {
  repaired_.clear();
  bool changed = false;
  dom::parser one;
  for (std::size_t i = 0; i < json.size();) {
    const char c = json[i];
    std::size_t end = i + 1;
    if (c == '"') {
      end = string_end(json, i);
    } else if (c == '-' || c == 'N' || c == 'I' || (c >= '0' && c <= '9')) {
      while (end < json.size() && token_char(json[end])) ++end;
      const std::string_view token = json.substr(i, end - i);
      std::size_t next = end;
      while (next < json.size() && space(json[next])) ++next;
      const bool key = next < json.size() && json[next] == ':';
      bool integer = false;
      if (key) {
        // Stays, and is an error.
      } else if (token == "NaN" || token == "Infinity" || token == "-Infinity") {
        repaired_ += token == "NaN" ? "\"\\u0000NaN\\u0000\"" : "\"\\u0000Infinity\\u0000\"";
        changed = true;
        i = end;
        continue;
      } else if (json_number(token, integer) && (!integer || token.size() > 18)) {
        text_.assign(token);
        if (integer) text_ += "e0";
        dom::element ignored;
        const bool fits = one.parse(text_).get(ignored) == simdjson::SUCCESS;
        changed = changed || integer || !fits;
        repaired_ += fits ? std::string_view(text_) : std::string_view("\"\\u0000range\\u0000\"");
        i = end;
        continue;
      }
    }
    repaired_ += json.substr(i, end - i);
    i = end;
  }
  return changed;
}

std::string_view json_reader::work::read(std::string_view json, dom::element& root) {
  was_repaired_ = false;
  // One byte order mark is skipped, here rather than in the library, whose versions differ in this.
  constexpr std::string_view mark = "\xef\xbb\xbf";
  if (json.starts_with(mark)) json.remove_prefix(mark.size());
  if (json.starts_with(mark)) return reason(simdjson::TAPE_ERROR);
  if (json.empty()) return reason(simdjson::EMPTY);
  auto error = run(json.data(), json.size(), root);
  if (error == simdjson::MEMALLOC) throw std::bad_alloc();
  if (error != simdjson::SUCCESS && error != simdjson::UTF8_ERROR && repair(json)) {
    was_repaired_ = true;
    if (run(repaired_.data(), repaired_.size(), root) == simdjson::SUCCESS) error = simdjson::SUCCESS;
  }
  return error == simdjson::SUCCESS ? std::string_view() : reason(error);
}

std::string_view number_text(std::string_view json, std::string_view key) {
  std::string_view found;
  int depth = 0;
  std::string_view last;
  for (std::size_t i = 0; i < json.size();) {
    const char c = json[i];
    if (c == '"') {
      const std::size_t end = string_end(json, i);
      last = json.substr(i + 1, end - i - 2);
      i = end;
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    ++i;
    if (c != ':' || depth != 1 || last != key) continue;
    while (i < json.size() && space(json[i])) ++i;
    std::size_t end = i;
    while (end < json.size() && token_char(json[end])) ++end;
    found = json.substr(i, end - i);
  }
  return found;
}

bool holds_not_a_number(const dom::element& e) {
  switch (e.type()) {
    case dom::element_type::ARRAY:
      for (const dom::element item : as<dom::array>(e))
        if (holds_not_a_number(item)) return true;
      return false;
    case dom::element_type::OBJECT:
      for (const auto field : as<dom::object>(e))
        if (holds_not_a_number(field.value)) return true;
      return false;
    case dom::element_type::STRING:
      return is_marker(as<std::string_view>(e)) && as<std::string_view>(e) != out_of_range;
    default:
      return false;
  }
}

json_reader::json_reader() : work_(std::make_unique<work>()) {}
json_reader::~json_reader() = default;
json_reader::json_reader(json_reader&&) noexcept = default;
json_reader& json_reader::operator=(json_reader&&) noexcept = default;

std::string_view json_reader::read(std::string_view json, dom::element& root) {
  return work_->read(json, root);
}

bool json_reader::repaired() const {
  return work_->repaired();
}

void json_reader::shrink() {
  work_->shrink();
}

}  // namespace troupe::codec
