#include "cli/replay_progress.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <limits>
#include <system_error>

namespace troupe::cli {
namespace {

constexpr std::string_view mark = "r1:";

/// Takes a number and the separator behind it.
bool take(std::string_view& text, char separator, std::int64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number <= 0) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.empty()) return separator == ',';
  if (text.front() != separator) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

replay_progress::replay_progress(std::int64_t next, std::string_view text)
    : next_(std::max<std::int64_t>(0, next)) {
  if (!text.starts_with(mark)) return;
  text.remove_prefix(mark.size());
  std::map<std::int64_t, std::int64_t> found;
  std::int64_t at = next_;
  while (!text.empty()) {
    std::int64_t gap = 0;
    std::int64_t length = 0;
    if (!take(text, '+', gap) || !take(text, ',', length)) return;
    constexpr auto far = std::numeric_limits<std::int64_t>::max();
    if (gap > far - at || length > far - at - gap) return;
    found.emplace(at + gap, at + gap + length);
    at += gap + length;
  }
  done_ = std::move(found);
}

bool replay_progress::has(std::int64_t offset) const {
  if (offset < next_) return true;
  auto after = done_.upper_bound(offset);
  return after != done_.begin() && offset < std::prev(after)->second;
}

void replay_progress::add(std::int64_t first, std::int64_t end) {
  first = std::max(first, next_);
  if (first >= end) return;
  auto it = done_.upper_bound(first);
  if (it != done_.begin() && std::prev(it)->second >= first) --it;
  while (it != done_.end() && it->first <= end) {
    first = std::min(first, it->first);
    end = std::max(end, it->second);
    it = done_.erase(it);
  }
  done_.emplace(first, end);
  settle();
}

void replay_progress::settle() {
  while (!done_.empty() && done_.begin()->first <= next_) {
    next_ = std::max(next_, done_.begin()->second);
    done_.erase(done_.begin());
  }
}

std::string replay_progress::text() const {
  if (done_.empty()) return "";
  std::string out(mark);
  std::int64_t at = next_;
  for (const auto& [first, end] : done_) {
    if (out.size() > mark.size()) out += ',';
    out += std::to_string(first - at) + "+" + std::to_string(end - first);
    at = end;
  }
  return out;
}

}  // namespace troupe::cli
