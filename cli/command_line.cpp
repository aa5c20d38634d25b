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

}  // namespace

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
  const auto check = [least, most](const std::string& text) {
    const std::string wrong = whole_number_complaint(text, least, most);
    return wrong.empty() ? wrong : text + ": " + wrong;
  };
  return option->type_name(type)->check(check);
}

CLI::Option* finite_number(CLI::Option* option, double least, double most, const char* type) {
  const auto check = [least, most](const std::string& text) {
    const std::string wrong = number_complaint(text, least, most);
    return wrong.empty() ? wrong : text + ": " + wrong;
  };
  return option->type_name(type)->check(check);
}

CLI::Option* duration(CLI::Option* option) {
  const auto read = [](std::string& text) -> std::string {
    const double s = seconds_of(text);
    if (s < 0) return text + ": a time such as 500ms, 30s, 2m or 1h";
    if (s > 1e9) return text + ": a time of at most 1000000000 s";
    text = shown(s);
    return "";
  };
  return option->type_name("DURATION")->transform(CLI::Validator(read, "", ""));
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
  c->add_option("--set", o.set, "section.option=value; wins over file and environment; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  c->add_flag("--json", o.json, json);
}

void add_brokers(CLI::App* c, common_options& o) {
  c->add_option("--brokers", o.brokers, "Bootstrap servers, host:port,... (kafka.brokers)")
      ->type_name("BROKERS");
}

void add_models(CLI::App* c, common_options& o) {
  c->add_option("--models", o.models, "Directory of models (models.directory)")->type_name("DIR");
}

}  // namespace troupe::cli
