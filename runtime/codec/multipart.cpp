#include "runtime/codec/multipart.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/codec/json_text.hpp"

namespace troupe::codec {
namespace {

constexpr std::size_t longest_boundary = 70;
constexpr std::size_t longest_header = std::size_t{8} << 10;
constexpr std::string_view line_end = "\r\n";

request_fault malformed(std::string_view why) {
  return {error_code::invalid_json, "the form " + std::string(why)};
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

/// Equal but for case; `wanted` is in small letters.
bool same(std::string_view text, std::string_view wanted) {
  return text.size() == wanted.size() &&
         std::equal(text.begin(), text.end(), wanted.begin(), [](char a, char b) { return lower(a) == b; });
}

bool is_token(char c) {
  constexpr std::string_view marks = "!#$%&'*+-.^_`|~";
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         marks.find(c) != std::string_view::npos;
}

void skip_blanks(std::string_view& text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
}

std::string_view take_token(std::string_view& text) {
  const auto end = std::find_if_not(text.begin(), text.end(), is_token);
  const auto token = text.substr(0, static_cast<std::size_t>(end - text.begin()));
  text.remove_prefix(token.size());
  return token;
}

/// The next "; name=value" of a header's parameters. False: `rest` is empty, or `broken`.
bool take_parameter(std::string_view& rest, std::string_view& name, std::string_view& value, bool& broken) {
  skip_blanks(rest);
  if (rest.empty()) return false;
  broken = true;
  if (rest.front() != ';') return false;
  rest.remove_prefix(1);
  skip_blanks(rest);
  name = take_token(rest);
  if (name.empty() || rest.empty() || rest.front() != '=') return false;
  rest.remove_prefix(1);
  if (rest.empty() || rest.front() != '"') {
    value = take_token(rest);
    if (value.empty()) return false;
  } else {
    // Browsers escape quotes as %22 and never with a backslash.
    const auto end = rest.find('"', 1);
    if (end == std::string_view::npos) return false;
    value = rest.substr(1, end - 1);
    if (value.find('\\') != std::string_view::npos) return false;
    rest.remove_prefix(end + 1);
  }
  broken = false;
  return true;
}

request_fault read_boundary(std::string_view content_type, std::string_view& boundary) {
  content_type.remove_prefix(std::string_view("multipart/form-data").size());
  bool broken = false;
  std::string_view name, value;
  bool found = false;
  while (take_parameter(content_type, name, value, broken)) {
    if (!same(name, "boundary")) continue;
    if (found) return malformed("has two boundaries in its content type");
    found = true;
    boundary = value;
  }
  if (broken) return malformed("has a content type that can't be read");
  if (!found) return malformed("has no boundary in its content type");
  if (boundary.empty() || boundary.size() > longest_boundary)
    return malformed("has a boundary that is not of 1 to 70 characters");
  constexpr std::string_view more = "'()+_,-./:=? ";  // RFC 2046, 5.1.1
  for (const char c : boundary)
    if (!(c >= '0' && c <= '9') && !(lower(c) >= 'a' && lower(c) <= 'z') &&
        more.find(c) == std::string_view::npos)
      return malformed("has a boundary with a character that none may have");
  if (boundary.back() == ' ') return malformed("has a boundary that ends with a space");
  return {};
}

request_fault read_disposition(std::string_view value, uploaded_file& into) {
  if (!same(take_token(value), "form-data"))
    return malformed("has a part whose Content-Disposition is not form-data");
  bool broken = false;
  bool named = false;
  bool filed = false;
  std::string_view name, text;
  while (take_parameter(value, name, text, broken)) {
    const bool is_name = same(name, "name");
    const bool is_file = same(name, "filename");
    if ((is_name && std::exchange(named, true)) || (is_file && std::exchange(filed, true)))
      return malformed("has a part with two names");
    if (is_name) into.field = text;
    if (is_file) into.filename = text;
  }
  if (broken) return malformed("has a part whose Content-Disposition can't be read");
  return named ? request_fault() : malformed("has a part without a name");
}

request_fault read_header(std::string_view header, uploaded_file& into) {
  bool disposed = false;
  bool typed = false;
  while (!header.empty()) {
    const auto end = header.find(line_end);
    std::string_view value = header.substr(0, end);
    header.remove_prefix(end == std::string_view::npos ? header.size() : end + line_end.size());
    const std::string_view name = take_token(value);
    if (name.empty() || value.empty() || value.front() != ':')
      return malformed("has a part with a header line that can't be read");
    value.remove_prefix(1);
    skip_blanks(value);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    for (const char c : value)
      if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f)
        return malformed("has a part with a control character in its header");
    if (same(name, "content-disposition")) {
      if (std::exchange(disposed, true)) return malformed("has a part with two Content-Dispositions");
      if (auto fault = read_disposition(value, into)) return fault;
    } else if (same(name, "content-type")) {
      if (std::exchange(typed, true)) return malformed("has a part with two Content-Types");
      into.content_type = value;
    } else if (same(name, "content-transfer-encoding") && !same(value, "binary") && !same(value, "8bit") &&
               !same(value, "7bit")) {
      return malformed("has a part in a transfer encoding: send its bytes as they are");
    }
  }
  if (!disposed) return malformed("has a part without a Content-Disposition");
  if (into.content_type.size() >= 10 && same(into.content_type.substr(0, 10), "multipart/"))
    return malformed("has a part that is a multipart itself");
  return {};
}

}  // namespace

bool holds_form(std::string_view content_type) {
  constexpr std::string_view form = "multipart/form-data";
  if (content_type.size() < form.size() || !same(content_type.substr(0, form.size()), form)) return false;
  return content_type.size() == form.size() || content_type[form.size()] == ';' ||
         content_type[form.size()] == ' ' || content_type[form.size()] == '\t';
}

request_fault read_upload(std::string_view body, std::string_view content_type, uploaded_file& into) {
  into = {};
  if (!holds_form(content_type)) return malformed("is not multipart/form-data");
  std::string_view boundary;
  if (auto fault = read_boundary(content_type, boundary)) return fault;
  const std::string mark = "\r\n--" + std::string(boundary);
  const std::string_view first = std::string_view(mark).substr(line_end.size());
  if (!body.starts_with(first)) return malformed("does not begin with its boundary");
  body.remove_prefix(first.size());
  bool found = false;
  for (;;) {
    if (body.starts_with("--")) {
      body.remove_prefix(2);
      if (!body.empty() && body != line_end) return malformed("goes on behind its last boundary");
      return found ? request_fault() : malformed("has no file: send one, named image or file");
    }
    if (!body.starts_with(line_end)) return malformed("has a boundary that does not end its line");
    if (found) return malformed("has more than one field: send one file, named image or file");
    const auto end = body.substr(0, longest_header + 4).find("\r\n\r\n");
    if (end == std::string_view::npos)
      return malformed("has a part whose header is cut short or longer than 8 KiB");
    const std::string_view header =
        end < line_end.size() ? std::string_view() : body.substr(line_end.size(), end - line_end.size());
    if (auto fault = read_header(header, into)) return fault;
    if (into.field != "image" && into.field != "file")
      return malformed("has a field " + shown(into.field) + ": send one file, named image or file");
    body.remove_prefix(end + 4);
    const auto next = body.find(mark);
    if (next == std::string_view::npos) return malformed("is cut short: its last boundary is missing");
    into.bytes = body.substr(0, next);
    body.remove_prefix(next + mark.size());
    found = true;
  }
}

}  // namespace troupe::codec
