#pragma once
// What every command shares: its options as plain structs (main.cpp fills them), exit codes, progress and
// signals.

#include <atomic>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "cli/load_doors.hpp"
#include "cli/load_generator.hpp"
#include "runtime/config/options.hpp"

namespace troupe::kafka {
struct property_error;
}

namespace troupe::cli {

enum exit_code { ok = 0, failed = 1, bad_usage = 2, not_run = 3 };

/// What was asked for can't be done as asked: exit code 2. A line for each mistake.
struct usage_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Gathers what is wrong with several parts, so that all of it is told at once.
class usage_mistakes {
 public:
  void add(const std::string& line) { lines_ += (lines_.empty() ? "" : "\n") + line; }
  template <class F>
  void attempt(F part) {
    try {
      part();
    } catch (const usage_error& e) {
      add(e.what());
    }
  }
  [[nodiscard]] const std::string& lines() const { return lines_; }
  /// Throws usage_error if there are any.
  void end() const {
    if (!lines_.empty()) throw usage_error(lines_);
  }

 private:
  std::string lines_;
};

/// "HEAD: ONE", or with several HEAD and below it a line for each.
[[nodiscard]] std::string listed(const std::string& head, const std::vector<std::string>& all);

struct common_options {
  std::string config;            ///< --config
  std::vector<std::string> set;  ///< --set section.option=value
  bool json = false;
  std::string brokers;  ///< --brokers: kafka.brokers
  std::string models;   ///< --models: models.directory
};

/// What went wrong, on standard error: "troupe: " before each of its lines.
void tell_error(std::string_view lines);

/// For programs, on standard output: {"error": ...}, its lines as they are.
void print_error_document(const std::string& lines);

/// Whose: a node that is to run needs more than a command that asks it.
enum class settings_for { command, node };

/// The settings as the options and the environment say. Throws config_error, also for what can't be a
/// property of Kafka's clients.
[[nodiscard]] config::loaded read_settings(const common_options& common, settings_for whom);

/// The log as they say.
void open_log(const config::settings& settings, bool to_stderr);
/// Settings from file, environment and flags; warnings go to the log, which is opened. Throws
/// config::config_error.
[[nodiscard]] config::loaded settings_of(const common_options& common, bool log_to_stderr,
                                         settings_for whom = settings_for::command);

/// The error with where its property was given: "config/troupe.yaml:7: kafka.properties.linger.ms: ...".
[[nodiscard]] std::string located(const kafka::property_error& error);

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

/// All of a file ("-": standard input); `option` is named in errors where there is one. Throws usage_error.
[[nodiscard]] std::string read_text(const std::string& file, const std::string& option = {});

/// All of a text as a whole number.
[[nodiscard]] std::optional<std::int64_t> whole(std::string_view text);

/// "1 restart", "2 restarts".
[[nodiscard]] std::string count_text(std::uint64_t n, const std::string& of);
/// "once", "2 times".
[[nodiscard]] std::string times_text(std::uint64_t n);
/// Milliseconds since 1970 as 2024-11-15T05:53:20Z; "?" when it can't be written so.
[[nodiscard]] std::string utc_text(std::int64_t ms);
/// A length of time for people: 28.6 s, 12 min, 3.5 h.
[[nodiscard]] std::string span_text(double seconds);

/// A node's address as somebody gave it: http:// may be missing, and a slash at the end goes. Throws
/// usage_error: `option` and what is expected.
[[nodiscard]] std::string node_url(const std::string& text, const std::string& option);

struct http_answer {
  int status = 0;
  std::string status_line;  ///< 404 Not Found
  std::string body;
};
/// One request to a node_url() and a path. Throws std::runtime_error when nobody answers.
[[nodiscard]] http_answer http_call(const std::string& method, const std::string& url,
                                    const std::string& token, const std::string& body, int patience_s = 10);

/// The body of GET of a node_url() and a path. Throws std::runtime_error.
[[nodiscard]] std::string fetch(const std::string& url);

/// Hits and look-ups of a node's prediction cache so far.
struct cache_counts {
  double hits = 0;
  double lookups = 0;
  [[nodiscard]] std::optional<double> ratio_since(const cache_counts& before) const;
};
/// From Prometheus' text. A look-up that a later level answered counts as one hit.
[[nodiscard]] cache_counts read_cache_counts(const std::string& exposition);
/// From a node's metrics address, http://host:port or with a path. Throws usage_error, std::runtime_error.
[[nodiscard]] cache_counts cache_counts_of(const std::string& url);

struct serve_options {
  common_options common;
};
int serve(const serve_options& options);

/// The process that scores for a node; its socket is descriptor 3.
int engine();

struct demo_options {
  common_options common;
  std::int64_t records = 300'000;
  double rate = 2'000;  ///< of the second part
  double seconds = 3;   ///< of the second part
};
int demo(const demo_options& options);

struct load_command_options {
  common_options common;
  load_options load;
  std::string requests_topic, results_topic, dead_letter_topic;  ///< override the configuration
  std::string rows_file;
  std::string raw_file;
  std::string metrics;  ///< of the node, for the cache's hit ratio; empty: not asked
  double wait_for_s = 30;
  bool fail_on_errors = false;  ///< an error result is a failure
  bool features_given = false;  ///< --features
  door_load_options door;       ///< where requests go over HTTP or gRPC
};
int load(const load_command_options& options);

struct results_options {
  common_options common;
  bool follow = false;
  bool from_beginning = false;
  bool dead_letters = false;
  std::int64_t most = 0;
  std::string topic;
};
int results(const results_options& options);

/// troupe replay: dead letters back to where requests come from.
struct replay_options {
  common_options common;
  std::string from;  ///< empty: kafka.dead_letter_topic
  std::string to;    ///< empty: kafka.requests_topic
  std::string group = "troupe-replay";
  bool from_beginning = false;
  bool dry_run = false;
  bool any_record = false;  ///< also what has no error headers
  std::vector<std::string> codes;
  std::string reason;
  std::string since, until;  ///< as time_of (replay_letters.hpp) reads them
  std::int64_t source_partition = -1;
  std::string source_offset;  ///< one, or first-last
  std::int64_t limit = 0;     ///< 0: all
  std::int64_t max_replays = 3;
};
int replay(const replay_options& options);

/// troupe models ...: a running node's versions, through its admin port; the MLflow registry.
struct models_options {
  common_options common;
  std::string url;         ///< http://host:port; empty: this configuration's metrics.port on this machine
  std::string token_file;  ///< else TROUPE_ADMIN_TOKEN, or what the configuration says
  std::string model;
  std::string version;
  int wait_s = 60;  ///< load, sync: until it is loaded or has failed; 0: do not wait

  // Of the registry's commands; `model` is a name or a reference there, models:/NAME/...
  bool add_to = false;  ///< import: register the result
  std::string output;   ///< import: folder to write to
  std::string rows;     ///< import: rows to compare on
};
/// troupe tree: the supervision tree of a running node.
int show_tree(const models_options& options);

/// troupe health: a node's /ready or /liveness.
struct health_options {
  common_options common;
  std::string url;     ///< http://host:port; empty: this configuration's metrics.port on this machine
  bool alive = false;  ///< only that the process answers
  int patience_s = 2;
};
int health(const health_options& options);

int models_status(const models_options& options);
int models_compare(const models_options& options);
int models_load(const models_options& options);
int models_unload(const models_options& options);
int models_promote(const models_options& options);
int models_rollback(const models_options& options);
int models_sync(const models_options& options);
int models_list(const models_options& options);
int models_show(const models_options& options);
int models_fetch(const models_options& options);
int models_import(const models_options& options);

/// troupe models score: `model` is the folder of a version, `rows` a file, JSON lists a line.
int models_score(const models_options& options);

/// troupe batch: a file of requests, scored here.
struct batch_options {
  common_options common;
  std::string input;         ///< "-": standard input
  std::string output = "-";  ///< "-": standard output
  std::string model;         ///< empty: the default model
  std::string version;       ///< empty: the production version
  std::string format;        ///< jsonl, csv or parquet; empty: by the input
  int threads = 0;           ///< 0: as many as cores
  bool restart = false;
  bool allow_errors = false;
};
int batch(const batch_options& options);

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

struct key_options {
  std::string name;
  bool json = false;
};
/// Makes an API key and its entry for auth.keys_file.
int make_key(const key_options& options);

/// troupe models explain
struct explain_options {
  common_options common;
  std::string model;     ///< empty: the default model
  std::string version;   ///< empty: the production version
  std::string features;  ///< JSON: a row, or rows
  std::string file;      ///< the same, a line each; "-": standard input
};
int models_explain(const explain_options& options);

[[nodiscard]] std::string report_json(const load_report& report, std::optional<double> cache_hit_ratio);
/// `followed`: whether answers were waited for.
[[nodiscard]] std::string report_text(const load_report& report, bool followed,
                                      std::optional<double> cache_hit_ratio);

}  // namespace troupe::cli
