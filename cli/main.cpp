// troupe: the program. Options become plain structs here; each command has a file of its own.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "runtime/config/nearest.hpp"
#include "runtime/kafka/client.hpp"

namespace {

using namespace troupe;

void add_common(CLI::App* c, cli::common_options& o,
                const char* json = "One machine-readable document on stdout") {
  c->add_option("--config", o.config,
                "Configuration file (default: config/troupe.yaml, else /etc/troupe/troupe.yaml)");
  c->add_option("--set", o.set, "section.option=value; wins over file and environment; may be repeated")
      ->allow_extra_args(false);
  c->add_flag("--json", o.json, json);
}

void add_brokers(CLI::App* c, cli::common_options& o) {
  c->add_option("--brokers", o.brokers, "Bootstrap servers, host:port,... (kafka.brokers)");
}

void add_models(CLI::App* c, cli::common_options& o) {
  c->add_option("--models", o.models, "Directory of models (models.directory)");
}

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
    if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr) return error.what();
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
      word.empty() ? std::string() : config::nearest(word, known, std::min<std::size_t>(2, word.size() - 1));
  return what + word + (near.empty() ? "" : " (did you mean " + near + "?)");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Troupe: an actor runtime for model inference. Requests come in from Kafka, supervised actors score "
      "them\n"
      "under deadlines, results go out; nothing is lost."};
  app.require_subcommand(1);
  app.footer("Begin with:  troupe demo\nEach command:  troupe COMMAND --help");

  cli::serve_options serve;
  auto* c_serve = app.add_subcommand("serve", "Run a node");
  add_common(c_serve, serve.common, "Log as JSON lines, also on a terminal");
  add_brokers(c_serve, serve.common);
  add_models(c_serve, serve.common);
  c_serve->footer(
      "Example:  troupe serve --brokers broker:9092 --models models\n"
      "SIGTERM or Ctrl-C drains; a second one stops at once.");

  cli::demo_options demo;
  auto* c_demo =
      app.add_subcommand("demo", "The whole road on a broker inside the process; nothing else is needed");
  add_common(c_demo, demo.common);
  c_demo->add_option("--records", demo.records, "Records of the first part, as fast as it goes")
      ->check(CLI::Range(1, 100'000'000));
  c_demo->add_option("--rate", demo.rate, "Records/s of the second part, which measures latency")
      ->check(CLI::Range(1.0, 1e6));
  c_demo->add_option("--seconds", demo.seconds, "Length of the second part")->check(CLI::Range(0.1, 3600.0));
  add_models(c_demo, demo.common);
  c_demo->footer("Example:  troupe demo --json");

  cli::load_command_options load;
  auto* c_load = app.add_subcommand("load", "Send requests to Kafka, follow their answers, report");
  add_common(c_load, load.common);
  bool no_wait = false;
  add_brokers(c_load, load.common);
  c_load->add_option("--requests-topic", load.requests_topic,
                     "Topic to send to (default: kafka.requests_topic)");
  c_load->add_option("--results-topic", load.results_topic, "Topic to follow (default: kafka.results_topic)");
  c_load->add_option("--dead-letter-topic", load.dead_letter_topic,
                     "Topic to follow (default: kafka.dead_letter_topic)");
  c_load->add_option("--records,-n", load.load.records, "How many")
      ->capture_default_str()
      ->check(CLI::Range(1LL, 1'000'000'000LL));
  c_load->add_option("--rate", load.load.rate, "Records/s, open loop; without it a closed loop over --window")
      ->check(CLI::Range(0.1, 1e7));
  c_load->add_option("--window", load.load.window, "Closed loop: records sent and not yet answered")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000'000));
  c_load->add_option("--model", load.load.model, "Model to ask for");
  c_load->add_option("--model-version", load.load.model_version, "Version to ask for");
  c_load->add_option("--priority", load.load.priority, "1 is most urgent")->check(CLI::Range(0, 1000));
  c_load->add_option("--timeout-ms", load.load.timeout_ms, "Expiry of each request")
      ->check(CLI::Range(0LL, 1'000'000'000LL));
  c_load->add_option("--distinct", load.load.distinct, "Different rows of features")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000'000));
  c_load->add_option("--metrics", load.metrics,
                     "The node's metrics address, http://host:8000, for the cache's hit ratio");
  c_load->add_option("--features", load.load.features, "Numbers in a generated row")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000));
  c_load->add_option("--features-file", load.rows_file, "Rows to send: JSON a line, or CSV numbers");
  c_load->add_flag("--keyed", load.load.keyed, "The request id is the record's key");
  c_load->add_option("--run-id", load.load.run_id, "Prefix of the request ids (default: random)");
  c_load
      ->add_option("--wait-for", load.wait_for_s,
                   "Time without any answer until the rest counts as lost, e.g. 30s")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, double>{{"ms", 0.001}, {"s", 1}, {"m", 60}, {"h", 3600}},
          CLI::AsNumberWithUnit::CASE_SENSITIVE));
  c_load->add_flag("--no-wait", no_wait, "Send only");
  c_load->add_option("--raw", load.raw_file,
                     "Send the records of this file of JSON lines as they are ('-': standard input)");
  c_load->footer(
      "Examples:  troupe load --records 100000 --rate 5000\n"
      "           troupe load --records 1000000 --window 50000 --json\n"
      "           echo '{\"key\":\"a\",\"value\":\"{}\",\"headers\":{\"model\":\"iris-classifier\"}}' | "
      "troupe load --raw -");

  cli::results_options results;
  auto* c_results = app.add_subcommand("results", "Print results");
  add_common(c_results, results.common, "A JSON document a line");
  c_results->add_flag("--follow,-f", results.follow, "Go on with what comes");
  c_results->add_flag("--from-beginning", results.from_beginning, "With --follow: first what is there");
  c_results->add_flag("--dlq", results.dead_letters, "The dead-letter topic instead");
  c_results->add_option("--max", results.most, "Stop after so many")
      ->check(CLI::Range(1LL, 1'000'000'000'000LL));
  add_brokers(c_results, results.common);
  c_results->add_option("--topic", results.topic, "Another topic");
  c_results->footer("Example:  troupe results --follow --json");

  cli::models_options models;
  auto* c_models =
      app.add_subcommand("models", "Versions of a running node and of the MLflow registry; explanations");
  c_models->require_subcommand(1);
  std::map<CLI::App*, int (*)(const cli::models_options&)> model_commands;
  const auto model_command = [&](const char* name, const char* help, int (*run)(const cli::models_options&),
                                 bool needs_model, bool needs_version, bool takes_version) {
    auto* c = c_models->add_subcommand(name, help);
    add_common(c, models.common);
    c->add_option("--url", models.url,
                  "The node's admin address, http://host:8000 (default: metrics.port here)");
    c->add_option("--token-file", models.token_file, "File with admin.token (default: as configured)");
    auto* model = c->add_option("model", models.model, "Model");
    if (needs_model) model->required();
    if (takes_version) {
      auto* version = c->add_option("version", models.version, "Version, 3 or v3");
      if (needs_version) version->required();
    }
    model_commands[c] = run;
    return c;
  };
  model_command("status", "Versions, rollouts, and how they do", cli::models_status, false, false, false);
  model_command("compare", "The two versions of a rollout side by side", cli::models_compare, true, false,
                false);
  model_command("load", "Load a version beside the others", cli::models_load, true, true, true)
      ->add_option("--wait", models.wait_s, "Seconds to wait until it is loaded; 0: do not wait")
      ->capture_default_str();
  model_command("unload", "Unload a version once its requests are answered", cli::models_unload, true, true,
                true);
  model_command("promote", "Let a version answer (default: that of the rollout)", cli::models_promote, true,
                false, true);
  model_command("rollback", "Back to the version before", cli::models_rollback, true, false, false);
  model_command("sync", "Ask the registry at once (default: every mlflow.poll_interval)", cli::models_sync,
                false, false, false)
      ->add_option("--wait", models.wait_s, "Seconds to wait until what it names answers; 0: do not wait")
      ->capture_default_str();
  const auto registry_command = [&](const char* name, const char* help,
                                    int (*run)(const cli::models_options&), const char* model) {
    auto* c = c_models->add_subcommand(name, help);
    add_common(c, models.common);
    if (model)
      c->add_option(model, models.model, "models:/NAME/VERSION, /STAGE, /latest or models:/NAME@ALIAS")
          ->required();
    model_commands[c] = run;
    return c;
  };
  registry_command("list", "The registry's versions of a model, or of those that mlflow.models names",
                   cli::models_list, nullptr)
      ->add_option("model", models.model, "Name");
  registry_command("show", "What a reference of the registry stands for, and its files", cli::models_show,
                   "reference")
      ->footer("Example:  troupe models show models:/churn@champion --set mlflow.uri=http://mlflow:5000");
  registry_command("fetch", "Fetch what mlflow.models names into mlflow.cache_directory", cli::models_fetch,
                   nullptr);
  auto* c_import = registry_command(
      "import", "Convert a Python model of the registry to what Troupe reads; runs its pickle with python3",
      cli::models_import, "reference");
  c_import->add_flag("--register", models.add_to, "Add the result to the registry, as a new version");
  c_import->add_option("--output", models.output, "Folder to write the model file to");
  c_import->add_option("--rows", models.rows,
                       "CSV of rows to compare on (default: the version's input example)");
  c_import->footer("Example:  troupe models import models:/churn/1 --register");
  auto* c_score =
      c_models->add_subcommand("score", "What the version in a folder predicts, without a broker");
  add_common(c_score, models.common);
  c_score->add_option("folder", models.model, "Folder of a version")->required();
  c_score->add_option("FILE", models.rows, "Rows, a JSON list of numbers a line ('-': standard input)")
      ->required();
  model_commands[c_score] = cli::models_score;
  cli::explain_options explain;
  auto* c_explain = c_models->add_subcommand("explain", "How much each feature adds to a prediction");
  add_common(c_explain, explain.common);
  add_models(c_explain, explain.common);
  c_explain->add_option("--model", explain.model, "Its name (default: the default model)");
  c_explain->add_option("--version", explain.version, "Its version (default: the production version)");
  c_explain->add_option("--features", explain.features,
                        "One row, or a list of rows: JSON lists of numbers, or objects by feature name");
  c_explain->add_option("FILE", explain.file, "Rows, JSON a line ('-': standard input)");
  c_explain->footer(
      "Example:  troupe models explain --model diabetes-linear --features '[0.04, 0.05, 0.06, 0.02, -0.04, "
      "-0.03, -0.04, 0, 0.02, -0.02]'");
  c_models->footer("Example:  troupe models promote churn 4 --url http://node:8000 --token-file token");

  cli::check_options check;
  auto* c_check = app.add_subcommand("check", "Validate the configuration and reach everything it names");
  add_common(c_check, check.common);
  add_brokers(c_check, check.common);
  add_models(c_check, check.common);
  c_check->footer("Example:  troupe check --config /etc/troupe/troupe.yaml");

  cli::config_options config;
  auto* c_config =
      app.add_subcommand("config", "Print the effective configuration with the origin of each value");
  add_common(c_config, config.common);
  c_config->add_flag("--schema", config.schema, "The file's JSON Schema instead");
  c_config->add_flag("--markdown", config.markdown, "The reference of all options instead");
  c_config->footer("Example:  troupe config --set cache.mode=on");

  bool version_json = false;
  auto* c_version = app.add_subcommand("version", "Print the version");
  c_version->add_flag("--json", version_json, "As JSON");
  c_version->footer("Example:  troupe version --json");

  auto* c_engine = app.add_subcommand("engine", "Score for a node; started by serve");
  c_engine->group("");  // not in the list of commands

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    std::string command;
    for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
      at = at->get_subcommands().front();
      command += at->get_name() + " ";
    }
    std::fprintf(stderr, "troupe: %s\nTry: troupe %s--help\n", complaint(app, e, argc, argv).c_str(),
                 command.c_str());
    return cli::bad_usage;
  }
  load.load.follow = !no_wait;
  try {
    if (*c_serve) return cli::serve(serve);
    if (*c_demo) return cli::demo(demo);
    if (*c_load) return cli::load(load);
    if (*c_results) return cli::results(results);
    if (*c_models)
      for (const auto& [c, run] : model_commands)
        if (*c) return run(models);
    if (*c_explain) return cli::models_explain(explain);
    if (*c_check) return cli::check(check);
    if (*c_config) return cli::show_config(config);
    if (*c_engine) return cli::engine();
    return cli::show_version(version_json);
  } catch (const config::config_error& e) {
    std::fprintf(stderr, "troupe: %s\n", e.what());
    return cli::bad_usage;
  } catch (const startup_error& e) {
    std::fprintf(stderr, "troupe: %s\n", e.what());
    return cli::bad_usage;
  } catch (const kafka::property_error& e) {
    std::fprintf(stderr, "troupe: %s\n", e.what());
    return cli::bad_usage;
  } catch (const cli::usage_error& e) {
    std::fprintf(stderr, "troupe: %s\n", e.what());
    return cli::bad_usage;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "troupe: %s\n", e.what());
    return cli::failed;
  }
}
