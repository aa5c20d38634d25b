#include "cli/fault/options.hpp"

#include <CLI/CLI.hpp>

#include "cli/command_line.hpp"
#include "runtime/config/units.hpp"
#include "runtime/faults/fault.hpp"

namespace troupe::cli {

void add_fault_commands(CLI::App& app, fault_command& into) {
  fault_options& o = into.options;
  auto* c_fault = app.add_subcommand("fault", "Inject faults into a running node, and watch it recover");
  c_fault->require_subcommand(1);
  const auto command = [&](const char* name, const char* help, int (*run)(const fault_options&)) {
    auto* c = c_fault->add_subcommand(name, help);
    add_common(c, o.common);
    add_node(c, o.url, o.token_file);
    c->callback([&into, run] { into.run = [&into, run] { return run(into.options); }; });
    return c;
  };
  auto* c_list = command("list", "Faults that are active or ended lately", fault_list);

  auto* c_inject = command("inject", "Begin a fault; it ends by itself", fault_inject);
  std::string names = "Name: ";
  for (const auto& k : faults::kinds())
    names += (&k == faults::kinds().data() ? "" : ", ") + std::string(k.name);
  c_inject->add_option("NAME", o.name, names)->required();
  const faults::fault usual;
  const auto usually = [](std::int64_t duration) {
    return " (default: " + config::format_duration(duration) + ")";
  };
  c_inject->add_option("--duration", o.duration, "How long it lasts" + usually(usual.duration))
      ->type_name("DURATION");
  c_inject->add_option("--actor", o.actor, "actor_crash: its name in troupe tree, or random; needed")
      ->type_name("NAME");
  c_inject->add_option("--model", o.model, "Only this model (default: all)")->type_name("NAME");
  c_inject->add_option("--version", o.version, "Only this version of it (default: all)")
      ->type_name("VERSION");
  c_inject->add_option("--probability", o.probability, "Of a strike each time, above 0 to 1 (default: 1)")
      ->type_name("SHARE");
  c_inject->add_option("--delay", o.delay, "What is late is late by this" + usually(usual.delay))
      ->type_name("DURATION");
  c_inject
      ->add_option("--every", o.every,
                   "Pause between two strikes (default: actor_crash strikes once, rebalance_storm every " +
                       config::format_duration(faults::usual_storm) + ")")
      ->type_name("DURATION");
  c_inject->add_option("--shift", o.shift, "clock_jump: of the clock, such as 1h or -5m; needed")
      ->type_name("DURATION");
  c_inject->add_option("--size", o.size, "memory_pressure: such as 256MiB; needed")->type_name("SIZE");
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
