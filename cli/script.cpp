#include "cli/script.hpp"

#include <stdexcept>
#include <system_error>

namespace troupe::cli {

namespace fs = std::filesystem;

fs::path program_path() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
}

fs::path script_path(const std::string& name) {
  std::error_code error;
  for (fs::path up = program_path().parent_path(); up.has_relative_path(); up = up.parent_path())
    for (const auto& place : {up / "scripts" / name, up / "share/troupe" / name})
      if (fs::is_regular_file(place, error)) return place;
  throw std::runtime_error("scripts/" + name +
                           " is not beside this program; run it by hand from the sources");
}

}  // namespace troupe::cli
