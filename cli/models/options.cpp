#include "cli/models/options.hpp"

#include <CLI/CLI.hpp>

#include "cli/command_line.hpp"

namespace troupe::cli {

void add_models_commands(CLI::App& app, models_command& into) {
  models_options& models = into.options;
  auto* c_models =
      app.add_subcommand("models", "Versions of a running node and of the MLflow registry; explanations");
  c_models->require_subcommand(1);
  const char* refuses = "the node does not answer, or refuses";
  const auto model_command = [&](const char* name, const char* help, int (*run)(const models_options&),
                                 bool needs_model, bool needs_version, bool takes_version,
                                 const char* example) {
    auto* c = c_models->add_subcommand(name, help);
    end_help(c, {{example}, refuses, "docs/rollout.md", {}});
    add_common(c, models.common);
    add_node(c, models.url, models.token_file);
    auto* model = c->add_option("MODEL", models.model, "Model");
    if (needs_model) model->required();
    if (takes_version) {
      auto* version = c->add_option("VERSION", models.version, "Version, 3 or v3");
      if (needs_version) version->required();
    }
    c->callback([&into, run] { into.run = [&into, run] { return run(into.options); }; });
    return c;
  };
  model_command("status", "Versions, rollouts, and how they do", models_status, false, false, false,
                "troupe models status --url http://node:8000");
  model_command("compare", "The two versions of a rollout side by side", models_compare, true, false, false,
                "troupe models compare churn");
  auto* c_load = model_command("load", "Load a version beside the others", models_load, true, true, true,
                               "troupe models load churn 4");
  whole_number(
      c_load->add_option("--wait", models.wait_s, "Seconds to wait until it is loaded; 0: do not wait")
          ->capture_default_str(),
      0, 86'400, "SECONDS");
  model_command("unload", "Unload a version once its requests are answered", models_unload, true, true, true,
                "troupe models unload churn 3");
  model_command("promote", "Let a version answer (default: that of the rollout)", models_promote, true, false,
                true, "troupe models promote churn 4 --url http://node:8000 --token-file token");
  model_command("rollback", "Back to the version before", models_rollback, true, false, false,
                "troupe models rollback churn");
  whole_number(
      model_command("sync", "Ask the registry at once (default: every mlflow.poll_interval)", models_sync,
                    false, false, false, "troupe models sync --wait 120")
          ->add_option("--wait", models.wait_s, "Seconds to wait until what it names answers; 0: do not wait")
          ->capture_default_str(),
      0, 86'400, "SECONDS");

  const auto registry_command = [&](const char* name, const char* help, int (*run)(const models_options&),
                                    const char* model, const char* example) {
    auto* c = c_models->add_subcommand(name, help);
    add_common(c, models.common);
    end_help(c, {{example}, "the registry does not answer, or it can't be done", "docs/registry.md", {}});
    if (model)
      c->add_option(model, models.model, "models:/NAME/VERSION, /STAGE, /latest or models:/NAME@ALIAS")
          ->required();
    c->callback([&into, run] { into.run = [&into, run] { return run(into.options); }; });
    return c;
  };
  registry_command("list", "The registry's versions of a model, or of those that mlflow.models names",
                   models_list, nullptr, "troupe models list churn --set mlflow.uri=http://mlflow:5000")
      ->add_option("MODEL", models.model, "Name");
  registry_command("show", "What a reference of the registry stands for, and its files", models_show,
                   "REFERENCE",
                   "troupe models show models:/churn@champion --set mlflow.uri=http://mlflow:5000");
  registry_command(
      "fetch", "Fetch what mlflow.models names into mlflow.cache_directory", models_fetch, nullptr,
      "troupe models fetch --set mlflow.uri=http://mlflow:5000 --set mlflow.models=models:/churn@champion");
  auto* c_import = registry_command(
      "import", "Convert a Python model of the registry to what Troupe reads; runs its pickle with python3",
      models_import, "REFERENCE", "troupe models import models:/churn/1 --register");
  c_import->add_flag("--register", models.add_to, "Add the result to the registry, as a new version");
  c_import->add_option("--output", models.output, "Folder to write the model file to")->type_name("FOLDER");
  c_import
      ->add_option("--rows", models.rows, "CSV of rows to compare on (default: the version's input example)")
      ->type_name("FILE");
  auto* c_score = registry_command("score", "What the version in a folder predicts, without a broker",
                                   models_score, nullptr, "");
  end_help(c_score, {{"troupe models score models/iris-classifier/1 rows.jsonl"},
                     "the model or a row is refused",
                     "docs/models.md",
                     {}});
  c_score->add_option("FOLDER", models.model, "Folder of a version")->required();
  c_score->add_option("FILE", models.rows, "Rows, a JSON list of numbers a line ('-': standard input)")
      ->required();

  explain_options& explain = into.explain;
  auto* c_explain = c_models->add_subcommand("explain", "How much each feature adds to a prediction");
  add_common(c_explain, explain.common);
  add_models(c_explain, explain.common);
  c_explain->add_option("--model", explain.model,
                        "Its name (default: models.default, the only one, or diabetes-rf-model)");
  c_explain->add_option("--version", explain.version, "Its version (default: the production version)");
  c_explain->add_option("--features", explain.features,
                        "One row, or a list of rows: JSON lists of numbers, or objects by feature name");
  c_explain->add_option("FILE", explain.file, "Rows, JSON a line ('-': standard input)");
  c_explain->callback([&into] { into.run = [&into] { return models_explain(into.explain); }; });
  end_help(
      c_explain,
      {{"troupe models explain --model diabetes-linear --features '[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, "
        "-0.04, 0, 0.02, -0.02]'"},
       "a row can't be explained",
       "docs/models.md",
       {}});
  end_help(c_models, {{"troupe models status",
                       "troupe models promote churn 4 --url http://node:8000 --token-file token"},
                      "the node or the registry refuses",
                      "docs/rollout.md, docs/registry.md, docs/models.md",
                      {}});
}

}  // namespace troupe::cli
