#pragma once
// The one list of options, and how settings are made from it.
//
// Later wins: default < file < environment < --set. Every option `section.name` is a key of the file, the
// variable TROUPE_SECTION_NAME and `--set section.name=value`. A secret may also be given as
// `section.name_file`, the path of a file that holds it (TROUPE_SECTION_NAME_FILE): a trailing newline is
// dropped.
//
//   map        kafka.properties: {linger.ms: 5}   TROUPE_KAFKA_PROPERTIES_LINGER_MS=5
//   kafka.properties.linger.ms=5 classes    a list in the file                 TROUPE_CLASSES_BULK_TARGET=30s
//   classes.bulk.target=30s
//
// The variables of the services whose users move to Troupe (KAFKA_BROKER, CONSUMER_GROUP, REDIS_HOST,
// MODEL_NAME, ...) are read too; TROUPE_ variables win over them.

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/config/settings.hpp"

namespace troupe::config {

/// The configuration can't be used. A line for each mistake: where (file and line, variable or flag), the
/// key, what is wrong, what is allowed, and for an unknown key the nearest known one. Commands end with exit
/// code 2.
struct config_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class value_type {
  text,
  list,
  integer,
  number,
  boolean,
  duration,
  size,
  choice,
  map,
  classes,
  rollouts
};

struct option {
  std::string key;  ///< section.name
  value_type type = value_type::text;
  std::string default_value;         ///< as it would be written in the file
  std::string unit;                  ///< of a bare number: rows, records, ...; may be empty
  std::string bounds;                ///< for people: "1 to 65535"; empty when any value will do
  std::vector<std::string> choices;  ///< of a choice
  std::string environment;           ///< TROUPE_KAFKA_BROKERS
  bool live = false;                 ///< changes without a restart
  bool secret = false;               ///< never shown
  std::string help;                  ///< one sentence
};

/// All options, in the order of the documentation.
[[nodiscard]] const std::vector<option>& options();

/// Of kafka.properties: one that has to change, and the line that names it.
struct misfit {
  std::string property;  ///< without kafka.properties; empty: none of those that were given
  std::string text;
};

struct sources {
  /// --config. Unset: config/troupe.yaml, else /etc/troupe/troupe.yaml, whichever exists.
  std::optional<std::filesystem::path> file;
  /// --set, in order: "section.option=value".
  std::vector<std::string> set;
  /// A flag of its own for an option, after --set: --brokers for kafka.brokers.
  struct flag {
    std::string name, key, value;
  };
  std::vector<flag> flags = {};
  /// Unset: the process's.
  std::optional<std::map<std::string, std::string>> environment;
  /// False: without --config, no file is read.
  bool search = true;
  /// The settings are a node's that is to run: what only a node can't do without has to be there as well.
  bool node = false;
  /// What librdkafka has against one of its properties, empty if nothing. Unset: it is not asked.
  std::function<std::string(const std::string& name, const std::string& value)> property_fault = {};
  /// What it has against properties that are each right but don't go together. Unset: it is not asked.
  std::function<std::vector<misfit>(const settings& values)> misfits = {};
};

/// One line of `troupe config`.
struct effective_value {
  std::string key;
  std::string value;   ///< as in the file; *** for a secret that is set
  std::string origin;  ///< default | config/troupe.yaml:12 | environment TROUPE_KAFKA_BROKERS | --set
  bool secret = false;
};

struct loaded {
  settings values;
  std::vector<effective_value> effective;  ///< every option, map entry and class field
  std::vector<std::string> warnings;       ///< taken, but without effect or hardly meant so; one line each
  std::string file;                        ///< the one that was read; empty if none
};

/// Throws config_error: with every value that is wrong for itself, and all that does not go together, but for
/// what may follow from another mistake.
[[nodiscard]] loaded load(const sources& from);

/// Sets a field of a rollout from text, as in the file. Throws config_error.
void set_rollout_field(policy::rollout_spec& spec, const std::string& name, const std::string& text);

/// JSON Schema (2020-12) of the file.
[[nodiscard]] std::string json_schema();
/// The reference of all options, in Markdown.
[[nodiscard]] std::string markdown();

}  // namespace troupe::config
