#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "cli/models/admin_client.hpp"

namespace troupe::cli {

using nlohmann::json;

int models_compare(const models_options& o) {
  const json all = json::parse(admin_client(o).get("/admin/models"));
  const json* found = nullptr;
  for (const char* list : {"rollouts", "history"})
    for (const auto& r : all.at(list))
      if (!found && r.at("model") == o.model) found = &r;
  if (!found) throw std::runtime_error("no rollout of model " + o.model + " runs or ran");
  const json& r = *found;
  if (o.common.json) {
    std::printf("%s\n", r.dump().c_str());
    return ok;
  }
  const json& a = r.at("old");
  const json& b = r.at("new");
  const auto rate = [](const json& side) {
    const double n = side.at("requests");
    return n > 0 ? 100 * side.at("failed").get<double>() / n : 0.0;
  };
  std::printf("%s, %s, %s\n", o.model.c_str(), r.at("strategy").get<std::string>().c_str(),
              r.value("ended", std::string("running")).c_str());
  std::printf("%-24s %14s %14s\n", "", "old", "new");
  std::printf("%-24s %14s %14s\n", "version", a.at("version").get<std::string>().c_str(),
              b.at("version").get<std::string>().c_str());
  const double share = r.at("share");
  std::printf("%-24s %12.2f %% %12.2f %%\n", "share", 100 * (1 - share), 100 * share);
  std::printf("%-24s %14llu %14llu\n", "requests in the window", a.at("requests").get<unsigned long long>(),
              b.at("requests").get<unsigned long long>());
  std::printf("%-24s %12.2f %% %12.2f %%\n", "failed", rate(a), rate(b));
  std::printf("%-24s %11.3f ms %11.3f ms\n", "p95 of execution", 1e3 * a.at("p95_seconds").get<double>(),
              1e3 * b.at("p95_seconds").get<double>());
  if (r.at("psi").is_number())
    std::printf("%-24s %14s %14.3f  (chance alone: below %.3f)\n", "stability index", "",
                r.at("psi").get<double>(), r.at("psi_noise").get<double>());
  if (r.contains("text")) std::printf("%s\n", r.at("text").get<std::string>().c_str());
  return ok;
}

}  // namespace troupe::cli
