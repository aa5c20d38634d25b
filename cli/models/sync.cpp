#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "cli/models/admin_client.hpp"

namespace troupe::cli {

using nlohmann::json;

namespace {

/// The versions that are being loaded or wait to answer; a failed load is an error.
bool settled(const json& registry, const json& models) {
  for (const auto& r : registry.at("references")) {
    if (!r.at("version").is_string()) continue;
    for (const auto& v : models.at("versions")) {
      if (v.at("model") != r.at("model") || v.at("version") != r.at("version")) continue;
      if (v.at("state") == "loading") return false;
    }
  }
  return true;
}

}  // namespace

int models_sync(const models_options& o) {
  const admin_client node(o);
  const json asked = json::parse(node.post("/admin/registry/sync", "{}"));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(o.wait_s);
  json after = {{"references", json::array()}};
  while (o.wait_s > 0 && !stop_requested()) {
    after = json::parse(node.get("/admin/registry"));
    if (after.at("polls") >= asked.at("poll") && settled(after, json::parse(node.get("/admin/models"))))
      break;
    if (std::chrono::steady_clock::now() > end)
      throw std::runtime_error(
          "the registry has not been asked to the end yet; troupe models status says what runs");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  bool good = true;
  for (const auto& r : after.at("references")) {
    good &= !r.contains("problem");
    if (o.common.json) continue;
    const auto text = [&](const char* key) {
      return r.contains(key) && r.at(key).is_string() ? r.at(key).get<std::string>() : std::string("none");
    };
    std::printf("%s  version %s\n", text("reference").c_str(), text("version").c_str());
    if (r.contains("problem")) std::fprintf(stderr, "troupe: %s\n", text("problem").c_str());
  }
  if (o.common.json) std::printf("%s\n", after.dump().c_str());
  return good ? ok : failed;
}

}  // namespace troupe::cli
