#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>

#include "cli/models/admin_client.hpp"

namespace troupe::cli {

namespace {

using nlohmann::ordered_json;

/// What is of this model only.
void keep(ordered_json& all, const std::string& model) {
  std::set<std::string> there;
  for (const auto& v : all.at("versions")) there.insert(v.at("model").get<std::string>());
  if (!there.contains(model)) {
    std::string names;
    for (const auto& name : there) names += (names.empty() ? "" : ", ") + name;
    throw std::runtime_error("there is no model " + model + " on this node; it has " +
                             (names.empty() ? "none" : names));
  }
  for (const char* list : {"versions", "rollouts", "history"}) {
    ordered_json kept = ordered_json::array();
    for (auto& one : all.at(list))
      if (one.at("model") == model) kept.push_back(std::move(one));
    all[list] = std::move(kept);
  }
}

}  // namespace

int models_status(const models_options& o) {
  auto all = ordered_json::parse(admin_client(o).get("/admin/models"));
  if (!o.model.empty()) keep(all, o.model);
  if (o.common.json) {
    std::printf("%s\n", all.dump().c_str());
    return ok;
  }
  std::printf("%-28s %-8s %-11s %-10s %7s %12s %8s %11s\n", "MODEL", "VERSION", "STATE", "ENGINE", "SHARE",
              "ROWS", "ERRORS", "LATENCY");
  for (const auto& v : all.at("versions")) {
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
