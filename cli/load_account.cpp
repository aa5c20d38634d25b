#include "cli/load_account.hpp"

#include <charconv>

namespace troupe::cli {
namespace {

/// Drops blanks and then `expected` from the front of `text`.
bool skip(std::string_view& text, std::string_view expected) {
  while (!text.empty() &&
         (text.front() == ' ' || text.front() == '\t' || text.front() == '\n' || text.front() == '\r'))
    text.remove_prefix(1);
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

}  // namespace

answer read_answer(std::string_view value, std::string_view run_id) {
  constexpr std::string_view field = "\"request_id\"";
  const auto at = value.find(field);
  if (at == std::string_view::npos) return {};
  std::string_view rest = value.substr(at + field.size());
  if (!skip(rest, ":") || !skip(rest, "\"") || !rest.starts_with(run_id)) return {};
  rest.remove_prefix(run_id.size());
  if (!rest.starts_with('-')) return {};
  rest.remove_prefix(1);
  answer found;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), found.number);
  if (error != std::errc() || end == rest.data() + rest.size() || *end != '"' || found.number < 0) return {};
  rest.remove_prefix(static_cast<std::size_t>(end - rest.data()) + 1);
  if (skip(rest, ",") && skip(rest, "\"error\"") && skip(rest, ":") && skip(rest, "{") &&
      skip(rest, "\"code\"") && skip(rest, ":") && skip(rest, "\""))
    found.error = rest.substr(0, rest.find('"'));
  return found;
}

}  // namespace troupe::cli
