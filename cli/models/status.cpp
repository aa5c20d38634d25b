#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/models/admin_client.hpp"

namespace troupe::cli {

using nlohmann::json;

int models_status(const models_options& o) {
  const std::string got = admin_client(o).get("/admin/models");
  if (o.common.json) {
    std::printf("%s", got.c_str());
    return ok;
  }
  const json all = json::parse(got);
  std::printf("%-28s %-8s %-11s %-10s %7s %12s %8s %11s\n", "MODEL", "VERSION", "STATE", "ENGINE", "SHARE",
              "ROWS", "ERRORS", "LATENCY");
  for (const auto& v : all.at("versions")) {
    if (!o.model.empty() && v.at("model") != o.model) continue;
    std::printf("%-28s %-8s %-11s %-10s %5.1f %% %12llu %8llu %8.3f ms\n",
                v.at("model").get<std::string>().c_str(), v.at("version").get<std::string>().c_str(),
                v.at("state").get<std::string>().c_str(), v.at("engine").get<std::string>().c_str(),
                100 * v.at("share").get<double>(), v.at("rows").get<unsigned long long>(),
                v.at("errors").get<unsigned long long>(), 1e3 * v.at("latency_seconds").get<double>());
    for (const char* why : {"error", "notice"})
      if (v.contains(why)) std::printf("    %s\n", v.at(why).get<std::string>().c_str());
  }
  for (const auto& r : all.at("rollouts"))
    std::printf("rollout of %s: %s of version %s against %s; troupe models compare %s\n",
                r.at("model").get<std::string>().c_str(), r.at("strategy").get<std::string>().c_str(),
                r.at("new").at("version").get<std::string>().c_str(),
                r.at("old").at("version").get<std::string>().c_str(),
                r.at("model").get<std::string>().c_str());
  for (const auto& r : all.at("history"))
    std::printf(
        "%s: the rollout of version %s is over, %s%s%s%s%s\n", r.at("model").get<std::string>().c_str(),
        r.at("new").at("version").get<std::string>().c_str(), r.at("ended").get<std::string>().c_str(),
        r.contains("reason") ? ", " : "", r.value("reason", std::string()).c_str(),
        r.contains("text") ? ": " : "", r.value("text", std::string()).c_str());
  return ok;
}

}  // namespace troupe::cli
