#include "runtime/door/paths.hpp"

#include <array>
#include <span>
#include <vector>

namespace troupe::serving {
namespace {

struct rule {
  std::string_view method;
  std::string_view path;  // {m} a model, {v} a version; behind one may be a verb: {m}:predict
  serving::page page;
};

constexpr std::array rules = {
    rule{"GET", "", page::root},
    rule{"GET", "health", page::health},
    rule{"GET", "ready", page::ready},
    rule{"GET", "readiness", page::ready},
    rule{"GET", "liveness", page::liveness},
    rule{"GET", "ping", page::ping},
    rule{"GET", "version", page::version},
    rule{"GET", "metrics", page::metrics},
    rule{"GET", "docs", page::docs},
    rule{"GET", "openapi.json", page::openapi},
    rule{"POST", "score", page::score},
    rule{"POST", "invocations", page::invocations},
    rule{"GET", "v1/models", page::v1_models},
    rule{"POST", "v1/models/{m}:predict", page::v1_predict},
    rule{"GET", "v1/models/{m}", page::model_ready},
    rule{"GET", "v2", page::server_metadata},
    rule{"GET", "v2/health/live", page::server_live},
    rule{"GET", "v2/health/ready", page::server_ready},
    rule{"GET", "v2/models/stats", page::model_stats},
    rule{"GET", "v2/models/{m}", page::model_metadata},
    rule{"GET", "v2/models/{m}/ready", page::model_ready},
    rule{"GET", "v2/models/{m}/config", page::model_config},
    rule{"GET", "v2/models/{m}/stats", page::model_stats},
    rule{"POST", "v2/models/{m}/infer", page::infer},
    rule{"GET", "v2/models/{m}/versions/{v}", page::model_metadata},
    rule{"GET", "v2/models/{m}/versions/{v}/ready", page::model_ready},
    rule{"GET", "v2/models/{m}/versions/{v}/config", page::model_config},
    rule{"GET", "v2/models/{m}/versions/{v}/stats", page::model_stats},
    rule{"POST", "v2/models/{m}/versions/{v}/infer", page::infer},
    rule{"POST", "v2/repository/index", page::repository_index},
    rule{"POST", "v2/repository/models/{m}/load", page::repository_load},
    rule{"POST", "v2/repository/models/{m}/unload", page::repository_unload},
    rule{"GET", "v2/batches", page::batch_list},
    rule{"POST", "v2/batches", page::batch_submit},
    rule{"GET", "v2/batches/{m}", page::batch_status},
    rule{"DELETE", "v2/batches/{m}", page::batch_remove},
    rule{"GET", "v2/batches/{m}/results", page::batch_results},
};

/// The next segment, taken off `path`.
std::string_view next_segment(std::string_view& path) {
  const auto slash = path.find('/');
  const auto segment = path.substr(0, slash);
  path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
  return segment;
}

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/// Whether `path` is this rule's, and what stands in its places.
bool matches(std::string_view pattern, std::string_view path, std::string_view& model,
             std::string_view& version) {
  while (!pattern.empty() || !path.empty()) {
    if (pattern.empty() || path.empty()) return false;
    auto wanted = next_segment(pattern);
    auto given = next_segment(path);
    if (wanted.starts_with("{m}:") && given.ends_with(wanted.substr(3))) {
      given.remove_suffix(wanted.size() - 3);
      wanted.remove_suffix(wanted.size() - 3);
    }
    if (wanted == "{m}" || wanted == "{v}") {
      if (given.empty()) return false;
      (wanted == "{m}" ? model : version) = given;
    } else if (wanted != given) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::vector<std::string> all_routes() {
  std::vector<std::string> all;
  for (const rule& r : rules) all.push_back(std::string(r.method) + " /" + std::string(r.path));
  return all;
}

std::string template_of(std::string_view route) {
  std::string text("/");
  for (const char c : route) {
    text += c;
    if (text.ends_with("{m"))
      text += "odel";
    else if (text.ends_with("{v"))
      text += "ersion";
  }
  return text;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = hex(text[i + 1]);
    const int low = hex(text[i + 2]);
    if (high < 0 || low < 0 || high + low == 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

destination find_page(std::string_view method, std::string_view path) {
  destination found;
  if (path.empty() || path.front() != '/') return found;
  path.remove_prefix(1);
  if (path.ends_with('/')) path.remove_suffix(1);
  if (path.ends_with('/')) return found;
  if (method == "HEAD") method = "GET";
  for (const rule& r : rules) {
    std::string_view model;
    std::string_view version;
    if (!matches(r.path, path, model, version)) continue;
    if (r.method != method) {
      if (found.allow.find(r.method) != std::string::npos) continue;
      found.page = page::not_allowed;
      found.allow += found.allow.empty() ? "" : ", ";
      found.allow += r.method == "GET" ? "GET, HEAD" : r.method;
      if (r.path.find(':') != std::string_view::npos) return found;  // what ends in a verb is no name
      continue;
    }
    auto m = percent_decoded(model);
    auto v = percent_decoded(version);
    if (!m || !v) return {};
    return {r.page, std::move(*m), std::move(*v), {}, r.path};
  }
  return found;
}

}  // namespace troupe::serving
