// troupe tree: the supervision tree of a running node.

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/models/admin_client.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

void print(const json& group, int depth) {
  const std::string margin(static_cast<std::size_t>(2 * depth), ' ');
  std::printf("%s%s  (%s, %llu of %llu restarts left in %s", margin.c_str(),
              group.at("name").get<std::string>().c_str(), group.at("strategy").get<std::string>().c_str(),
              group.at("restarts_left").get<unsigned long long>(),
              group.at("intensity").get<unsigned long long>(),
              span_text(group.at("period_seconds").get<double>()).c_str());
  if (const auto n = group.at("restarts").get<unsigned long long>(); n != 0)
    std::printf(", restarted as a whole %s, %s ago", times_text(n).c_str(),
                span_text(group.at("since_seconds").get<double>()).c_str());
  std::printf(")\n");
  for (const auto& c : group.at("children")) {
    const bool running = c.at("running").get<bool>();
    std::printf("%s  %-42s %-8s %8s", margin.c_str(), c.at("name").get<std::string>().c_str(),
                c.contains("stuck_seconds") ? "STUCK"
                : running                   ? "running"
                                            : "DOWN",
                span_text(c.value("stuck_seconds", c.at("since_seconds").get<double>())).c_str());
    if (const auto n = c.at("restarts").get<unsigned long long>(); n != 0)
      std::printf("  %s, the last: %s", count_text(n, "restart").c_str(),
                  c.at("last_reason").get<std::string>().c_str());
    if (c.contains("notice")) std::printf("  %s", c.at("notice").get<std::string>().c_str());
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
