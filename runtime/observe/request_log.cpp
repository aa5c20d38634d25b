#include "runtime/observe/request_log.hpp"

#include <array>
#include <cmath>
#include <cstdio>

#include "runtime/observe/log.hpp"

namespace troupe::observe {
namespace {

constexpr std::size_t longest_text = 256;  // of what a client chose

std::string milliseconds(nanos t) {
  std::array<char, 48> text{};
  const int n = std::snprintf(text.data(), text.size(), "%.3f", static_cast<double>(t) * 1e-6);
  return {text.data(), static_cast<std::size_t>(n)};
}

}  // namespace

bool request_log::wants(bool failed, nanos took) const {
  if ((failed ? level::warn : level::info) < log_level()) return false;
  if (options_.all || failed || (options_.slow > 0 && took >= options_.slow)) return true;
  if (options_.ratio <= 0) return false;
  const auto n = static_cast<double>(rest_.fetch_add(1, std::memory_order_relaxed));
  return std::floor((n + 1) * options_.ratio) > std::floor(n * options_.ratio);
}

void request_log::tell(const answered_request& one) const {
  const std::string ms = milliseconds(one.took);
  const char* how = one.failed ? "failed after " : one.refused ? "refused after " : "completed in ";
  fields what;
  what.reserve(10);
  const auto add = [&](std::string_view name, std::string_view value) {
    if (!value.empty()) what.emplace_back(name, value.substr(0, longest_text));
  };
  add("method", one.method);
  add("route", one.route);
  add("path", one.path);
  add("status", one.status);
  add("ms", ms);
  add("client", one.client);
  add("key", one.key);
  add("request_id", one.request_id);
  add("trace_id", one.trace_id);
  if (one.gone) add("gone", "true");
  log(one.failed ? level::warn : level::info, one.door, "request", how + ms + " ms", what);
}

}  // namespace troupe::observe
