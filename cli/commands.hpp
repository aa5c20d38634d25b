#pragma once
// What every command shares: its options as plain structs (main.cpp fills them), exit codes, progress and signals.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/load_generator.hpp"
#include "runtime/config/options.hpp"

namespace troupe::cli {

enum exit_code { ok = 0, failed = 1, bad_usage = 2 };

struct common_options {
  std::string config;             ///< --config
  std::vector<std::string> set;   ///< --set section.option=value
  bool json = false;
};

/// Settings from file, environment and flags; warnings go to the log. Throws config::config_error.
[[nodiscard]] config::loaded settings_of(const common_options& common, bool log_to_stderr);

/// Becomes true with SIGINT or SIGTERM; a second one ends the process at once (exit status 130).
[[nodiscard]] const std::atomic<bool>& stop_requested();

/// A line on stderr that is rewritten on a terminal, and printed every five seconds elsewhere.
class progress_line {
 public:
  void show(const std::string& text);
  void clear();

 private:
  std::int64_t last_ = 0;
  bool shown_ = false;
};

/// The body of GET http://host:port/path, nothing when it can't be had.
[[nodiscard]] std::optional<std::string> fetch(int port, const std::string& path);
/// Sum of a metric's series that contain `labels`.
[[nodiscard]] double metric(const std::string& exposition, const std::string& name, const std::string& labels = {});

struct serve_options {
  common_options common;
};
int serve(const serve_options& options);

struct demo_options {
  common_options common;
  std::int64_t records = 300'000;
  double rate = 2'000;  ///< of the second part
  double seconds = 3;   ///< of the second part
  std::string models;
};
int demo(const demo_options& options);

struct load_command_options {
  common_options common;
  load_options load;
  std::string brokers, requests_topic, results_topic, dead_letter_topic;  ///< override the configuration
  std::string rows_file;
  std::string raw_file;
  double wait_for_s = 30;
};
int load(const load_command_options& options);

struct results_options {
  common_options common;
  bool follow = false;
  bool from_beginning = false;
  bool dead_letters = false;
  std::int64_t most = 0;
  std::string brokers, topic;
};
int results(const results_options& options);

struct check_options {
  common_options common;
};
int check(const check_options& options);

struct config_options {
  common_options common;
  bool schema = false;
  bool markdown = false;
};
int show_config(const config_options& options);

int show_version(bool json);

[[nodiscard]] std::string report_json(const load_report& report, std::optional<double> cache_hit_ratio);
[[nodiscard]] std::string report_text(const load_report& report);

}  // namespace troupe::cli
