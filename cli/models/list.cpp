#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "runtime/registry/from_settings.hpp"

namespace troupe::cli {

int models_list(const models_options& o) {
  const auto s = settings_of(o.common, true).values;
  if (s.mlflow.uri.empty()) throw usage_error("mlflow.uri is not set; name the MLflow server");
  std::vector<std::string> names;
  if (!o.model.empty()) names.push_back(o.model);
  if (names.empty())
    for (const auto& text : registry::poller_options_of(s.mlflow).references)
      if (const auto r = policy::parse_model_reference(text)) names.push_back(r->name);
  if (names.empty()) throw usage_error("name a model, or set mlflow.models");
  registry::mlflow_client client(registry::client_options_of(s.mlflow));
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& name : names) {
    const auto versions = client.versions(name);
    if (versions.empty())
      throw registry::registry_error(registry::failure::not_found, "the registry has no model " + name);
    for (const auto& v : versions) {
      std::string aliases;
      for (const auto& a : v.aliases) aliases += (aliases.empty() ? "@" : " @") + a;
      list.push_back({{"name", v.name},
                      {"version", v.version},
                      {"stage", v.stage},
                      {"status", v.status},
                      {"aliases", v.aliases}});
      if (!o.common.json)
        std::printf("%s  %s  %s  %s  %s\n", v.name.c_str(), v.version.c_str(), v.stage.c_str(),
                    v.status.c_str(), aliases.c_str());
    }
  }
  if (o.common.json) std::printf("%s\n", nlohmann::ordered_json({{"versions", list}}).dump().c_str());
  return ok;
}

}  // namespace troupe::cli
