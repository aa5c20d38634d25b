#include "runtime/config/event_hubs.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <system_error>

#include "runtime/config/option_list.hpp"

namespace troupe::config {
namespace {

constexpr const char* expected =
    "expected Endpoint=sb://NAMESPACE.servicebus.windows.net/;SharedAccessKeyName=...;SharedAccessKey=..., "
    "as "
    "the portal shows it under Shared access policies";

[[noreturn]] void fail(const std::string& what) {
  throw value_error(what + "; " + expected);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blank = " \t\r\n";
  const auto first = text.find_first_not_of(blank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

bool is_host(std::string_view text) {
  return !text.empty() && text.size() <= 253 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
  });
}

void read_endpoint(std::string_view text, event_hubs_connection& into) {
  if (!lower(text).starts_with("sb://")) fail("its Endpoint is no sb:// address");
  text.remove_prefix(5);
  while (!text.empty() && text.back() == '/') text.remove_suffix(1);
  const auto colon = text.find(':');
  const std::string_view host = text.substr(0, colon);
  if (!is_host(host)) fail("its Endpoint names no host");
  into.host = std::string(host);
  if (colon == std::string_view::npos) return;
  const std::string_view port = text.substr(colon + 1);
  const char* const end = port.data() + port.size();
  const auto [at, error] = std::from_chars(port.data(), end, into.port);
  if (error != std::errc() || at != end || into.port < 1 || into.port > 65535)
    fail("the port of its Endpoint is no number from 1 to 65535");
}

}  // namespace

event_hubs_connection parse_connection_string(std::string_view text) {
  text = trimmed(text);
  if (text.empty()) fail("it is empty");
  if (text.front() == '"' || text.front() == '\'') fail("it stands in quotes, which do not belong to it");
  for (const char c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      fail("it has a line break or another control character");
  std::map<std::string, std::string_view> parts;
  int number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view whole = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(rest.size(), whole.size() + 1));
    const std::string_view part = trimmed(whole);
    ++number;
    if (part.empty()) continue;
    const auto equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0)
      fail("its part " + std::to_string(number) + " is not NAME=VALUE");
    if (!parts.emplace(lower(trimmed(part.substr(0, equals))), trimmed(part.substr(equals + 1))).second)
      fail("its part " + std::to_string(number) + " repeats an earlier one");
  }
  const auto part = [&](const char* name) {
    const auto it = parts.find(name);
    return it == parts.end() ? std::string_view() : it->second;
  };
  event_hubs_connection to;
  to.text = std::string(text);
  to.entity = std::string(part("entitypath"));
  to.emulator = lower(part("usedevelopmentemulator")) == "true";
  if (to.emulator) to.port = 9092;
  if (part("endpoint").empty()) fail("it has no Endpoint");
  read_endpoint(part("endpoint"), to);
  if (part("sharedaccesssignature").empty()) {
    if (part("sharedaccesskeyname").empty()) fail("it has no SharedAccessKeyName");
    if (part("sharedaccesskey").empty()) fail("it has no SharedAccessKey");
  }
  return to;
}

std::vector<std::pair<std::string, std::string>> event_hubs_properties(const event_hubs_connection& to) {
  return {{"security.protocol", to.emulator ? "SASL_PLAINTEXT" : "SASL_SSL"},
          {"sasl.mechanism", "PLAIN"},
          {"sasl.username", "$ConnectionString"},
          {"sasl.password", to.text},
          {"socket.keepalive.enable", "true"},  // connections that are idle for four minutes are dropped
          {"metadata.max.age.ms", "180000"},
          {"request.timeout.ms", "60000"},
          {"session.timeout.ms", "30000"},
          {"heartbeat.interval.ms", "3000"},
          {"message.max.bytes", "1000000"}};  // a request of more than 1,046,528 bytes ends the connection
}

}  // namespace troupe::config
