#include "cli/replay_letters.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <system_error>

#include "messages/errors.hpp"
#include "runtime/policy/nearest.hpp"

namespace troupe::cli {
namespace {

constexpr std::string_view connect = "__connect.errors.";
constexpr std::string_view count_header = "troupe.replays";
constexpr std::string_view dropped_header = "troupe.dropped.value.length";

/// `digits` of them, then `behind` (0: nothing); takes both.
std::optional<int> field(std::string_view& text, std::size_t digits, char behind) {
  if (text.size() < digits) return std::nullopt;
  const std::string_view part = text.substr(0, digits);
  if (part.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  text.remove_prefix(digits);
  if (behind) {
    if (text.empty() || text.front() != behind) return std::nullopt;
    text.remove_prefix(1);
  }
  return static_cast<int>(*whole(part));
}

std::optional<std::int64_t> iso_time(std::string_view text) {
  const auto year = field(text, 4, '-');
  const auto month = year ? field(text, 2, '-') : std::nullopt;
  const auto day = month ? field(text, 2, 0) : std::nullopt;
  if (!day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  std::int64_t ms = std::int64_t{std::chrono::sys_days(date).time_since_epoch().count()} * 86'400'000;
  if (text.empty()) return ms;
  if (text.front() != 'T' && text.front() != ' ') return std::nullopt;
  text.remove_prefix(1);
  const auto hour = field(text, 2, ':');
  const auto minute = hour ? field(text, 2, 0) : std::nullopt;
  if (!minute || *hour > 23 || *minute > 59) return std::nullopt;
  ms += (*hour * 60 + *minute) * std::int64_t{60'000};
  if (!text.empty() && text.front() == ':') {
    text.remove_prefix(1);
    const auto second = field(text, 2, 0);
    if (!second || *second > 60) return std::nullopt;
    ms += *second * std::int64_t{1000};
    if (!text.empty() && text.front() == '.') {
      text.remove_prefix(1);
      int scale = 100;
      bool any = false;
      for (; !text.empty() && text.front() >= '0' && text.front() <= '9';
           text.remove_prefix(1), scale /= 10) {
        ms += (text.front() - '0') * scale;
        any = true;
      }
      if (!any) return std::nullopt;
    }
  }
  if (text == "Z" || text.empty()) return ms;
  return std::nullopt;
}

}  // namespace

dead_letter read_letter(std::vector<owned_header> headers, std::int64_t timestamp_ms) {
  dead_letter l;
  l.timestamp_ms = timestamp_ms;
  // A request that was a letter before may carry what that one said: the last of each is this one's.
  for (auto& h : headers) {
    const std::string value = h.second.value_or("");
    if (h.first == count_header) {
      l.replays = std::max<std::int64_t>(0, whole(value).value_or(0));
    } else if (h.first == dropped_header) {
      l.dropped_value = whole(value).value_or(0);
    } else if (h.first.starts_with(connect)) {
      const std::string_view what = std::string_view(h.first).substr(connect.size());
      if (what == "topic") l.source_topic = value;
      if (what == "partition") l.source_partition = whole(value).value_or(-1);
      if (what == "offset") l.source_offset = whole(value).value_or(-1);
      if (what == "exception.class.name") l.code = value;
      if (what == "exception.message") l.reason = value;
    } else {
      l.rest.push_back(std::move(h));
    }
  }
  return l;
}

std::string source_text(const dead_letter& l) {
  if (l.source_topic.empty()) return {};
  return "  of " + l.source_topic + " " + std::to_string(l.source_partition) + "/" +
         std::to_string(l.source_offset);
}

std::string replays_text(const dead_letter& l) {
  return l.replays > 0 ? "  replayed " + std::to_string(l.replays) + " x" : std::string();
}

std::vector<owned_header> replay_headers(const dead_letter& letter) {
  std::vector<owned_header> out = letter.rest;
  out.emplace_back(count_header, std::to_string(letter.replays + 1));
  return out;
}

bool replay_filter::wants(const dead_letter& l) const {
  if (!codes.empty() && std::find(codes.begin(), codes.end(), l.code) == codes.end()) return false;
  if (!reason.empty() && l.reason.find(reason) == std::string::npos) return false;
  if (l.timestamp_ms < since_ms || l.timestamp_ms >= until_ms) return false;
  if (partition >= 0 && l.source_partition != partition) return false;
  const bool any_offset = first_offset == 0 && last_offset == INT64_MAX;
  return any_offset || (l.source_offset >= first_offset && l.source_offset <= last_offset);
}

void check_codes(const std::vector<std::string>& codes) {
  std::vector<std::string> known;
  std::string all;
  for (const auto name : error_names) {
    if (name == to_string(error_code::none)) continue;
    known.emplace_back(name);
    all += (all.empty() ? "" : ", ") + known.back();
  }
  for (const auto& code : codes) {
    if (std::find(known.begin(), known.end(), code) != known.end()) continue;
    const std::string near = policy::nearest(code.substr(0, 64), known, 3);
    throw usage_error("--code " + code + ": no letter has that code; " +
                      (near.empty() ? "" : "did you mean " + near + "? ") + "known: " + all);
  }
}

std::string nothing_to_send(const replay_look& l) {
  if (l.records == 0) return "nothing to send: " + l.topic + " has no records";
  if (l.looked_at == 0)
    return "nothing to send: group " + l.group + " is done with all " + std::to_string(l.records) +
           " records of " + l.topic + "; --from-beginning looks at them again";
  std::string text = "nothing to send: looked at " + std::to_string(l.looked_at) + " of " +
                     std::to_string(l.records) + " records of " + l.topic;
  if (l.first_ms >= 0)
    text += ", whose requests are of " + utc_text(l.first_ms) + " to " + utc_text(l.last_ms);
  const char* before = ": ";
  const auto also = [&](std::int64_t n, const std::string& what) {
    if (n == 0) return;
    text += before + std::to_string(n) + " " + what;
    before = ", ";
  };
  also(l.other, "not asked for by " + l.filters);
  also(l.sent_before, "sent before by group " + l.group + " (--from-beginning sends them again)");
  also(l.without_value, "without a value");
  also(l.too_often, "replayed too often (--max-replays)");
  also(l.no_letters, "no dead letters (--any-record sends them, too)");
  return text;
}

std::optional<std::int64_t> time_of(std::string_view text, std::int64_t now_ms) {
  if (text.empty() || text.size() > 40) return std::nullopt;
  const auto n = whole(text.substr(0, text.find_first_not_of("0123456789")));
  if (n && *n >= 0) {
    const std::string_view unit = text.substr(std::min(text.size(), text.find_first_not_of("0123456789")));
    constexpr std::int64_t most = 1'000'000'000;
    if (unit.empty()) return *n >= 10'000'000'000 ? n : std::nullopt;  // seconds, or an age without its unit
    if (*n <= most) {
      if (unit == "s") return now_ms - *n * 1000;
      if (unit == "m") return now_ms - *n * 60'000;
      if (unit == "h") return now_ms - *n * 3'600'000;
      if (unit == "d") return now_ms - *n * 86'400'000;
    }
  }
  return iso_time(text);
}

std::int64_t read_time(const std::string& option, const std::string& text, std::int64_t now_ms) {
  if (const auto at = time_of(text, now_ms)) return *at;
  throw usage_error(option + " " + text +
                    ": a time such as 2024-11-15T05:53:20Z (UTC), or how long ago, such as 30m, 2h or 7d");
}

std::pair<std::int64_t, std::int64_t> offsets_of(const std::string& text) {
  const std::string_view all = text;
  const auto dash = all.find('-');
  const auto first = whole(all.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : whole(all.substr(dash + 1));
  if (!first || !last || *first < 0 || *last < *first)
    throw usage_error("--source-offset " + text + ": an offset such as 1200, or a range such as 1200-1300");
  return {*first, *last};
}

}  // namespace troupe::cli
