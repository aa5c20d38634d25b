#pragma once
// What the options of several commands share: their names, and how a number on the command line is read.

#include <string>
#include <vector>

#include "cli/commands.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace troupe::cli {

/// What is wrong with a whole number, empty if nothing: "a whole number from 1 to 100".
[[nodiscard]] std::string whole_number_complaint(const std::string& text, std::int64_t least,
                                                 std::int64_t most);
/// The same of a finite number.
[[nodiscard]] std::string number_complaint(const std::string& text, double least, double most);
/// 30s, 500ms, 2m or 1h in seconds; negative when it is none. A bare number is seconds.
[[nodiscard]] double seconds_of(const std::string& text);

/// An option that is checked so; `type` is what --help calls its value.
CLI::Option* whole_number(CLI::Option* option, std::int64_t least, std::int64_t most, const char* type = "N");
CLI::Option* finite_number(CLI::Option* option, double least, double most, const char* type = "NUMBER");
CLI::Option* duration(CLI::Option* option);

/// What a command's help ends with.
struct ending {
  std::vector<const char*> examples;  ///< a line each
  const char* failed;                 ///< when the exit status is 1
  const char* page;                   ///< of the documentation
  std::vector<const char*> notes;     ///< more, a line each
  const char* not_run = nullptr;      ///< when it is 3, for a command that can end so
};
void end_help(CLI::App* c, const ending& with);

void add_common(CLI::App* c, common_options& o, const char* json = "One machine-readable document on stdout");
void add_brokers(CLI::App* c, common_options& o);
void add_models(CLI::App* c, common_options& o);

}  // namespace troupe::cli
