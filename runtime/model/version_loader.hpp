#pragma once
// Loads versions and looks at the directory of models, on a thread of its own: neither may hold up the
// actors.

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "runtime/model/engine_choice.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/source.hpp"
#include "runtime/model/warm_up.hpp"

namespace troupe::model {

struct loader_options {
  std::filesystem::path directory;
  engine_options engines;
  bool explain = false;  ///< as repository_options::explain
  bool watch = false;
  std::chrono::milliseconds every{10'000};
  std::shared_ptr<recent_rows> recent;
  /// All are called on the loader's thread. A look that finds nothing new is not told.
  std::function<void(model_source_update)> found;
  std::function<void(const version_on_disk&, std::shared_ptr<const loaded_model>, const warm_up_result&)>
      loaded;
  std::function<void(const version_on_disk&, const std::string& why)> failed;
  /// Once for each that is new.
  std::function<void(const std::string& problem)> problem;
  /// All there are, whenever they change: what is passed over until somebody corrects it.
  std::function<void(std::vector<std::string>)> problems;
};

class version_loader {
 public:
  /// What is there at this moment counts as known and is not told.
  explicit version_loader(loader_options options);
  ~version_loader();  ///< waits for the load that runs
  version_loader(const version_loader&) = delete;
  version_loader& operator=(const version_loader&) = delete;

  /// Loads and warms up; `loaded` or `failed` follows.
  void load(version_on_disk v);
  /// Looks at once, and takes what is there as complete.
  void look_now();
  void watch(bool on, std::chrono::milliseconds every);
  /// Runs on the thread after what was asked before.
  void then(std::function<void()> job);
  /// What is known of the directory; at first what was there at the start.
  [[nodiscard]] model_source_update first() const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::model
