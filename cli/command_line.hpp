#pragma once
// What the options of several commands share: their names, and how a number on the command line is read.

#include <functional>
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

/// What is wrong with the values that options were given: a line each, of all that were read so far.
[[nodiscard]] const std::string& option_mistakes();
/// Notes there what `look` throws as usage_error over a value.
CLI::Option* looked_at(CLI::Option* option, std::function<void(const std::string& value)> look);
/// An option that may be given several times, a value each.
CLI::Option* repeated(CLI::Option* option);

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
/// Of a command that asks a running node through its admin port.
void add_node(CLI::App* c, std::string& url, std::string& token_file);

}  // namespace troupe::cli
