#pragma once
// Text put together in a buffer that is used again, and lists in it.

#include <charconv>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

namespace troupe::codec {

/// Text put together in a buffer that keeps its size from one use to the next: no call and no clearing while
/// there is room.
class appender {
 public:
  explicit appender(std::string& buffer) : out_(buffer) {}

  appender& operator+=(std::string_view text) {
    if (out_.size() - at_ < text.size()) room(text.size());
    std::memcpy(out_.data() + at_, text.data(), text.size());
    at_ += text.size();
    return *this;
  }
  appender& operator+=(char c) { return *this += std::string_view(&c, 1); }

  template <class Number>
  void number(Number value) {
    constexpr std::size_t longest = 32;
    if (out_.size() - at_ < longest) room(longest);
    char* p = out_.data() + at_;
    at_ = static_cast<std::size_t>(std::to_chars(p, p + longest, value).ptr - out_.data());
  }
  void again(std::size_t from, std::size_t size) {
    if (out_.size() - at_ < size) room(size);
    std::memcpy(out_.data() + at_, out_.data() + from, size);
    at_ += size;
  }
  [[nodiscard]] std::size_t size() const { return at_; }
  [[nodiscard]] std::string_view text() const { return {out_.data(), at_}; }

 private:
  void room(std::size_t size) { out_.resize(2 * (at_ + size)); }

  std::string& out_;
  std::size_t at_ = 0;
};

/// Calls `one(i)` for each of n items, as a JSON list when `list` (else there is one item).
template <class F>
void items(appender& out, std::size_t n, bool list, F one) {
  if (!list) return one(std::size_t{0});
  out += '[';
  for (std::size_t i = 0; i < n; ++i) {
    if (i != 0) out += ',';
    one(i);
  }
  out += ']';
}

}  // namespace troupe::codec
