#include "cli/models/admin_client.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace troupe::cli {

using nlohmann::json;

admin_client::admin_client(const models_options& o) : url_(o.url) {
  const auto loaded = settings_of(o.common, true);
  const auto& settings = loaded.values;
  url_ = url_.empty() ? "http://127.0.0.1:" + std::to_string(settings.metrics.port) : node_url(url_, "--url");
  token_ = settings.admin.token;
  for (const auto& one : loaded.effective)
    if (one.key == "admin.token") token_from_ = one.origin;
  if (!o.token_file.empty()) {
    token_ = read_text(o.token_file, "--token-file");
    token_from_ = "--token-file " + o.token_file;
    while (token_.ends_with('\n') || token_.ends_with('\r')) token_.pop_back();
    if (token_.empty()) throw usage_error(token_from_ + ": is empty, expected the node's admin.token");
  }
  if (token_.empty())
    throw usage_error(
        "no admin token: give --token-file, TROUPE_ADMIN_TOKEN or admin.token in the configuration");
}

std::string admin_client::call(const std::string& method, const std::string& path,
                               const std::string& body) const {
  http_answer got = http_call(method, url_ + path, token_, body);
  if (got.status >= 200 && got.status < 300) return std::move(got.body);
  const json said = json::parse(got.body, nullptr, false);
  const bool named = said.is_object() && said.contains("error") && said["error"].is_string();
  if (got.status == 404 && (!named || said["error"].get<std::string>().starts_with("no such path")))
    throw std::runtime_error(url_ +
                             ": has no /admin: it is on the port of the metrics (metrics.port, 8000 by "
                             "default), and only where admin.token is set on the node");
  if (got.status == 401)
    throw std::runtime_error(url_ + ": " + (named ? said["error"].get<std::string>() : got.status_line) +
                             "; what was sent comes from " + token_from_);
  if (got.status == 403 && named) throw std::runtime_error(url_ + ": " + said["error"].get<std::string>());
  throw std::runtime_error(named ? said["error"].get<std::string>() : url_ + path + ": " + got.status_line);
}

int admin_client::command(const std::string& verb, const models_options& o) const {
  json body = {{"model", o.model}};
  if (!o.version.empty()) body["version"] = o.version;
  const std::string got = post("/admin/models/" + verb, body.dump());
  if (o.common.json) {
    std::printf("%s", got.c_str());
    return ok;
  }
  const json said = json::parse(got, nullptr, false);
  std::printf("%s: %s\n", o.model.c_str(), said.value("result", std::string("done")).c_str());
  return ok;
}

}  // namespace troupe::cli
