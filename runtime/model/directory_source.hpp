#pragma once
// The directory of models (repository.hpp has its layout), looked at again and again.
//
// A version that is still being written is not picked up: it must hold its model file, and all its files must
// have had the same names, sizes and times at two looks in a row. Names that begin with a dot are not looked
// at, so a version can be written under such a name and renamed, which is atomic. What is then not a model is
// refused when it is loaded, and looked at again once it changes.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/model/source.hpp"

namespace troupe::model {

class directory_source {
 public:
  explicit directory_source(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// What is there now. `settled`: versions seen for the first time count at once (at the start, or when
  /// asked to look). Never throws: what can't be used is in problems(); a directory that can't be listed
  /// gives the update before.
  model_source_update look(bool settled);
  /// One line each, of the last look.
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }

 private:
  std::filesystem::path directory_;
  std::map<std::filesystem::path, std::uint64_t> seen_;  // folder -> stamp of the last look
  std::map<std::filesystem::path, version_on_disk> known_;
  model_source_update last_;
  std::vector<std::string> problems_;
};

}  // namespace troupe::model
