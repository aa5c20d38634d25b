#include "runtime/model/directory_source.hpp"

#include <sys/stat.h>
#include <xxhash.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include "runtime/model/model.hpp"
#include "runtime/model/repository.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> entries(const fs::path& in, std::error_code& error) {
  std::vector<fs::path> found;
  for (fs::directory_iterator at(in, error), end; !error && at != end; at.increment(error))
    if (at->path().filename().string().front() != '.') found.push_back(at->path());
  std::sort(found.begin(), found.end());
  return found;
}

std::optional<std::string> version_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  const std::string version(plain_version(name));
  std::uint64_t number = 0;
  const char* end = version.data() + version.size();
  const auto [stop, failed] = std::from_chars(version.data(), end, number);
  if (failed != std::errc() || stop != end || version[0] == '0') return std::nullopt;
  return std::to_string(number);
}

/// Names, sizes, times and inodes of the files of a version; none while the model's is not there.
std::optional<std::uint64_t> stamp_of(const fs::path& folder) {
  std::error_code error;
  std::string all;
  bool model = false;
  for (const fs::path& file : entries(folder, error)) {
    struct stat s {};
    if (::stat(file.c_str(), &s) != 0) return std::nullopt;  // it is just being moved
    const std::string name = file.filename().string();
    model = model || (is_model_file(name) && S_ISREG(s.st_mode));
    all += name + '\0';
    for (const auto n : {static_cast<std::int64_t>(s.st_size), static_cast<std::int64_t>(s.st_mtim.tv_sec),
                         static_cast<std::int64_t>(s.st_mtim.tv_nsec), static_cast<std::int64_t>(s.st_ino)})
      all += std::to_string(n) + ',';
  }
  if (error || !model) return std::nullopt;
  return XXH3_64bits(all.data(), all.size());
}

}  // namespace

model_source_update directory_source::look(bool settled) {
  problems_.clear();
  std::error_code error;
  const auto models = entries(directory_, error);
  if (error) {
    problems_.push_back(directory_.string() + ": cannot be listed (" + error.message() + ")");
    return last_;
  }
  model_source_update update;
  std::map<fs::path, std::uint64_t> seen;
  std::map<fs::path, version_on_disk> known;
  for (const fs::path& model : models) {
    std::error_code ignored;
    if (!fs::is_directory(model, ignored)) continue;
    const std::string name = model.filename().string();
    std::map<std::string, fs::path> versions;
    for (const fs::path& folder : entries(model, ignored)) {
      if (!fs::is_directory(folder, ignored)) continue;
      const auto version = version_of(folder);
      if (!version) {
        problems_.push_back(folder.string() + ": is no version; name the folder by a number (3 or v3)");
        continue;
      }
      const auto [at, fresh] = versions.emplace(*version, folder);
      if (!fresh) {
        problems_.push_back(folder.string() + ": and " + at->second.filename().string() +
                            " are one version; keep one of them");
        continue;
      }
      const auto stamp = stamp_of(folder);
      if (!stamp) continue;
      seen.emplace(folder, *stamp);
      const auto before = seen_.find(folder);
      const bool quiet = settled || (before != seen_.end() && before->second == *stamp);
      if (quiet)
        known[folder] = {name, *version, folder, *stamp};
      else if (const auto was = known_.find(folder); was != known_.end())
        known[folder] = was->second;  // being written anew: what was there counts until it is done
      if (const auto is = known.find(folder); is != known.end()) update.versions.push_back(is->second);
    }
    if (versions.empty())
      for (const fs::path& file : entries(model, ignored))
        if (is_model_file(file.filename().string()))
          problems_.push_back(file.string() + ": is in no version; move it to " +
                              (model / "1" / file.filename()).string());
    const fs::path yaml = model / "model.yaml";
    if (!fs::exists(yaml, ignored)) continue;
    try {
      const YAML::Node root = YAML::LoadFile(yaml.string());
      if (root.IsMap() && root["production"] && root["production"].IsScalar())
        update.production[name] = std::string(plain_version(root["production"].Scalar()));
    } catch (const YAML::Exception& e) {
      problems_.push_back(yaml.string() + ": " + e.what());
      if (const auto was = last_.production.find(name); was != last_.production.end())
        update.production.insert(*was);
    }
  }
  seen_ = std::move(seen);
  known_ = std::move(known);
  last_ = update;
  return update;
}

}  // namespace troupe::model
