// troupe: the program. Options become plain structs here; each command has a file of its own.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "cli/nearest.hpp"
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

/// What is wrong with the command line, in one line; names what was probably meant.
std::string complaint(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  std::vector<std::string> known;
  std::string word;
  std::string what;
  if (app.get_subcommands().empty()) {
    if (argc < 2) return "which command?";
    for (const auto* command : app.get_subcommands({})) known.push_back(command->get_name());
    word = argv[1];
    what = word.starts_with("-") ? "unknown option " : "unknown command ";
  } else {
    if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr) return error.what();
    for (const auto* option : app.get_subcommands().front()->get_options())
      for (const auto& name : option->get_lnames()) known.push_back("--" + name);
    std::vector<std::string> extras = app.remaining(true);
    // An unknown option leaves its argument behind too, before it.
    for (const auto& one : extras)
      if (word.empty() && one.starts_with("-")) word = one.substr(0, one.find('='));
    if (word.empty() && !extras.empty()) word = extras.back();
    what = word.starts_with("-") ? "unknown option " : "unexpected argument ";
  }
  const std::string near = cli::nearest(word, known);
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

  cli::check_options check;
  auto* c_check = app.add_subcommand("check", "Validate the configuration and reach everything it names");
  add_common(c_check, check.common);
  add_brokers(c_check, check.common);
  add_models(c_check, check.common);
  c_check->footer("Example:  troupe check --config /etc/troupe/troupe.yaml");

  cli::models_options models;
  auto* c_models = app.add_subcommand("models", "Models of the MLflow registry: list, show, sync, import");
  c_models->require_subcommand(1);
  auto* c_list =
      c_models->add_subcommand("list", "Versions of a model, or of those that mlflow.models names");
  add_common(c_list, models.common);
  c_list->add_option("name", models.model, "Name of a model");
  c_list->footer("Example:  troupe models list diabetes-rf-model --set mlflow.uri=http://mlflow:5000");
  auto* c_show = c_models->add_subcommand("show", "What a reference stands for, and its files");
  add_common(c_show, models.common);
  c_show->add_option("reference", models.model, "models:/NAME/VERSION, /STAGE, /latest or models:/NAME@ALIAS")
      ->required();
  c_show->footer("Example:  troupe models show models:/diabetes-rf-model@champion");
  auto* c_sync =
      c_models->add_subcommand("sync", "Fetch what mlflow.models names into mlflow.cache_directory");
  add_common(c_sync, models.common);
  c_sync->footer("Example:  troupe models sync --json");
  auto* c_import = c_models->add_subcommand(
      "import",
      "Convert a Python model (scikit-learn, XGBoost, LightGBM) to ONNX; runs its pickle with python3");
  add_common(c_import, models.common);
  c_import->add_option("reference", models.model, "models:/NAME/VERSION")->required();
  c_import->add_flag("--register", models.add_to, "Add the result to the registry, beside the original");
  c_import->add_option("--output", models.output, "Folder to write model.onnx to");
  c_import->add_option("--rows", models.rows,
                       "CSV of rows to compare on (default: the version's input example)");
  c_import->footer("Example:  troupe models import models:/diabetes-rf-model/1 --register");

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

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    const std::string command =
        app.get_subcommands().empty() ? "" : app.get_subcommands().front()->get_name() + " ";
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
    if (*c_check) return cli::check(check);
    if (*c_list) return cli::models_list(models);
    if (*c_show) return cli::models_show(models);
    if (*c_sync) return cli::models_sync(models);
    if (*c_import) return cli::models_import(models);
    if (*c_config) return cli::show_config(config);
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
