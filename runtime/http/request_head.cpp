#include "runtime/http/request_head.hpp"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <charconv>
#include <limits>
#include <optional>

#include "runtime/http/text.hpp"

namespace troupe::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using error_code = boost::system::error_code;

std::string_view view_of(beast::string_view s) {
  return {s.data(), s.size()};
}

/// Beast does the grammar; this adds what it leaves to the caller.
class strict_parser final : public wire::basic_parser<true> {
  static constexpr auto no_limit = std::numeric_limits<std::uint64_t>::max();

 public:
  strict_parser(std::vector<field_view>& fields, request_head& out) : fields_(&fields), out_(&out) {
    eager(false);
    // The limits are the caller's.
    header_limit(std::numeric_limits<std::uint32_t>::max());
    body_limit(no_limit);
  }

  refusal check_head() {
    request_head& head = *out_;
    if (is_header_done()) head.keep_alive = keep_alive();
    if (refused_) return refused_;
    if (hosts_ > 1) return {400, "more than one Host"};
    if (hosts_ == 0 && !head.http_10) return {400, "no Host"};
    if (lengths_ > 1) return {400, "more than one Content-Length"};
    if (codings_ > 1) return {400, "more than one Transfer-Encoding"};
    if (lengths_ > 0 && codings_ > 0) return {400, "both Content-Length and Transfer-Encoding"};
    if (codings_ > 0) {
      if (head.http_10) return {400, "Transfer-Encoding in HTTP/1.0"};
      head.body = request_head::framing::chunked;
    } else if (head.length > 0) {
      head.body = request_head::framing::length;
    }
    return {};
  }

  void collect(byte_buffer& to, std::size_t most) {
    // Beast takes a chunk's size from this each time that it looks at the chunk's line, so one that came in
    // pieces would soon be beyond it.
    body_limit(no_limit);
    to_ = &to;
    most_ = most;
    in_body_ = true;
  }
  [[nodiscard]] bool too_large() const { return too_large_; }

  /// Whether `next` may be shown. Beast looks a second time at a last chunk whose end has not come, and
  /// asserts that it then has the five bytes of "0\r\n\r\n"; behind another chunk the end of that one is
  /// among them.
  [[nodiscard]] bool takes(std::string_view next) const {
    return left_ > 0 || next.size() >= 5 || next.front() != '0';
  }

 private:
  void fail(error_code& ec, refusal why) {
    refused_ = why;
    ec = wire::error::bad_value;
  }

  void on_request_impl(wire::verb, beast::string_view method, beast::string_view target, int version,
                       error_code& ec) override {
    request_head& head = *out_;
    head.method = view_of(method);
    head.http_10 = version == 10;
    std::string_view rest = view_of(target);
    if (rest.front() != '/' && !(rest == "*" && head.method == "OPTIONS")) {
      // The absolute form: scheme://authority/path.
      const auto scheme = rest.find("://");
      const auto name = rest.substr(0, scheme);
      if (scheme == std::string_view::npos || !(same_name(name, "http") || same_name(name, "https")))
        return fail(ec, {400, "the target is no path"});
      rest.remove_prefix(scheme + 3);
      const auto path = std::min(rest.find_first_of("/?"), rest.size());
      if (path == 0) return fail(ec, {400, "the target has no host"});
      rest.remove_prefix(path);
    }
    head.path = take_until(rest, '?');
    if (head.path.empty()) head.path = "/";
    head.query = rest;
  }

  void on_field_impl(wire::field name, beast::string_view name_text, beast::string_view value_text,
                     error_code& ec) override {
    if (in_body_) return;  // a trailer
    const std::string_view value = view_of(value_text);
    fields_->emplace_back(view_of(name_text), value);
    request_head& head = *out_;
    switch (name) {
      case wire::field::host:
        ++hosts_;
        break;
      case wire::field::content_length: {
        ++lengths_;
        const auto read = std::from_chars(value.data(), value.data() + value.size(), head.length);
        if (read.ec != std::errc() || read.ptr != value.data() + value.size())
          return fail(ec, {400, "bad Content-Length"});
        break;
      }
      case wire::field::transfer_encoding:
        ++codings_;
        if (!same_name(value, "chunked")) return fail(ec, {400, "a Transfer-Encoding other than chunked"});
        break;
      case wire::field::expect:
        if (!same_name(value, "100-continue")) return fail(ec, {417, "an Expect other than 100-continue"});
        head.expect_continue = true;
        break;
      case wire::field::content_encoding:
        // Several lines are one list, and no list is known.
        head.content_encoding = head.content_encoding.empty() ? value : std::string_view("several");
        break;
      case wire::field::accept_encoding:
        if (head.accept_encoding.empty()) head.accept_encoding = value;
        break;
      case wire::field::origin:
        if (head.origin.empty()) head.origin = value;
        break;
      case wire::field::access_control_request_method:
        head.preflight_method = value;
        break;
      case wire::field::access_control_request_headers:
        head.preflight_headers = value;
        break;
      case wire::field::unknown:
        named(view_of(name_text), value);
        break;
      default:
        break;
    }
  }

  void named(std::string_view name, std::string_view value) {
    request_head& head = *out_;
    if (name.size() == 16 && head.correlation_id.empty() && same_name(name, "x-correlation-id"))
      head.correlation_id = value;
    else if (name.size() == 12 && head.request_id.empty() && same_name(name, "x-request-id"))
      head.request_id = value;
  }

  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view body, error_code& ec) override {
    if (body.size() > most_ - std::min(most_, to_->size())) {
      too_large_ = true;
      ec = wire::error::body_limit;
      return 0;
    }
    to_->append(view_of(body));
    left_ -= body.size();
    return body.size();
  }

  void on_chunk_header_impl(std::uint64_t size, beast::string_view, error_code& ec) override {
    // Early: what is announced will not fit.
    if (size > most_ - std::min(most_, to_->size())) {
      too_large_ = true;
      ec = wire::error::body_limit;
    }
    left_ = size;
  }

  void on_response_impl(int, beast::string_view, int, error_code&) override {}
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
  std::size_t on_body_impl(beast::string_view body, error_code&) override { return body.size(); }
  void on_finish_impl(error_code&) override {}

  std::vector<field_view>* fields_;
  request_head* out_;
  refusal refused_;
  int hosts_ = 0;
  int lengths_ = 0;
  int codings_ = 0;
  byte_buffer* to_ = nullptr;
  std::size_t most_ = 0;
  std::uint64_t left_ = 0;  ///< of the chunk that is being read
  bool in_body_ = false;
  bool too_large_ = false;
};

/// A line that begins with white space continues the one before it (obs-fold).
bool folded(std::string_view head) {
  for (auto at = head.find('\n'); at != std::string_view::npos && at + 1 < head.size();
       at = head.find('\n', at + 1))
    if (head[at + 1] == ' ' || head[at + 1] == '\t') return true;
  return false;
}

/// What is wrong, in words that outlive the call.
refusal malformed(const error_code& e) {
  if (e == wire::error::bad_method) return {400, "bad method"};
  if (e == wire::error::bad_target) return {400, "bad target"};
  if (e == wire::error::bad_version) return {400, "not HTTP/1.1"};
  if (e == wire::error::bad_field) return {400, "bad header name"};
  if (e == wire::error::bad_value) return {400, "bad header value"};
  if (e == wire::error::bad_line_ending) return {400, "bad line ending"};
  if (e == wire::error::bad_content_length) return {400, "bad Content-Length"};
  if (e == wire::error::bad_transfer_encoding) return {400, "bad Transfer-Encoding"};
  if (e == wire::error::bad_chunk) return {400, "bad chunk"};
  if (e == wire::error::bad_chunk_extension) return {400, "bad chunk extension"};
  return {400, "malformed"};
}

}  // namespace

struct head_parser::impl {
  std::optional<strict_parser> parser;
};

head_parser::head_parser() : impl_(std::make_unique<impl>()) {}
head_parser::~head_parser() = default;

refusal head_parser::head(std::string_view bytes, std::vector<field_view>& fields, request_head& out) {
  // Beast would join them.
  if (folded(bytes)) return {400, "a header line is folded"};
  strict_parser& parser = impl_->parser.emplace(fields, out);
  error_code ec;
  std::size_t used = parser.put(asio::const_buffer(bytes.data(), bytes.size()), ec);
  // Not eager: without fields behind it the request line is read by itself.
  if (!ec && !parser.is_header_done())
    used += parser.put(asio::const_buffer(bytes.data() + used, bytes.size() - used), ec);
  const refusal strict = parser.check_head();
  if (ec) return strict && strict.why != "no Host" ? strict : malformed(ec);
  if (strict) return strict;
  if (used != bytes.size() || !parser.is_header_done()) return {400, "malformed"};
  return {};
}

head_parser::step head_parser::chunks(std::string_view bytes, byte_buffer& to, std::size_t most) {
  strict_parser& parser = *impl_->parser;
  parser.collect(to, most);
  step made;
  while (made.used < bytes.size() && !parser.is_done() && parser.takes(bytes.substr(made.used))) {
    error_code ec;
    made.used += parser.put(asio::const_buffer(bytes.data() + made.used, bytes.size() - made.used), ec);
    if (ec == wire::error::need_more) break;
    if (ec) {
      made.refused = parser.too_large() ? refusal{413, "the request's body is too large"} : malformed(ec);
      return made;
    }
  }
  made.done = parser.is_done();
  return made;
}

}  // namespace troupe::http
