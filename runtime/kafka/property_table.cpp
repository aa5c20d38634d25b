#include "runtime/kafka/property_table.hpp"

#include <librdkafka/rdkafka.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

namespace troupe::kafka {
namespace {

struct described {
  std::string stands_for;  // of an alias
  std::optional<std::pair<double, double>> bounds;
  std::vector<std::string> choices;
};

std::string trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(' ');
  if (from == std::string_view::npos) return {};
  return std::string(text.substr(from, text.find_last_not_of(' ') - from + 1));
}

std::optional<double> number(std::string_view text) {
  double n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

/// "0 .. 900000" or "none, gzip".
void read_range(const std::string& range, described& into) {
  if (const auto dots = range.find(" .. "); dots != std::string::npos) {
    const auto least = number(range.substr(0, dots));
    const auto most = number(range.substr(dots + 4));
    if (least && most) into.bounds = {*least, *most};
    return;
  }
  std::istringstream list(range);
  for (std::string one; std::getline(list, one, ',');)
    if (auto name = trimmed(one); !name.empty()) into.choices.push_back(std::move(name));
}

/// "`random` - at random, `consistent` - by the key": how it describes what it has no range for.
void read_description(const std::string& text, described& into) {
  for (auto at = text.find('`'); at != std::string::npos; at = text.find('`', at)) {
    const auto end = text.find('`', at + 1);
    if (end == std::string::npos) return;
    if (text.compare(end, 4, "` - ") == 0) into.choices.push_back(text.substr(at + 1, end - at - 1));
    at = end + 1;
  }
}

/// Its manual, one property a line:
/// linger.ms | P | 0 .. 900000 | 5 | high | Alias for `queue.buffering.max.ms`: ...
std::map<std::string, described> read_manual() {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* out = open_memstream(&text, &size);
  if (!out) return {};
  rd_kafka_conf_properties_show(out);
  std::fclose(out);
  std::istringstream manual(std::string(text, size));
  std::free(text);
  std::map<std::string, described> all;
  for (std::string line; std::getline(manual, line);) {
    std::vector<std::string> cells;
    for (std::string_view rest = line; cells.size() < 5;) {
      const auto bar = rest.find('|');
      if (bar == std::string_view::npos) break;
      cells.push_back(trimmed(rest.substr(0, bar)));
      rest.remove_prefix(bar + 1);
      if (cells.size() == 5) cells.push_back(trimmed(rest));
    }
    if (cells.size() != 6 || (cells[1] != "C" && cells[1] != "P" && cells[1] != "*")) continue;
    described d;
    constexpr std::string_view alias = "Alias for `";
    if (const auto at = cells[5].find(alias); at != std::string::npos) {
      const auto from = at + alias.size();
      d.stands_for = cells[5].substr(from, cells[5].find('`', from) - from);
    }
    read_range(cells[2], d);
    if (cells[2].empty()) read_description(cells[5], d);
    all.emplace(cells[0], std::move(d));  // the first, of clients, is the one that is set; then come topics'
  }
  return all;
}

const std::map<std::string, described>& manual() {
  static const auto all = read_manual();
  return all;
}

const described& of(const std::string& name) {
  static const described nothing;
  const auto at = manual().find(name);
  return at == manual().end() ? nothing : at->second;
}

std::string in_digits(double n) {
  return std::to_string(static_cast<long long>(n));
}

}  // namespace

std::vector<std::string> property_names() {
  std::vector<std::string> names;
  for (const auto& [name, ignored] : manual()) names.push_back(name);
  return names;
}

std::string canonical_property(const std::string& name) {
  const auto& to = of(name).stands_for;
  return to.empty() ? name : to;
}

std::string allowed_values(const std::string& name) {
  const described& d = of(name);
  if (d.bounds) {
    const std::string numbers = in_digits(d.bounds->first) + " to " + in_digits(d.bounds->second);
    return canonical_property(name) == "request.required.acks" ? "all, or " + numbers : numbers;
  }
  std::string all;
  for (std::size_t i = 0; i < d.choices.size(); ++i)
    all += (i == 0 ? "" : i + 1 == d.choices.size() ? " or " : ", ") + d.choices[i];
  return all;
}

bool wrong_number(const std::string& name, std::string_view value) {
  const auto& bounds = of(name).bounds;
  if (!bounds) return false;
  if (value.starts_with('+')) value.remove_prefix(1);
  if (const auto n = number(value)) return *n < bounds->first || *n > bounds->second;
  const bool hexadecimal = value.starts_with("0x") && value.size() > 2 &&
                           value.find_first_not_of("0123456789abcdefABCDEF", 2) == std::string_view::npos;
  const std::string_view digits = value.substr(value.starts_with('-') ? 1 : 0);
  return !hexadecimal && !digits.empty() && digits.front() >= '0' && digits.front() <= '9';
}

}  // namespace troupe::kafka
