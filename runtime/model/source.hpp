#pragma once
// Where versions of models come from: what a source says is there. The directory of models is one; a registry
// that puts its versions into a local directory is another. Each update is the source's whole truth: what it
// no longer names is unloaded, what another source named stays.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace troupe::model {

struct version_on_disk {
  std::string name;
  std::string version;         ///< "3", without a v
  std::filesystem::path path;  ///< the folder that holds the model file
  std::uint64_t stamp = 0;     ///< another one: the files changed, and the version is loaded anew

  [[nodiscard]] bool operator==(const version_on_disk&) const = default;
};

struct model_source_update {
  std::string source = "directory";
  std::vector<version_on_disk> versions;
  std::map<std::string, std::string> production;  ///< model -> version, where the source says so

  [[nodiscard]] bool operator==(const model_source_update&) const = default;
};

}  // namespace troupe::model
