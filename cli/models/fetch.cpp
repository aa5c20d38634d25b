#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "runtime/registry/from_settings.hpp"

namespace troupe::cli {

int models_fetch(const models_options& o) {
  const auto s = settings_of(o.common, true).values;
  if (s.mlflow.models.empty()) throw usage_error("mlflow.models names no model; nothing to fetch");
  registry::registry_poller poller(registry::poller_options_of(s.mlflow));
  const auto report = poller.poll_once();
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& v : poller.current().versions) {
    list.push_back({{"name", v.name}, {"version", v.version}, {"directory", v.path.string()}});
    if (!o.common.json) std::printf("%s  %s  %s\n", v.name.c_str(), v.version.c_str(), v.path.c_str());
  }
  for (const auto& what : report.problems) std::fprintf(stderr, "troupe: %s\n", what.c_str());
  if (o.common.json)
    std::printf("%s\n", nlohmann::ordered_json(
                            {{"reached", report.reached}, {"versions", list}, {"problems", report.problems}})
                            .dump()
                            .c_str());
  return report.problems.empty() ? ok : failed;
}

}  // namespace troupe::cli
