#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "runtime/registry/from_settings.hpp"
#include "runtime/registry/mlmodel.hpp"

namespace troupe::cli {

int models_show(const models_options& o) {
  const auto s = settings_of(o.common, true).values;
  if (s.mlflow.uri.empty()) throw usage_error("mlflow.uri is not set; name the MLflow server");
  const auto r = policy::parse_model_reference(o.model);
  if (!r)
    throw usage_error("'" + o.model + "' is no reference; write models:/NAME/3 or models:/NAME@champion");
  registry::mlflow_client client(registry::client_options_of(s.mlflow));
  const auto v = client.resolve(*r);
  const auto m = registry::parse_mlmodel(client.read(v.name, v.version, "MLmodel"));
  const auto files = client.list(v.name, v.version);
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  if (files)
    for (const auto& f : *files) list.push_back({{"path", f.path}, {"bytes", f.size}});
  const nlohmann::ordered_json all = {{"name", v.name},
                                      {"version", v.version},
                                      {"stage", v.stage},
                                      {"aliases", v.aliases},
                                      {"format", registry::name_of(m.kind)},
                                      {"file", m.file},
                                      {"flavours", m.others},
                                      {"features", m.features},
                                      {"files", list}};
  if (o.common.json) {
    std::printf("%s\n", all.dump().c_str());
    return ok;
  }
  for (const auto& [key, value] : all.items())
    if (key != "files")
      std::printf("%-10s %s\n", key.c_str(),
                  value.is_string() ? value.get_ref<const std::string&>().c_str() : value.dump().c_str());
  for (const auto& f : list)
    std::printf("  %12llu  %s\n", static_cast<unsigned long long>(f["bytes"].get<std::uint64_t>()),
                f["path"].get_ref<const std::string&>().c_str());
  if (m.kind == registry::flavour::none)
    std::printf("needs Python; convert it: troupe models import models:/%s/%s --register\n", v.name.c_str(),
                v.version.c_str());
  return ok;
}

}  // namespace troupe::cli
