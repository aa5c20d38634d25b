#include "cli/model_choice.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "runtime/model/directory_source.hpp"
#include "runtime/model/repository.hpp"
#include "runtime/policy/nearest.hpp"

namespace troupe::cli {
namespace {

/// Versions are numbers: more digits are more.
bool older(const std::string& a, const std::string& b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

std::string joined(const std::vector<std::string>& all) {
  std::string list;
  for (const auto& one : all) list += (list.empty() ? "" : ", ") + one;
  return list;
}

}  // namespace

std::shared_ptr<const model::loaded_model> load_one_model(const config::settings& settings, std::string name,
                                                          const std::string& wanted) {
  const auto how = model_options(settings);
  const std::string& directory = settings.models.directory;
  model::directory_source source(directory);
  const auto found = source.look(true);
  std::vector<std::string> names;
  for (const auto& v : found.versions)
    if (names.empty() || names.back() != v.name) names.push_back(v.name);
  const auto is_there = [&](std::string_view one) {
    return std::find(names.begin(), names.end(), one) != names.end();
  };
  if (name.empty()) name = settings.models.default_model;
  if (name.empty() && names.size() == 1) name = names.front();
  if (name.empty() && is_there(model::shipped_model)) name = model::shipped_model;
  if (name.empty())
    throw usage_error(directory +
                      (names.empty() ? " has no models" : " has several models: " + joined(names)) +
                      "; name one with --model");
  std::string version(model::plain_version(wanted));
  if (version.empty())
    if (const auto it = found.production.find(name); it != found.production.end()) version = it->second;
  const model::version_on_disk* best = nullptr;
  std::vector<std::string> versions;
  for (const auto& v : found.versions) {
    if (v.name != name) continue;
    versions.push_back(v.version);
    if (!version.empty() && v.version != version) continue;
    if (!best || older(best->version, v.version)) best = &v;
  }
  if (best) return model::load_model(best->path, best->name, best->version, how.engines, how.explain);
  std::sort(versions.begin(), versions.end(), older);
  if (!versions.empty())
    throw usage_error("model " + name + " version " + version + " is not in " + directory + "; it has " +
                      (versions.size() == 1 ? "version " : "versions ") + joined(versions));
  const std::string near = policy::nearest(name, names, 2);
  throw usage_error("model " + name + " is not in " + directory +
                    (!near.empty()   ? " (did you mean " + near + "?)"
                     : names.empty() ? ""
                                     : "; there are " + joined(names)));
}

}  // namespace troupe::cli
