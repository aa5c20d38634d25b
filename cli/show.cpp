#include <librdkafka/rdkafka.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "troupe_version.hpp"

namespace troupe::cli {

int show_config(const config_options& o) {
  if (o.schema) {
    std::printf("%s\n", config::json_schema().c_str());
    return ok;
  }
  if (o.markdown) {
    std::printf("%s", config::markdown().c_str());
    return ok;
  }
  const auto loaded = settings_of(o.common, true);
  if (o.common.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const auto& e : loaded.effective)
      list.push_back({{"key", e.key}, {"value", e.value}, {"origin", e.origin}});
    std::printf("%s\n", list.dump().c_str());
    return ok;
  }
  std::size_t wide = 0;
  for (const auto& e : loaded.effective) wide = std::max(wide, e.key.size());
  for (const auto& e : loaded.effective)
    std::printf("%-*s  %s  # %s\n", static_cast<int>(wide), e.key.c_str(),
                e.value.empty() ? "\"\"" : e.value.c_str(), e.origin.c_str());
  return ok;
}

int show_version(bool json) {
  if (json)
    std::printf("%s\n", nlohmann::ordered_json({{"version", TROUPE_VERSION},
                                                {"revision", TROUPE_GIT_REVISION},
                                                {"compiler", TROUPE_COMPILER},
                                                {"build", TROUPE_BUILD_TYPE},
                                                {"caf", node::caf_version()},
                                                {"librdkafka", rd_kafka_version_str()}})
                            .dump()
                            .c_str());
  else
    std::printf("troupe %s (%s, %s, %s), CAF %s, librdkafka %s\n", TROUPE_VERSION, TROUPE_GIT_REVISION,
                TROUPE_COMPILER, TROUPE_BUILD_TYPE, node::caf_version().c_str(), rd_kafka_version_str());
  return ok;
}

}  // namespace troupe::cli
