#pragma once
// The disk cache of registry versions, so that a start with the registry down serves what was served last:
//
//   <directory>/models/<name>/<version>/    model.onnx, model.yaml, MLmodel, ... and .manifest
//   <directory>/references/<digest>         what a reference of a registry resolved to, JSON
//
// A version is put together in a hidden folder, synced and renamed: it is there whole or not at all, whatever
// is killed, and of two processes one wins and the other uses it. `.manifest` lists each file with its size
// and SHA-256; a version that does not match it is set aside and counts as absent.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace troupe::registry {

class version_cache {
 public:
  /// Makes the directory and clears away what killed processes left. Throws std::runtime_error.
  explicit version_cache(std::filesystem::path directory);

  /// A version whose files match their digests. `origin` tells registries apart, and a model that was deleted
  /// and made anew; empty: any.
  [[nodiscard]] std::optional<std::filesystem::path> find(const std::string& name, const std::string& version,
                                                          const std::string& origin) const;

  /// One number for the files of a version that find() or add() returned: others, another number.
  [[nodiscard]] std::uint64_t stamp(const std::filesystem::path& version) const;

  /// Adds what `fill` writes into an empty folder; returns where it is. Passes on what `fill` throws, and
  /// throws std::runtime_error.
  std::filesystem::path add(const std::string& name, const std::string& version, const std::string& origin,
                            const std::function<void(const std::filesystem::path&)>& fill);

  /// Takes away a version that turned out to be no good, so that the next find() has none. Nothing happens if
  /// its files are no longer those of `stamp`, or a remembered reference names them: then somebody serves it.
  void discard(const std::string& name, const std::string& version, std::uint64_t stamp);

  /// Name and version.
  using resolved = std::pair<std::string, std::string>;
  /// `stamp`: of the files; 0: whichever there are.
  void remember(const std::string& registry, const std::string& reference, const resolved& to,
                std::uint64_t stamp = 0);
  [[nodiscard]] std::optional<resolved> recall(const std::string& registry,
                                               const std::string& reference) const;

  /// Keeps `most` versions of a model, the newest, and whatever `used` or a remembered reference names.
  void prune(std::size_t most, const std::set<resolved>& used);

 private:
  /// With the stamp.
  [[nodiscard]] std::vector<std::pair<resolved, std::uint64_t>> remembered() const;
  [[nodiscard]] std::filesystem::path place(const std::string& name, const std::string& version) const;
  [[nodiscard]] std::filesystem::path note(const std::string& registry, const std::string& reference) const;
  std::filesystem::path directory_;
};

/// SHA-256 in hex.
[[nodiscard]] std::string sha256_of(std::string_view text);

}  // namespace troupe::registry
