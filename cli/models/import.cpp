#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/script.hpp"
#include "runtime/policy/registry_watch.hpp"

namespace troupe::cli {

int models_import(const models_options& o) {
  const auto s = settings_of(o.common, true).values;
  if (!policy::parse_model_reference(o.model))
    throw usage_error("'" + o.model + "' is no reference; write models:/NAME/1");
  if (s.mlflow.uri.empty()) throw usage_error("mlflow.uri is not set; name the MLflow server");
  if (!o.add_to && o.output.empty())
    throw usage_error("say what becomes of the result: --register or --output FOLDER");
  std::vector<std::string> words = {"python3", script_path("models/convert.py").string(), o.model};
  if (o.add_to) words.emplace_back("--register");
  if (!o.output.empty()) words.insert(words.end(), {"--output", o.output});
  if (!o.rows.empty()) words.insert(words.end(), {"--rows", o.rows});
  if (o.common.json) words.emplace_back("--json");
  std::vector<char*> raw;
  for (auto& w : words) raw.push_back(w.data());
  raw.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("a process for python3 can't be started");
  if (child == 0) {
    // Credentials go by the environment, where other users' ps does not show them.
    const auto set = [](const char* name, const std::string& value) {
      if (!value.empty()) ::setenv(name, value.c_str(), 1);
    };
    set("TROUPE_PROGRAM", program_path().string());
    set("MLFLOW_TRACKING_URI", s.mlflow.uri);
    set("MLFLOW_TRACKING_USERNAME", s.mlflow.username);
    set("MLFLOW_TRACKING_PASSWORD", s.mlflow.password);
    set("MLFLOW_TRACKING_TOKEN", s.mlflow.token);
    ::execvp(raw[0], raw.data());
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
    throw std::runtime_error("python3 is not installed; the conversion needs it");
  return WIFEXITED(status) ? WEXITSTATUS(status) : static_cast<int>(failed);
}

}  // namespace troupe::cli
