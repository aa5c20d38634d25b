// troupe: the program. Options become plain structs here; each command has a file of its own.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "actors/node.hpp"
#include "cli/command_line.hpp"
#include "cli/commands.hpp"
#include "cli/fault/options.hpp"
#include "cli/models/options.hpp"
#include "cli/replay_letters.hpp"
#include "runtime/kafka/client.hpp"
#include "runtime/policy/nearest.hpp"

namespace {

using namespace troupe;

/// The command that was named, and the command within it.
const CLI::App& named_command(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  return *at;
}

/// What is wrong with the command line, in one line; names what was probably meant.
std::string complaint(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  std::vector<std::string> known;
  std::string word;
  std::string what;
  const CLI::App& named = named_command(app);
  const auto within = named.get_subcommands([](const CLI::App*) { return true; });
  if (!within.empty()) {
    const int next = &named == &app ? 1 : 2;
    if (argc <= next) return "which command?";
    for (const auto* command : within) known.push_back(command->get_name());
    word = argv[next];
    what = word.starts_with("-") ? "unknown option " : "unknown command ";
  } else {
    if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr) {
      std::string text = error.what();
      if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr && text.starts_with("--"))
        return text.substr(0, text.find(": ")) + ": needs a value";
      // "--records: abc: ..." of a check reads "--records abc: ...".
      const auto colon = text.find(": ");
      if (dynamic_cast<const CLI::ValidationError*>(&error) != nullptr && colon != std::string::npos)
        text.erase(colon, 1);
      return text;
    }
    for (const auto* option : named.get_options())
      for (const auto& name : option->get_lnames()) known.push_back("--" + name);
    std::vector<std::string> extras = app.remaining(true);
    // An unknown option leaves its argument behind too, before it.
    for (const auto& one : extras)
      if (word.empty() && one.starts_with("-")) word = one.substr(0, one.find('='));
    if (word.empty() && !extras.empty()) word = extras.back();
    what = word.starts_with("-") ? "unknown option " : "unexpected argument ";
  }
  // At least one letter of it is right.
  const std::string near =
      word.empty() ? std::string() : policy::nearest(word, known, std::min<std::size_t>(2, word.size() - 1));
  return what + word + (near.empty() ? "" : " (did you mean " + near + "?)");
}

/// Options and arguments that were given nothing, as by a variable that is not set: they would count as left
/// out, or --option= take the next word.
std::set<std::string> empty_values(const CLI::App& app, int argc, char** argv) {
  std::set<std::string> all;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with("--") && word.find('=') == word.size() - 1)
      all.emplace(word.substr(0, word.size() - 1));
  }
  for (const auto* option : named_command(app).get_options())
    for (const auto& value : option->results())
      if (value.empty()) all.insert(option->get_name());
  return all;
}

/// All that is wrong with the command line, a line each; `error`: why it could not be read to its end.
std::string wrong_options(const CLI::App& app, const CLI::ParseError* error, int argc, char** argv) {
  cli::usage_mistakes wrong;
  const auto empty = empty_values(app, argc, argv);
  std::istringstream noted(cli::option_mistakes());
  for (std::string line; std::getline(noted, line);)  // an option that took the next word is told below
    if (!empty.contains(line.substr(0, line.find(' ')))) wrong.add(line);
  for (const auto& option : empty) wrong.add(option + ": is empty; give it a value, or leave it out");
  if (error != nullptr && empty.empty()) wrong.add(complaint(app, *error, argc, argv));
  return wrong.lines();
}

/// Whether --json promises one document of the command that was named, and the command leaves it to us where
/// it comes to none: others write lines, or a document in any case.
bool promises_document(const CLI::App& app, int argc, char** argv) {
  const std::string_view name = named_command(app).get_name();
  for (const std::string_view other : {"serve", "results", "batch", "run"})
    if (name == other) return false;
  return std::any_of(argv + 1, argv + argc,
                     [](const char* word) { return word == std::string_view("--json"); });
}

/// What ends every complaint of the command line.
int refuse(const CLI::App& app, const std::string& what) {
  std::string command;
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    command += at->get_name() + " ";
  }
  cli::tell_error(what);
  std::fprintf(stderr, "Try: troupe %s--help\n", command.c_str());
  return cli::bad_usage;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Troupe: an actor runtime for model inference. Requests come in from Kafka, supervised actors score "
      "them\n"
      "under deadlines, results go out; nothing is lost."};
  app.require_subcommand(1);
  app.add_flag_callback(
      "--version",
      [] {
        cli::show_version(false);
        throw CLI::Success();
      },
      "Print the version");
  app.footer(
      "Begin with:  troupe demo\nEach command:  troupe COMMAND --help\nExit status:  0 done; 1 the work "
      "failed; 2 the command line or the configuration is wrong\nMore:  docs/getting-started.md");

  cli::serve_options serve;
  auto* c_serve = app.add_subcommand("serve", "Run a node");
  cli::add_common(c_serve, serve.common, "Log as JSON lines, also on a terminal");
  cli::add_brokers(c_serve, serve.common);
  cli::add_models(c_serve, serve.common);
  cli::end_help(c_serve, {{"troupe serve --brokers broker:9092 --models models",
                           "troupe serve --brokers embedded   # one of its own; the log's line 'started' has "
                           "its address"},
                          "drain.deadline came first, or the node can't go on",
                          "docs/getting-started.md, docs/operations.md",
                          {"SIGTERM or Ctrl-C drains; a second one stops at once."}});

  cli::demo_options demo;
  auto* c_demo =
      app.add_subcommand("demo", "The whole road on a broker inside the process; nothing else is needed");
  cli::add_common(c_demo, demo.common);
  cli::whole_number(
      c_demo->add_option("--records", demo.records, "Records of the first part, as fast as it goes"), 1,
      100'000'000);
  cli::finite_number(
      c_demo->add_option("--rate", demo.rate, "Records/s of the second part, which measures latency"), 1, 1e6,
      "RATE");
  cli::finite_number(c_demo->add_option("--seconds", demo.seconds, "Length of the second part"), 0.1, 3600,
                     "SECONDS");
  cli::add_models(c_demo, demo.common);
  cli::end_help(c_demo, {{"troupe demo --json"}, "a record was lost", "docs/getting-started.md", {}});

  cli::load_command_options load;
  auto* c_load =
      app.add_subcommand("load", "Send requests over Kafka, HTTP or gRPC, follow their answers, report");
  cli::add_common(c_load, load.common);
  bool no_wait = false;
  cli::add_brokers(c_load, load.common);
  c_load
      ->add_option("--requests-topic", load.requests_topic,
                   "Topic to send to; it must exist (default: kafka.requests_topic)")
      ->type_name("TOPIC");
  c_load->add_option("--results-topic", load.results_topic, "Topic to follow (default: kafka.results_topic)")
      ->type_name("TOPIC");
  c_load
      ->add_option("--dead-letter-topic", load.dead_letter_topic,
                   "Topic to follow (default: kafka.dead_letter_topic)")
      ->type_name("TOPIC");
  auto* records =
      cli::whole_number(c_load->add_option("--records,--requests,-n", load.load.records,
                                           "How many (default of Kafka: 10000; HTTP, gRPC: see --seconds)"),
                        1, 1'000'000'000);
  cli::finite_number(
      c_load->add_option("--rate", load.load.rate,
                         "Requests/s, open loop: latency counts from when each was due; without it a closed "
                         "loop over --window or --connections"),
      0.1, 1e7, "RATE");
  cli::whole_number(
      c_load->add_option("--window", load.load.window, "Closed loop: records sent and not yet answered")
          ->capture_default_str(),
      1, 10'000'000);
  c_load->add_option("--model", load.load.model, "Model to ask for")->type_name("NAME");
  c_load->add_option("--model-version", load.load.model_version, "Version to ask for")->type_name("VERSION");
  cli::whole_number(c_load->add_option("--priority", load.load.priority, "1 is most urgent"), 0, 1000);
  cli::whole_number(c_load->add_option("--timeout-ms", load.load.timeout_ms, "Expiry of each request"), 0,
                    1'000'000'000);
  cli::whole_number(c_load->add_option("--distinct", load.load.distinct, "Different rows of features")
                        ->capture_default_str(),
                    1, 10'000'000);
  c_load
      ->add_option("--metrics", load.metrics,
                   "The node's metrics address, http://host:8000, for the cache's hit ratio")
      ->type_name("URL");
  auto* features =
      cli::whole_number(c_load->add_option("--features", load.load.features, "Numbers in a generated row")
                            ->capture_default_str(),
                        1, 100'000);
  auto* seed =
      cli::whole_number(c_load
                            ->add_option("--seed", load.load.seed,
                                         "Of generated rows: another one, other rows; the same one's are in "
                                         "the cache the second time")
                            ->capture_default_str(),
                        0, INT64_MAX);
  c_load->add_option("--features-file", load.rows_file, "Rows to send: JSON a line, or CSV numbers")
      ->type_name("FILE")
      ->excludes(seed);
  c_load->add_flag("--keyed", load.load.keyed, "The request id is the record's key");
  c_load->add_option("--run-id", load.load.run_id, "Prefix of the request ids (default: random)")
      ->type_name("ID");
  cli::duration(c_load->add_option("--wait-for", load.wait_for_s,
                                   "Time without any answer until the rest counts as lost, e.g. 30s"));
  cli::duration(c_load->add_option("--interval", load.load.interval,
                                   "Also report the latency of each interval of this length, e.g. 1s"));
  c_load->add_flag("--fail-on-errors", load.fail_on_errors, "Exit with 1 when any answer is an error");
  c_load->add_flag("--no-wait", no_wait, "Send only");
  c_load
      ->add_option("--raw", load.raw_file,
                   "Send the records of this file of JSON lines as they are ('-': standard input)")
      ->type_name("FILE")
      ->excludes(seed);
  cli::add_door_load(c_load, load);
  cli::end_help(
      c_load,
      {{"troupe load --records 100000 --rate 5000",
        "troupe load --http http://localhost:8080 --rate 2000 --seconds 30",
        "troupe load --http http://localhost:8080 --model iris-classifier --features 4 --format binary "
        "--connections 64",
        "troupe load --grpc localhost:8081 --model diabetes-rf-model --priority 1 --target 20ms --json",
        "troupe load --records 1000000 --window 50000 --json",
        "echo '{\"key\":\"a\",\"value\":\"{}\",\"headers\":{\"model\":\"iris-classifier\"}}' | troupe load "
        "--raw -"},
       "answers are missing, nothing was predicted, or with --fail-on-errors any error",
       "docs/clients.md",
       {}});

  cli::results_options results;
  auto* c_results = app.add_subcommand("results", "Print results");
  cli::add_common(c_results, results.common, "A JSON document a line");
  c_results->add_flag("--follow,-f", results.follow, "Go on with what comes");
  c_results->add_flag("--from-beginning", results.from_beginning, "With --follow: first what is there");
  c_results->add_flag("--dlq", results.dead_letters, "The dead-letter topic instead");
  cli::whole_number(c_results->add_option("--max", results.most, "Stop after so many"), 1, 1'000'000'000'000);
  cli::add_brokers(c_results, results.common);
  c_results->add_option("--topic", results.topic, "Another topic")->type_name("TOPIC");
  cli::end_help(c_results, {{"troupe results --follow --json", "troupe results --dlq --max 20"},
                            "the brokers or the topic can't be reached",
                            "docs/operations.md",
                            {}});

  cli::replay_options replay;
  auto* c_replay = app.add_subcommand("replay", "Send dead letters to the requests topic again, once each");
  cli::add_common(c_replay, replay.common,
                  "The summary as one JSON document; with --dry-run a letter a line first");
  cli::add_brokers(c_replay, replay.common);
  c_replay->add_option("--from", replay.from, "Topic of the letters (default: kafka.dead_letter_topic)")
      ->type_name("TOPIC");
  c_replay->add_option("--to", replay.to, "Topic to send to; it must exist (default: kafka.requests_topic)")
      ->type_name("TOPIC");
  cli::looked_at(
      cli::repeated(c_replay
                        ->add_option("--code", replay.codes,
                                     "Only letters of this code, such as model_failed; may be repeated")
                        ->type_name("CODE")),
      [](const std::string& code) { cli::check_codes({code}); });
  c_replay->add_option("--reason", replay.reason, "Only letters whose message has this text")
      ->type_name("TEXT");
  cli::looked_at(
      c_replay
          ->add_option("--since", replay.since,
                       "Only requests from this time on: 2024-11-15T05:53:20Z, or how long ago: 30m, 2h, 7d")
          ->type_name("TIME"),
      [](const std::string& time) { (void)cli::read_time("--since", time, 0); });
  cli::looked_at(
      c_replay->add_option("--until", replay.until, "Only requests before this time")->type_name("TIME"),
      [](const std::string& time) { (void)cli::read_time("--until", time, 0); });
  cli::whole_number(c_replay->add_option("--source-partition", replay.source_partition,
                                         "Only what was read from this partition"),
                    0, 1'000'000);
  cli::looked_at(c_replay
                     ->add_option("--source-offset", replay.source_offset,
                                  "Only what was read at this offset, or FIRST-LAST")
                     ->type_name("OFFSET"),
                 [](const std::string& range) { (void)cli::offsets_of(range); });
  cli::whole_number(c_replay->add_option("--limit", replay.limit, "Send at most so many"), 1,
                    1'000'000'000'000);
  cli::whole_number(c_replay
                        ->add_option("--max-replays", replay.max_replays,
                                     "Leave out what was sent so often already (header troupe.replays)")
                        ->capture_default_str(),
                    1, 1'000'000);
  c_replay->add_option("--group", replay.group, "Consumer group that remembers what was sent")
      ->capture_default_str()
      ->type_name("GROUP");
  c_replay->add_flag("--from-beginning", replay.from_beginning, "Also what the group has sent already");
  c_replay->add_flag("--any-record", replay.any_record,
                     "Also records that are no dead letters: without __connect.errors headers");
  c_replay->add_flag("--dry-run", replay.dry_run, "List what would be sent; send and remember nothing");
  cli::end_help(c_replay, {{"troupe replay --dry-run", "troupe replay --code model_failed --since 2h",
                            "troupe replay --source-partition 3 --source-offset 1200-1300 --limit 10 --json"},
                           "something was not delivered, or can't be remembered",
                           "docs/operations.md",
                           {"Corrected values are sent with: troupe load --raw FILE",
                            "With nothing to send the status is 0, and a line says what was looked at."}});

  cli::batch_options batch;
  auto* c_batch = app.add_subcommand("batch", "Score a file of requests here, on all cores");
  cli::add_common(c_batch, batch.common, "The summary as one JSON document");
  cli::add_models(c_batch, batch.common);
  c_batch->add_option("FILE", batch.input, "JSON lines, CSV or Parquet ('-': standard input)")->required();
  c_batch->add_option("--output,-o", batch.output, "Results, JSON lines ('-': standard output)")
      ->capture_default_str()
      ->type_name("FILE");
  c_batch
      ->add_option("--model", batch.model,
                   "Who answers (default: models.default, the only one, or diabetes-rf-model)")
      ->type_name("NAME");
  c_batch->add_option("--version", batch.version, "Its version (default: the production version)")
      ->type_name("VERSION");
  c_batch->add_option("--format", batch.format, "jsonl, csv or parquet (default: by FILE, else jsonl)")
      ->type_name("FORMAT");
  cli::whole_number(c_batch->add_option("--threads", batch.threads, "Threads that score (default: cores)"), 1,
                    1024);
  c_batch->add_flag("--restart", batch.restart, "Begin anew: no checkpoint, and replace the results");
  c_batch->add_flag("--allow-errors", batch.allow_errors, "Exit with 0 also when lines ended as errors");
  cli::end_help(
      c_batch,
      {{"troupe batch --model diabetes-rf-model patients.jsonl --output predictions.jsonl",
        "troupe batch --model iris-classifier flowers.csv -o - | jq .prediction",
        "troupe batch --model churn customers.parquet -o churn.jsonl     (needs python3 with pyarrow)"},
       "lines ended as errors (not with --allow-errors), or it was interrupted",
       "docs/batches.md",
       {"What was interrupted goes on where it was when the same command runs again."}});

  cli::models_command models;
  cli::add_models_commands(app, models);

  cli::fault_command fault;
  cli::add_fault_commands(app, fault);
  cli::models_options tree;
  auto* c_tree =
      app.add_subcommand("tree", "The supervision tree of a running node: who runs, restarts, budgets");
  cli::add_common(c_tree, tree.common);
  cli::add_node(c_tree, tree.url, tree.token_file);
  cli::end_help(c_tree, {{"troupe tree --url http://node-3:8000 --token-file /etc/troupe/admin.token"},
                         "the node does not answer, or refuses",
                         "docs/operations.md",
                         {}});

  cli::health_options health;
  auto* c_health = app.add_subcommand("health", "Whether a running node takes requests: status 0 or 1");
  cli::add_common(c_health, health.common);
  c_health
      ->add_option("--url", health.url,
                   "The node's metrics address, http://host:8000 (default: metrics.port here)")
      ->type_name("URL");
  c_health->add_flag("--alive", health.alive, "Only whether the process answers; it may not be ready");
  cli::end_help(c_health, {{"troupe health", "troupe health --url http://node-3:8000 --json"},
                           "not ready, with the reasons, or nobody answers",
                           "docs/operations.md",
                           {}});

  cli::check_options check;
  auto* c_check = app.add_subcommand("check", "Validate the configuration and reach everything it names");
  cli::add_common(c_check, check.common);
  cli::add_brokers(c_check, check.common);
  cli::add_models(c_check, check.common);
  cli::end_help(c_check, {{"troupe check --config /etc/troupe/troupe.yaml"},
                          "something can't be reached or would not work",
                          "docs/operations.md",
                          {}});

  cli::config_options config;
  auto* c_config =
      app.add_subcommand("config", "Print the effective configuration with the origin of each value");
  cli::add_common(c_config, config.common);
  c_config->add_flag("--schema", config.schema, "The file's JSON Schema instead");
  c_config->add_flag("--markdown", config.markdown, "The reference of all options instead");
  cli::end_help(
      c_config,
      {{"troupe config --set cache.mode=on"}, "an unexpected failure", "docs/configuration.md", {}});

  bool version_json = false;
  auto* c_version = app.add_subcommand("version", "Print the version");
  c_version->add_flag("--json", version_json, "As JSON");
  cli::end_help(c_version, {{"troupe version --json"}, "an unexpected failure", "README.md", {}});

  cli::key_options key;
  auto* c_key = app.add_subcommand("key", "Make an API key and its entry for auth.keys_file");
  c_key->add_option("NAME", key.name, "Name of the client")->required();
  c_key->add_flag("--json", key.json, "As JSON");
  cli::end_help(c_key, {{"troupe key billing"}, "an unexpected failure", "docs/security.md", {}});

  auto* c_engine = app.add_subcommand("engine", "Score for a node; started by serve");
  c_engine->group("");  // not in the list of commands

  std::string wrong;
  try {
    app.parse(argc, argv);
    wrong = wrong_options(app, nullptr, argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    if (argc == 1) std::fprintf(stderr, "%s\n", app.help().c_str());
    wrong = wrong_options(app, &e, argc, argv);
  }
  const bool document = promises_document(app, argc, argv);
  if (!wrong.empty()) {
    if (document) cli::print_error_document(wrong);
    return refuse(app, wrong);
  }
  load.load.follow = !no_wait;
  load.features_given = features->count() > 0;
  load.door.requests_given = records->count() > 0;
  try {
    if (*c_serve) return cli::serve(serve);
    if (*c_demo) return cli::demo(demo);
    if (*c_load) return cli::load(load);
    if (*c_results) return cli::results(results);
    if (*c_replay) return cli::replay(replay);
    if (*c_batch) return cli::batch(batch);
    if (models.run) return models.run();
    if (fault.run) return fault.run();
    if (*c_tree) return cli::show_tree(tree);
    if (*c_health) return cli::health(health);
    if (*c_check) return cli::check(check);
    if (*c_config) return cli::show_config(config);
    if (*c_key) return cli::make_key(key);
    if (*c_engine) return cli::engine();
    return cli::show_version(version_json);
  } catch (const std::exception& e) {
    const auto* property = dynamic_cast<const kafka::property_error*>(&e);
    const std::string text = property ? cli::located(*property) : e.what();
    if (document) cli::print_error_document(text);
    cli::tell_error(text);
    const bool usage = property || dynamic_cast<const config::config_error*>(&e) ||
                       dynamic_cast<const startup_error*>(&e) || dynamic_cast<const cli::usage_error*>(&e);
    return usage ? cli::bad_usage : cli::failed;
  }
}
