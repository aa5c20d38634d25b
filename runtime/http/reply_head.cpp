#include "runtime/http/reply_head.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>

namespace troupe::http {
namespace {

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Content";
    case 424:
      return "Failed Dependency";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 507:
      return "Insufficient Storage";
    default:
      return "Status";
  }
}

void add_number(std::string& to, std::size_t n) {
  std::array<char, 24> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), n).ptr;
  to.append(digits.data(), end);
}

bool one_line(std::string_view text) {
  for (const char c : text)
    if (c == '\r' || c == '\n' || c == '\0') return false;
  return true;
}

void add_field(std::string& to, std::string_view name, std::string_view value) {
  if (!one_line(name) || !one_line(value)) return;
  to += name;
  to += ": ";
  to += value;
  to += "\r\n";
}

}  // namespace

void write_reply_head(const response& what, const reply_line& line, std::string& to) {
  if (what.status == 200) {
    to += "HTTP/1.1 200 OK\r\n";
  } else {
    to += "HTTP/1.1 ";
    add_number(to, static_cast<std::size_t>(what.status));
    to += ' ';
    to += reason(what.status);
    to += "\r\n";
  }
  to += "Server: troupe\r\nDate: ";
  to += line.date;
  to += "\r\n";
  const bool no_body = what.status == 204 || what.status == 304 || what.status < 200;
  if (!no_body) {
    if (!what.content_type.empty()) add_field(to, "Content-Type", what.content_type);
    to += "Content-Length: ";
    add_number(to, line.length);
    to += "\r\n";
  }
  if (!line.encoding.empty()) {
    to += "Content-Encoding: ";
    to += line.encoding;
    to += "\r\n";
  }
  for (const auto& [name, value] : what.headers) add_field(to, name, value);
  if (!line.correlation_id.empty()) {
    to += "X-Correlation-ID: ";
    to += line.correlation_id;
    to += "\r\nX-Request-ID: ";
    to += line.correlation_id;
    to += "\r\n";
  }
  if (!line.keep_alive)
    to += "Connection: close\r\n";
  else if (line.http_10)
    to += "Connection: keep-alive\r\n";
}

std::string http_date(std::int64_t unix_seconds) {
  static constexpr std::array<const char*, 7> days = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<const char*, 12> months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const auto t = static_cast<std::time_t>(unix_seconds);
  std::tm parts{};
  ::gmtime_r(&t, &parts);
  std::array<char, 64> text{};
  const int n = std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                              days[static_cast<std::size_t>(parts.tm_wday)], parts.tm_mday,
                              months[static_cast<std::size_t>(parts.tm_mon)], 1900 + parts.tm_year,
                              parts.tm_hour, parts.tm_min, parts.tm_sec);
  return {text.data(), static_cast<std::size_t>(n)};
}

}  // namespace troupe::http
