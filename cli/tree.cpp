// troupe tree: the supervision tree of a running node.

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/models/admin_client.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

/// 45 s, 12 min, 3.5 h
std::string age(double seconds) {
  char text[32];
  if (seconds < 120)
    std::snprintf(text, sizeof text, "%.0f s", seconds);
  else if (seconds < 7200)
    std::snprintf(text, sizeof text, "%.0f min", seconds / 60);
  else
    std::snprintf(text, sizeof text, "%.1f h", seconds / 3600);
  return text;
}

void print(const json& group, int depth) {
  const std::string margin(static_cast<std::size_t>(2 * depth), ' ');
  std::printf("%s%s  (%s, %llu of %llu restarts left in %s", margin.c_str(),
              group.at("name").get<std::string>().c_str(), group.at("strategy").get<std::string>().c_str(),
              group.at("restarts_left").get<unsigned long long>(),
              group.at("intensity").get<unsigned long long>(),
              age(group.at("period_seconds").get<double>()).c_str());
  if (const auto n = group.at("restarts").get<unsigned long long>(); n != 0)
    std::printf(", restarted as a whole %llu times, %s ago", n,
                age(group.at("since_seconds").get<double>()).c_str());
  std::printf(")\n");
  for (const auto& c : group.at("children")) {
    const bool running = c.at("running").get<bool>();
    std::printf("%s  %-42s %-8s %8s", margin.c_str(), c.at("name").get<std::string>().c_str(),
                c.contains("stuck_seconds") ? "STUCK"
                : running                   ? "running"
                                            : "DOWN",
                age(c.value("stuck_seconds", c.at("since_seconds").get<double>())).c_str());
    if (const auto n = c.at("restarts").get<unsigned long long>(); n != 0)
      std::printf("  %llu restarts, the last: %s", n, c.at("last_reason").get<std::string>().c_str());
    std::printf("\n");
  }
  for (const auto& g : group.at("groups")) print(g, depth + 1);
}

}  // namespace

int show_tree(const models_options& o) {
  const std::string got = admin_client(o).get("/admin/tree");
  if (o.common.json) {
    std::printf("%s", got.c_str());
    return ok;
  }
  const json all = json::parse(got);
  print(all.at("supervisor"), 0);
  for (const auto& a : all.at("abandoned"))
    std::printf("abandoned, its thread still at work: %s\n", a.get<std::string>().c_str());
  return ok;
}

}  // namespace troupe::cli
