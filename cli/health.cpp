// troupe health: whether a node takes requests, or at least lives. For the checks of containers, which have
// no other program to ask with.

#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "cli/commands.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

std::vector<std::string> reasons_in(const json& answer, const char* key) {
  std::vector<std::string> all;
  if (answer.contains(key) && answer[key].is_array())
    for (const auto& one : answer[key])
      if (one.is_string()) all.push_back(one);
  return all;
}

}  // namespace

int health(const health_options& o) {
  std::string url = o.url;
  if (url.empty())
    url = "http://127.0.0.1:" + std::to_string(settings_of(o.common, true).values.metrics.port);
  else
    url = node_url(url, "--url");
  const http_answer got = http_call("GET", url + (o.alive ? "/liveness" : "/ready"), {}, {}, o.patience_s);
  const json said = json::parse(got.body, nullptr, false);
  if (!said.is_object() || !said.contains("status"))
    throw std::runtime_error(url + ": " + got.status_line +
                             ", not what a node of Troupe answers: is this metrics.port?");
  if (o.common.json) {
    std::printf("%s\n", said.dump().c_str());
    return got.status == 200 ? ok : failed;
  }
  const auto reasons = reasons_in(said, "reasons");
  const std::string not_ready = url + ": " + said.value("status", "not ready");
  if (got.status != 200) throw std::runtime_error(reasons.empty() ? not_ready : listed(not_ready, reasons));
  const auto degraded = reasons_in(said, "degraded");
  const std::string ready = said.value("status", "ready");
  std::printf("%s\n", (degraded.empty() ? ready : listed(ready + ", degraded", degraded)).c_str());
  return ok;
}

}  // namespace troupe::cli
