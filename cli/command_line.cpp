#include "cli/command_line.hpp"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <system_error>

namespace troupe::cli {
namespace {

template <class Number>
bool read_all_of(const std::string& text, Number& into) {
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, into);
  return error == std::errc() && stopped == end;
}

std::string shown(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", v);
  return text;
}

usage_mistakes& noted() {
  static usage_mistakes all;
  return all;
}

/// `read` gives what is wrong with a value, and may make another one of it; of a wrong one `instead` is left,
/// so that the options behind it are read as well. What is empty is told elsewhere.
CLI::Option* reading(CLI::Option* option, std::function<std::string(std::string&)> read,
                     std::string instead) {
  return option->transform(CLI::Validator(
      [option, read = std::move(read), instead = std::move(instead)](std::string& text) -> std::string {
        if (text.empty()) return {};
        const std::string given = text;
        const std::string wrong = read(text);
        if (wrong.empty()) return {};
        noted().add(option->get_name() + " " + given + ": " + wrong);
        text = instead;
        return {};
      },
      ""));
}

}  // namespace

const std::string& option_mistakes() {
  return noted().lines();
}

CLI::Option* looked_at(CLI::Option* option, std::function<void(const std::string& value)> look) {
  return option->transform(CLI::Validator(
      [look = std::move(look)](std::string& text) -> std::string {
        if (!text.empty()) noted().attempt([&] { look(text); });
        return {};
      },
      ""));
}

CLI::Option* repeated(CLI::Option* option) {
  return option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

std::string whole_number_complaint(const std::string& text, std::int64_t least, std::int64_t most) {
  std::int64_t n = 0;
  if (read_all_of(text, n) && n >= least && n <= most) return "";
  return "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
}

std::string number_complaint(const std::string& text, double least, double most) {
  double n = 0;
  if (read_all_of(text, n) && std::isfinite(n) && n >= least && n <= most) return "";
  return "a number from " + shown(least) + " to " + shown(most);
}

double seconds_of(const std::string& text) {
  const std::size_t unit_at = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string unit = text.substr(unit_at);
  double n = 0;
  if (!read_all_of(text.substr(0, unit_at), n) || !std::isfinite(n)) return -1;
  if (unit.empty() || unit == "s") return n;
  if (unit == "ms") return n / 1000;
  if (unit == "m") return n * 60;
  if (unit == "h") return n * 3600;
  return -1;
}

CLI::Option* whole_number(CLI::Option* option, std::int64_t least, std::int64_t most, const char* type) {
  return reading(
      option->type_name(type),
      [least, most](const std::string& text) { return whole_number_complaint(text, least, most); },
      std::to_string(least));
}

CLI::Option* finite_number(CLI::Option* option, double least, double most, const char* type) {
  return reading(
      option->type_name(type),
      [least, most](const std::string& text) { return number_complaint(text, least, most); }, shown(least));
}

CLI::Option* duration(CLI::Option* option) {
  const auto read = [](std::string& text) -> std::string {
    const double s = seconds_of(text);
    if (s < 0) return "a time such as 500ms, 30s, 2m or 1h";
    if (s > 1e9) return "a time of at most 1000000000 s";
    text = shown(s);
    return {};
  };
  return reading(option->type_name("DURATION"), read, "1");
}

void end_help(CLI::App* c, const ending& with) {
  std::string text;
  for (const char* example : with.examples)
    text += (text.empty() ? (with.examples.size() > 1 ? "Examples:  " : "Example:  ") : "\n           ") +
            std::string(example);
  for (const char* note : with.notes) text += "\n" + std::string(note);
  text += "\nExit status:  0 done; 1 " + std::string(with.failed) +
          "; 2 the command line, a file that it names or the configuration is wrong";
  if (with.not_run) text += "; 3 " + std::string(with.not_run);
  c->footer(text + "\nMore:  " + with.page);
}

void add_common(CLI::App* c, common_options& o, const char* json) {
  c->add_option("--config", o.config,
                "Configuration file (default: config/troupe.yaml, else /etc/troupe/troupe.yaml)")
      ->type_name("FILE");
  repeated(
      c->add_option("--set", o.set, "section.option=value; wins over file and environment; may be repeated")
          ->type_name("KEY=VALUE"));
  c->add_flag("--json", o.json, json);
}

void add_brokers(CLI::App* c, common_options& o) {
  c->add_option("--brokers", o.brokers, "Bootstrap servers, host:port,... (kafka.brokers)")
      ->type_name("BROKERS");
}

void add_node(CLI::App* c, std::string& url, std::string& token_file) {
  c->add_option("--url", url, "The node's admin address, http://host:8000 (default: metrics.port here)")
      ->type_name("URL");
  c->add_option("--token-file", token_file, "File with admin.token (default: as configured)")
      ->type_name("FILE");
}

void add_models(CLI::App* c, common_options& o) {
  c->add_option("--models", o.models, "Directory of models (models.directory)")->type_name("DIR");
}

}  // namespace troupe::cli
