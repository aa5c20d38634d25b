#include "runtime/model/npy.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "runtime/model/model.hpp"

namespace troupe::model::npy {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw load_error("a .npy array " + what);
}

/// The header, a literal of Python: {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
class header_reader {
 public:
  explicit header_reader(std::string_view text) : text_(text) {}

  bool take(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void need(char c) {
    if (!take(c)) refuse("has a broken header");
  }
  std::string quoted() {
    need('\'');
    const std::size_t end = text_.find('\'', at_);
    if (end == std::string_view::npos) refuse("has a broken header");
    std::string out(text_.substr(at_, end - at_));
    at_ = end + 1;
    return out;
  }
  bool truth() {
    skip();
    for (const auto& [word, value] : {std::pair("True", true), std::pair("False", false)}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += std::strlen(word);
      return value;
    }
    refuse("has a broken header");
  }
  std::size_t number() {
    skip();
    std::size_t value = 0;
    const auto [end, failed] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (failed != std::errc()) refuse("has a broken header");
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }
  std::vector<std::size_t> shape() {
    std::vector<std::size_t> out;
    need('(');
    while (!take(')')) {
      if (out.size() == 8) refuse("has more than eight dimensions");
      out.push_back(number());
      if (!take(',')) {
        need(')');
        break;
      }
    }
    return out;
  }

 private:
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  std::string_view text_;
  std::size_t at_ = 0;
};

/// '<f8': order, kind, size.
field type_of(const std::string& text, std::string name) {
  field f;
  f.name = std::move(name);
  if (text.size() < 3 || (text[0] != '<' && text[0] != '|'))
    refuse("is of type " + text.substr(0, 16) + ", which is not built in");
  f.kind = text[1];
  const auto [end, failed] = std::from_chars(text.data() + 2, text.data() + text.size(), f.size);
  const bool number = failed == std::errc() && end == text.data() + text.size();
  const auto size_is = [&](std::initializer_list<std::size_t> list) {
    return std::find(list.begin(), list.end(), f.size) != list.end();
  };
  const bool good =
      number &&
      ((f.kind == 'b' && f.size == 1) || ((f.kind == 'i' || f.kind == 'u') && size_is({1, 2, 4, 8})) ||
       (f.kind == 'f' && size_is({4, 8})) || (f.kind == 'V' && f.size > 0 && f.size <= 64) ||
       (f.kind == 'U' && f.size <= 65'536));
  if (!good) refuse("is of type " + text.substr(0, 16) + ", which is not built in");
  if (f.kind == 'U') f.size *= 4;
  return f;
}

template <class T>
T load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

std::int64_t integer(const field& f, const char* from) {
  const bool sign = f.kind == 'i';
  switch (f.size) {
    case 1:
      return sign ? load<std::int8_t>(from) : load<std::uint8_t>(from);
    case 2:
      return sign ? load<std::int16_t>(from) : load<std::uint16_t>(from);
    case 4:
      return sign ? load<std::int32_t>(from) : static_cast<std::int64_t>(load<std::uint32_t>(from));
    default:
      return load<std::int64_t>(from);
  }
}

double real(const field& f, const char* from) {
  if (f.kind == 'f') return f.size == 4 ? static_cast<double>(load<float>(from)) : load<double>(from);
  if (f.kind == 'u' && f.size == 8) return static_cast<double>(load<std::uint64_t>(from));
  return static_cast<double>(integer(f, from));
}

std::string utf8(const char* from, std::size_t size) {
  std::string out;
  for (std::size_t at = 0; at < size; at += 4) {
    const auto c = load<std::uint32_t>(from + at);
    if (c == 0) break;
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) refuse("has a text that is not Unicode");
    const auto byte = [&](std::uint32_t b) { out.push_back(static_cast<char>(b)); };
    if (c < 0x80) {
      byte(c);
    } else if (c < 0x800) {
      byte(0xc0 | c >> 6);
      byte(0x80 | (c & 63));
    } else if (c < 0x10000) {
      byte(0xe0 | c >> 12);
      byte(0x80 | (c >> 6 & 63));
      byte(0x80 | (c & 63));
    } else {
      byte(0xf0 | c >> 18);
      byte(0x80 | (c >> 12 & 63));
      byte(0x80 | (c >> 6 & 63));
      byte(0x80 | (c & 63));
    }
  }
  return out;
}

}  // namespace

array::array(std::string bytes) : bytes_(std::move(bytes)) {
  const std::string_view all = bytes_;
  if (all.size() < 12 || !all.starts_with("\x93NUMPY")) refuse("does not begin as one");
  const auto byte = [&](std::size_t at) {
    return static_cast<std::size_t>(static_cast<std::uint8_t>(all[at]));
  };
  std::size_t size = byte(8) | byte(9) << 8;
  begin_ = 10;
  if (byte(6) >= 2) {
    size |= byte(10) << 16 | byte(11) << 24;
    begin_ = 12;
  }
  if (byte(6) < 1 || byte(6) > 3 || size > all.size() - begin_) refuse("has a broken header");
  header_reader in(all.substr(begin_, size));
  begin_ += size;
  bool has_shape = false;
  in.need('{');
  while (!in.take('}')) {
    const std::string key = in.quoted();
    in.need(':');
    if (key == "fortran_order") {
      fortran_ = in.truth();
    } else if (key == "shape") {
      shape_ = in.shape();
      has_shape = true;
    } else if (key == "descr") {
      fields_.clear();
      item_ = 0;
      if (in.take('[')) {
        while (!in.take(']')) {
          in.need('(');
          std::string name = in.quoted();
          in.need(',');
          fields_.push_back(type_of(in.quoted(), std::move(name)));
          fields_.back().offset = item_;
          item_ += fields_.back().size;
          in.take(',');
          in.need(')');
          in.take(',');
          if (fields_.size() > 64) refuse("has more than 64 fields");
        }
      } else {
        fields_.push_back(type_of(in.quoted(), ""));
        item_ = fields_.back().size;
      }
    } else {
      refuse("has a broken header");
    }
    if (!in.take(',')) {
      in.need('}');
      break;
    }
  }
  if (!has_shape || fields_.empty() || item_ == 0) refuse("has a broken header");
  const std::size_t there = bytes_.size() - begin_;
  for (const std::size_t n : shape_) {
    if (n != 0 && count_ > there / n) refuse("is shorter than its shape says");
    count_ *= n;
  }
  if (count_ > there / item_) refuse("is shorter than its shape says");
}

const field& array::find(std::string_view name) const {
  for (const field& f : fields_) {
    if (f.name == name) return f;
  }
  refuse("has no field " + std::string(name));
}

bool array::has(std::string_view name) const {
  return std::any_of(fields_.begin(), fields_.end(), [&](const field& f) { return f.name == name; });
}

std::size_t array::place(std::size_t i) const {
  if (!fortran_ || shape_.size() < 2) return begin_ + i * item_;
  std::size_t at = 0;
  std::size_t left = count_;
  std::size_t stride = 1;
  for (const std::size_t n : shape_) {
    left /= n;
    at += i / left * stride;
    i %= left;
    stride *= n;
  }
  return begin_ + at * item_;
}

std::vector<double> array::numbers(std::string_view name) const {
  const field& f = find(name);
  if (f.kind == 'U' || f.kind == 'V') refuse("has no numbers where numbers belong");
  std::vector<double> out;
  out.reserve(count_);
  for (std::size_t i = 0; i < count_; ++i) out.push_back(real(f, bytes_.data() + place(i) + f.offset));
  return out;
}

std::vector<std::string> array::texts() const {
  const field& f = find("");
  if (f.kind == 'V') refuse("is of a type that is not built in");
  std::vector<std::string> out;
  out.reserve(count_);
  for (std::size_t i = 0; i < count_; ++i) {
    const char* const from = bytes_.data() + place(i);
    if (f.kind == 'U') {
      out.push_back(utf8(from, f.size));
    } else if (f.kind == 'b') {
      out.emplace_back(*from ? "True" : "False");
    } else if (f.kind == 'f') {
      char text[40];
      const auto end = std::to_chars(text, text + sizeof text, real(f, from)).ptr;
      out.emplace_back(text, end);
      if (out.back().find_first_not_of("-0123456789") == std::string::npos) out.back() += ".0";
    } else if (f.kind == 'u' && f.size == 8) {
      out.push_back(std::to_string(load<std::uint64_t>(from)));
    } else {
      out.push_back(std::to_string(integer(f, from)));
    }
  }
  return out;
}

}  // namespace troupe::model::npy
