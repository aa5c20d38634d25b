#include "cli/fault/options.hpp"

#include <CLI/CLI.hpp>

#include "cli/command_line.hpp"
#include "runtime/faults/fault.hpp"

namespace troupe::cli {

void add_fault_commands(CLI::App& app, fault_command& into) {
  fault_options& o = into.options;
  auto* c_fault = app.add_subcommand("fault", "Inject faults into a running node, and watch it recover");
  c_fault->require_subcommand(1);
  const auto command = [&](const char* name, const char* help, int (*run)(const fault_options&)) {
    auto* c = c_fault->add_subcommand(name, help);
    add_common(c, o.common);
    c->add_option("--url", o.url, "The node's admin address, http://host:8000 (default: metrics.port here)");
    c->add_option("--token-file", o.token_file, "File with admin.token (default: as configured)");
    c->callback([&into, run] { into.run = [&into, run] { return run(into.options); }; });
    return c;
  };
  auto* c_list = command("list", "Faults that are active or ended lately", fault_list);

  auto* c_inject = command("inject", "Begin a fault; it ends by itself", fault_inject);
  std::string names = "Name: ";
  for (const auto& k : faults::kinds())
    names += (&k == faults::kinds().data() ? "" : ", ") + std::string(k.name);
  c_inject->add_option("NAME", o.name, names)->required();
  c_inject->add_option("--duration", o.duration, "How long it lasts (default: 30s)")->type_name("DURATION");
  c_inject->add_option("--actor", o.actor, "Its name in /admin/tree, or random");
  c_inject->add_option("--model", o.model, "Only this model");
  c_inject->add_option("--version", o.version, "Only this version of it");
  c_inject->add_option("--probability", o.probability, "Of a strike each time, above 0 to 1")
      ->type_name("SHARE");
  c_inject->add_option("--delay", o.delay, "What is late is late by this")->type_name("DURATION");
  c_inject->add_option("--every", o.every, "Pause between two strikes")->type_name("DURATION");
  c_inject->add_option("--shift", o.shift, "Of the clock, such as 1h or -5m")->type_name("DURATION");
  c_inject->add_option("--size", o.size, "Of memory, such as 256MiB")->type_name("SIZE");
  const char* refuses = "the node does not answer, or refuses";
  const char* page = "docs/faults.md";
  end_help(c_list, {{"troupe fault list --url http://node:8000"}, refuses, page, {}});
  end_help(c_inject,
           {{"troupe fault inject redis_cut --duration 10s",
             "troupe fault inject shard_delay --model churn --probability 0.1 --delay 200ms --duration 30s",
             "troupe fault inject actor_crash --actor random --url http://node:8000"},
            refuses,
            page,
            {}});

  auto* c_stop = command("stop", "End a fault early", fault_stop);
  c_stop->add_option("ID", o.id, "As inject printed it");
  c_stop->add_flag("--all", o.all, "All of them");

  end_help(c_stop, {{"troupe fault stop 2", "troupe fault stop --all"}, refuses, page, {}});

  auto* c_run = command("run", "A file of faults, one after the other, against a steady state", fault_run);
  c_run->add_option("FILE", o.file, "Scenario, YAML ('-': standard input)")->required();
  end_help(c_run,
           {{"troupe fault run config/faults/redis_away.yaml --url http://node:8000"},
            "a step did not pass",
            page,
            {"With --json: one document in any case, also of a run that could not be; see its outcome."},
            "it could not be run, or not to its end: the node is out of reach, refuses or is not steady; "
            "interrupted"});
  end_help(c_fault, {{"troupe fault inject redis_cut --duration 10s",
                      "troupe fault run config/faults/redis_away.yaml --url http://node:8000"},
                     "the node refuses, or a scenario did not pass",
                     page,
                     {"The node needs faults.enabled (and a restart, where it was off) and admin.token."},
                     "a scenario could not be run"});
}

}  // namespace troupe::cli
