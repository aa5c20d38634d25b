#pragma once
// The option list, bound to one settings object: what an option is called and allows stands here once, and
// reading, showing, the schema and the reference follow from it. Internal to runtime/config.

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/config/options.hpp"

namespace troupe::config {

/// A value that an option does not take; the text says what it takes instead.
struct value_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct binding {
  option doc;
  std::optional<double> least;  ///< of integers and numbers
  std::optional<double> most;
  std::string pattern;                          ///< of a text, for the schema; empty: any
  std::function<void(const std::string&)> set;  ///< throws value_error; none for the map and the classes
  std::function<std::string()> get;
};

/// All options but the fields of classes and rollouts, with the values of `s` as defaults. `s` must outlive
/// the result.
[[nodiscard]] std::vector<binding> bind(settings& s);
/// The fields of a class but its name: keys are target, limit, on_late, floor.
[[nodiscard]] std::vector<binding> bind(class_settings& c);
/// The fields of a rollout but its model and version: keys are strategy, percent, ...
[[nodiscard]] std::vector<binding> bind(policy::rollout_spec& r);

/// TROUPE_KAFKA_BROKERS for kafka.brokers.
[[nodiscard]] std::string environment_name(std::string_view key);
[[nodiscard]] std::string_view section_of(std::string_view key);
/// Whether a librdkafka property holds a secret.
[[nodiscard]] bool is_secret_property(std::string_view name);

}  // namespace troupe::config
