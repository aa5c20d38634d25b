#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "cli/models/admin_client.hpp"

namespace troupe::cli {

using nlohmann::json;

int models_load(const models_options& o) {
  const admin_client node(o);
  const int begun = node.command("load", o);
  const std::string plain = o.version.starts_with('v') ? o.version.substr(1) : o.version;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(o.wait_s);
  while (o.wait_s > 0 && !stop_requested()) {
    const json all = json::parse(node.get("/admin/models"));
    std::string state;
    for (const auto& v : all.at("versions")) {
      if (v.at("model") != o.model || v.at("version") != plain || v.at("state") == "draining") continue;
      state = v.at("state");
      if (state == "failed") throw std::runtime_error(v.value("error", std::string("the load failed")));
    }
    if (!state.empty() && state != "loading") {
      if (!o.common.json)
        std::printf("%s: version %s is %s\n", o.model.c_str(), plain.c_str(), state.c_str());
      return ok;
    }
    if (std::chrono::steady_clock::now() > end)
      throw std::runtime_error("it is still being loaded; troupe models status says when it is done");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return begun;
}

}  // namespace troupe::cli
