#pragma once
// The keys of one mapping of a file, each of which may stand there once: YAML's reader lets the last of two
// win.

#include <map>
#include <string>

namespace troupe::policy {

class keys_once {
 public:
  /// Empty for a key that is new; else what is wrong with it, to be read behind its name.
  [[nodiscard]] std::string again(const std::string& key, int line) {
    const auto [it, first] = lines_.emplace(key, line);
    return first ? std::string() : "is given twice (first in line " + std::to_string(it->second) + ")";
  }

 private:
  std::map<std::string, int> lines_;
};

}  // namespace troupe::policy
