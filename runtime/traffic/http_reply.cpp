#include "runtime/traffic/http_reply.hpp"

#include <algorithm>
#include <charconv>

namespace troupe::traffic {
namespace {

constexpr std::size_t most_head = 65536;
constexpr std::size_t most_body = 64U << 20;

bool same(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() && std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) {
           return (x >= 'A' && x <= 'Z' ? static_cast<char>(x + 32) : x) == y;
         });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool read_size(std::string_view text, int base, std::size_t& to) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to, base);
  return error == std::errc() && end == text.data() + text.size() && to <= most_body;
}

}  // namespace

void http_reply::reset() {
  got_.clear();
  head_ = whole_ = chunk_ = 0;
  framing_ = framing::length;
  status_ = 0;
  closes_ = false;
}

http_reply::state http_reply::take(std::string_view bytes) {
  got_.append(bytes);
  if (head_ == 0) {
    if (const state s = read_head(); s != state::whole) return s;
  }
  switch (framing_) {
    case framing::length:
      return got_.size() >= whole_ ? state::whole : state::more;
    case framing::chunks:
      return read_chunks();
    case framing::until_close:
      return got_.size() - head_ > most_body ? state::bad : state::more;
  }
  return state::bad;
}

http_reply::state http_reply::end() const {
  return head_ > 0 && framing_ == framing::until_close ? state::whole : state::bad;
}

/// `whole`: the head is.
http_reply::state http_reply::read_head() {
  const auto end = got_.find("\r\n\r\n");
  if (end == std::string::npos) return got_.size() > most_head ? state::bad : state::more;
  std::string_view head(got_.data(), end);
  // HTTP/1.1 200 OK
  if (head.size() < 12 || !head.starts_with("HTTP/1.") || head[8] != ' ') return state::bad;
  const auto digits = head.substr(9, 3);
  const auto [past, error] = std::from_chars(digits.data(), digits.data() + 3, status_);
  if (error != std::errc() || past != digits.data() + 3 || status_ < 100) return state::bad;
  if (status_ < 200) {  // a 100 Continue nobody asked for; the reply follows
    got_.erase(0, end + 4);
    return read_head();
  }
  closes_ = head[7] == '0';
  bool has_length = false;
  std::size_t length = 0;
  for (auto at = head.find("\r\n"); at != std::string_view::npos;) {
    const auto next = head.find("\r\n", at + 2);
    const auto line = head.substr(at + 2, next == std::string_view::npos ? next : next - at - 2);
    at = next;
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return state::bad;
    const auto name = line.substr(0, colon);
    const auto value = trimmed(line.substr(colon + 1));
    if (same(name, "content-length")) {
      if (!read_size(value, 10, length)) return state::bad;
      has_length = true;
    } else if (same(name, "transfer-encoding")) {
      if (!same(value, "chunked")) return state::bad;
      framing_ = framing::chunks;
    } else if (same(name, "connection")) {
      closes_ = same(value, "close") || (closes_ && !same(value, "keep-alive"));
    }
  }
  head_ = end + 4;
  chunk_ = head_;
  if (framing_ == framing::length && !has_length && status_ != 204 && status_ != 304) {
    framing_ = framing::until_close;
    closes_ = true;
  }
  whole_ = head_ + length;
  return state::whole;
}

http_reply::state http_reply::read_chunks() {
  for (;;) {
    const auto end = got_.find("\r\n", chunk_);
    if (end == std::string::npos) return got_.size() - chunk_ > 64 ? state::bad : state::more;
    std::string_view text = std::string_view(got_).substr(chunk_, end - chunk_);
    text = trimmed(text.substr(0, text.find(';')));
    std::size_t size = 0;
    if (!read_size(text, 16, size) || got_.size() - head_ > most_body) return state::bad;
    if (size == 0)  // trailers are not looked for: none of the servers we know sends any
      return got_.size() >= end + 4 ? state::whole : state::more;
    if (got_.size() < end + 2 + size + 2) return state::more;
    chunk_ = end + 2 + size + 2;
  }
}

}  // namespace troupe::traffic
