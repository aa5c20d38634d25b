#include "runtime/http/content_coding.hpp"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "runtime/http/text.hpp"

namespace troupe::http {
namespace {

constexpr int gzip_window = 15 + 16;
constexpr int zlib_window = 15;
constexpr int raw_window = -15;

/// RFC 1950: method 8, and the two bytes are a multiple of 31.
bool has_zlib_header(std::string_view bytes) {
  if (bytes.size() < 2) return true;
  const auto first = static_cast<unsigned char>(bytes[0]);
  const auto second = static_cast<unsigned char>(bytes[1]);
  return (first & 0x0fU) == 8 && (first * 256U + second) % 31U == 0;
}

uInt clamped(std::size_t n) {
  return static_cast<uInt>(std::min<std::size_t>(n, std::numeric_limits<uInt>::max()));
}

/// A `q` of zero refuses what it stands behind.
bool refused_by_weight(std::string_view parameters) {
  while (!parameters.empty()) {
    const auto one = trimmed(take_until(parameters, ';'));
    if (one.size() < 3 || lower(one[0]) != 'q' || one[1] != '=') continue;
    return one.find_first_not_of("0.", 2) == std::string_view::npos;
  }
  return false;
}

struct inflater {
  z_stream stream{};
  bool open = false;
  explicit inflater(int window) { open = ::inflateInit2(&stream, window) == Z_OK; }
  ~inflater() {
    if (open) ::inflateEnd(&stream);
  }
  inflater(const inflater&) = delete;
  inflater& operator=(const inflater&) = delete;
};

}  // namespace

coding content_coding(std::string_view field) {
  field = trimmed(field);
  if (field.empty() || same_name(field, "identity")) return coding::identity;
  if (same_name(field, "gzip") || same_name(field, "x-gzip")) return coding::gzip;
  if (same_name(field, "deflate")) return coding::deflate;
  return coding::unknown;
}

coding accepted_coding(std::string_view field) {
  bool deflate = false;
  bool any = false;
  bool no_gzip = false;
  while (!field.empty()) {
    std::string_view one = take_until(field, ',');
    const auto name = trimmed(take_until(one, ';'));
    const bool allowed = !refused_by_weight(one);
    if (same_name(name, "gzip") || same_name(name, "x-gzip")) {
      if (allowed) return coding::gzip;
      no_gzip = true;
    } else if (same_name(name, "deflate")) {
      deflate = allowed;
    } else if (name == "*") {
      any = allowed;
    }
  }
  if (deflate) return coding::deflate;
  return any && !no_gzip ? coding::gzip : coding::identity;
}

std::string_view coding_name(coding which) {
  return which == coding::gzip ? "gzip" : which == coding::deflate ? "deflate" : "identity";
}

inflated inflate_all(coding which, std::string_view bytes, std::size_t most, byte_buffer& to) {
  const int window = which == coding::gzip ? gzip_window : has_zlib_header(bytes) ? zlib_window : raw_window;
  inflater z(window);
  if (!z.open) return inflated::too_large;
  z_stream& s = z.stream;
  const char* next = bytes.data();
  std::size_t left = bytes.size();
  for (;;) {
    // One byte more than is allowed, to see that there is one.
    const std::size_t room = most + 1 - to.size();
    to.reserve(to.size() + std::min(room, std::max<std::size_t>(4 * left, 4096)));
    const std::size_t space = std::min(room, to.capacity() - to.size());
    s.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(next));
    s.avail_in = clamped(left);
    s.next_out = reinterpret_cast<Bytef*>(to.data() + to.size());
    s.avail_out = clamped(space);
    const uInt given_in = s.avail_in;
    const uInt given_out = s.avail_out;
    const int result = ::inflate(&s, Z_NO_FLUSH);
    const std::size_t used = given_in - s.avail_in;
    const std::size_t made = given_out - s.avail_out;
    next += used;
    left -= used;
    to.grew(made);
    if (to.size() > most) return inflated::too_large;
    if (result == Z_STREAM_END) {
      if (left == 0) return inflated::ok;
      if (which != coding::gzip || ::inflateReset(&s) != Z_OK) return inflated::broken;
      continue;
    }
    if (result != Z_OK && result != Z_BUF_ERROR) return inflated::broken;
    if (used == 0 && made == 0) return inflated::broken;  // cut short
  }
}

std::string deflate_all(coding which, std::string_view bytes) {
  z_stream s{};
  const int window = which == coding::gzip ? gzip_window : zlib_window;
  if (::deflateInit2(&s, Z_BEST_SPEED, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK) return {};
  std::string out;
  if (bytes.size() <= std::numeric_limits<uInt>::max()) {
    out.resize(::deflateBound(&s, static_cast<uLong>(bytes.size())));
    s.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    s.avail_in = static_cast<uInt>(bytes.size());
    s.next_out = reinterpret_cast<Bytef*>(out.data());
    s.avail_out = clamped(out.size());
    const bool done = ::deflate(&s, Z_FINISH) == Z_STREAM_END;
    out.resize(done ? s.total_out : 0);
  }
  ::deflateEnd(&s);
  return out;
}

}  // namespace troupe::http
