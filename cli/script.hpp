#pragma once
// The Python scripts that some commands run.

#include <filesystem>
#include <string>

namespace troupe::cli {

/// This program's own file.
[[nodiscard]] std::filesystem::path program_path();

/// scripts/FOLDER/NAME beside the sources that this program was built from, or share/troupe/FOLDER/NAME where
/// an installation puts it. Throws std::runtime_error when it is at neither.
[[nodiscard]] std::filesystem::path script_path(const std::string& name);

}  // namespace troupe::cli
