#pragma once
// Watching a registry: what a reference means, what changed between two polls, and when to ask again. No
// clock: time is an argument.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

/// models:/name/3, models:/name/latest, models:/name/Production, models:/name@champion.
struct model_reference {
  enum class kind { number, latest, stage, alias };
  std::string name;
  kind by = kind::latest;
  std::string value;  ///< the number, stage or alias; empty for latest
  [[nodiscard]] std::string text() const;
};

/// nullopt: not a reference. Names are what MLflow and a folder both take: no slash, no leading dot.
[[nodiscard]] std::optional<model_reference> parse_model_reference(std::string_view text);

struct watch_config {
  nanos interval = 30 * second;
  double jitter = 0.1;  ///< of each wait, either way, so that nodes do not ask in step
  nanos backoff_min = second;
  nanos backoff_max = 300 * second;
};

struct version_change {
  std::string reference;
  std::string before;  ///< empty: new
  std::string after;
  bool operator==(const version_change&) const = default;
};

class registry_watch {
 public:
  registry_watch(watch_config config, std::uint64_t seed);

  /// The answers of one poll: the version of each reference that was resolved. A reference that is missing
  /// keeps its version: an answer that did not come says nothing about the model.
  [[nodiscard]] std::vector<version_change> changes(const std::map<std::string, std::string>& resolved) const;

  /// The new version is in use.
  void accept(const version_change& change);

  /// Plans the next poll, after one that ran from `began` to `ended`: `interval` after its beginning, so that
  /// a slow registry is asked as often as a quick one, but not before a quarter of it has passed since its
  /// end. After failed polls: doubling waits up to backoff_max, from their end.
  void polled(bool reached, nanos began, nanos ended);
  [[nodiscard]] nanos next() const { return next_; }
  [[nodiscard]] const std::map<std::string, std::string>& current() const { return current_; }

 private:
  [[nodiscard]] double random();

  watch_config config_;
  std::uint64_t state_;
  std::map<std::string, std::string> current_;
  nanos backoff_ = 0;
  nanos next_ = 0;
};

}  // namespace troupe::policy
