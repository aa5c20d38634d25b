#pragma once
// What a source of models (a registry) offers to the node: versions that lie on disk, and which of them
// answers for its model. An update is complete: what it does not name is no longer wanted.

#include <map>
#include <string>
#include <vector>

namespace troupe::policy {

struct version_on_disk {
  std::string name;
  std::string version;    ///< a number, without v
  std::string directory;  ///< laid out as <models.directory>/<name>/<version>; its files never change
  bool operator==(const version_on_disk&) const = default;
};

struct model_source_update {
  std::vector<version_on_disk> versions;          ///< by name, then number
  std::map<std::string, std::string> production;  ///< name -> version
  bool operator==(const model_source_update&) const = default;
};

}  // namespace troupe::policy
