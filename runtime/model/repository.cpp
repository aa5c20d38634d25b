#include "runtime/model/repository.hpp"

#include <xxhash.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <exception>
#include <fstream>
#include <initializer_list>
#include <map>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/model/graph.hpp"
#include "runtime/model/lightgbm.hpp"
#include "runtime/model/load_mistakes.hpp"
#include "runtime/model/preprocess.hpp"
#include "runtime/model/skops.hpp"
#include "runtime/model/tensor_yaml.hpp"
#include "runtime/model/warm_up.hpp"
#include "runtime/model/xgboost.hpp"
#include "runtime/policy/keys_once.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_yaml_bytes = 16U << 20;

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
  throw load_error(file.string() + ": " + what);
}

std::string read_file(const fs::path& file, std::size_t most) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  if (error) fail(file, "cannot be read (" + error.message() + ")");
  if (size > most) {
    fail(file, "has " + std::to_string(size) + " bytes, more than the limit of " + std::to_string(most));
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  std::ifstream in(file, std::ios::binary);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in) fail(file, "cannot be read; check its permissions");
  return text;
}

/// The mapping in a model.yaml, none if there is no such file. Only `known` keys may be in it.
std::optional<YAML::Node> read_yaml(const fs::path& file, std::initializer_list<std::string_view> known) {
  std::error_code error;
  if (!fs::exists(file, error)) return std::nullopt;
  YAML::Node root;
  try {
    root = YAML::Load(read_file(file, most_yaml_bytes));
  } catch (const YAML::Exception& e) {
    fail(file, "line " + std::to_string(e.mark.line + 1) + ": " + e.msg);
  }
  if (root.IsNull()) return std::nullopt;
  std::string keys;
  for (const auto k : known) keys.append(keys.empty() ? "" : ", ").append(k);
  if (!root.IsMap()) fail(file, "is not a mapping; it can hold " + keys);
  policy::keys_once seen;
  load_mistakes wrong;
  for (const auto& entry : root)
    wrong.attempt([&] {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
      const int line = entry.first.Mark().line + 1;
      const std::string where = "line " + std::to_string(line) + ": ";
      if (std::find(known.begin(), known.end(), key) == known.end())
        fail(file, where + "unknown key " + key + "; it can hold " + keys);
      if (const std::string twice = seen.again(key, line); !twice.empty())
        fail(file, where + key + " " + twice);
    });
  wrong.end();
  return root;
}

std::vector<std::string> names(const fs::path& file, const YAML::Node& root, const char* key) {
  std::vector<std::string> list;
  const YAML::Node node = root[key];
  if (!node) return list;
  const bool scalars = node.IsSequence() && std::all_of(node.begin(), node.end(), [](const auto& n) {
                         return n.IsScalar() && !n.Scalar().empty();
                       });
  if (!scalars || node.size() == 0) fail(file, std::string(key) + " is not a list of names");
  for (const auto& each : node) list.push_back(each.Scalar());
  return list;
}

/// The number in "3" or "v3".
std::optional<std::uint64_t> number_of(std::string_view text) {
  text = plain_version(text);
  std::uint64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size() || text[0] == '0') return std::nullopt;
  return number;
}

/// The folders in a folder, by name; names that begin with a dot and files left out.
std::vector<fs::path> folders(const fs::path& in) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(in, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (at->path().filename().string().front() != '.' && at->is_directory(ignored))
      found.push_back(at->path());
  }
  if (error) fail(in, "cannot be listed (" + error.message() + ")");
  std::sort(found.begin(), found.end());
  return found;
}

constexpr std::string_view model_files[] = {"model.onnx", "model.skops", "model.json", "model.ubj",
                                            "model.txt"};

constexpr std::string_view pickles[] = {"model.pkl", "model.pickle",
                                        "model.joblib"};  // refused, with a remedy

/// The one model file in the folder of a version.
fs::path model_file(const fs::path& version_dir) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const auto name : model_files) {
    if (fs::is_regular_file(version_dir / name, error)) found.push_back(version_dir / name);
  }
  if (found.size() == 1) return found[0];
  if (found.size() > 1) {
    fail(version_dir, "has both " + found[0].filename().string() + " and " + found[1].filename().string() +
                          "; keep the one that is to answer");
  }
  for (const auto name : pickles) {
    const fs::path file = version_dir / name;
    if (!fs::exists(file, error)) continue;
    const std::string load = file.extension() == ".joblib" ? "joblib" : "pickle";
    const std::string from = load == "joblib" ? "'model.joblib'" : "open('" + std::string(name) + "','rb')";
    fail(file,
         "is a pickle, which can run any code and is never loaded; convert it where you trust it: "
         "python -c \"import " +
             load + ", skops.io; skops.io.dump(" + load + ".load(" + from + "), 'model.skops')\"");
  }
  fail(version_dir / "model.onnx", "is missing; export the model to it, or take the folder away");
}

compiled_graph read_model(const fs::path& file, std::string_view bytes, const graph_hints& hints,
                          const onnx::limits& most) {
  // What is called otherwise may still be a pickle, of protocol 2 or later.
  if (bytes.size() > 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5 && file.extension() != ".onnx")
    throw load_error("is a pickle; write it with skops.io.dump(model, 'model.skops') instead");
  if (file.extension() == ".skops") return read_skops(bytes, hints, most);
  if (file.extension() == ".json") return read_xgboost(bytes, false, hints, most);
  if (file.extension() == ".ubj") return read_xgboost(bytes, true, hints, most);
  if (file.extension() == ".txt") return read_lightgbm(bytes, hints, most);
  return compile(bytes, hints, most);
}

struct version_at {
  fs::path path;
  std::string name;
  std::string number;
};

/// As many at a time as there are cores: each may wait for a process that compares engines.
std::vector<std::shared_ptr<const loaded_model>> load_all(const std::vector<version_at>& wanted,
                                                          const repository_options& how) {
  std::vector<std::shared_ptr<const loaded_model>> models(wanted.size());
  std::vector<std::exception_ptr> errors(wanted.size());
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < wanted.size(); i = next++) try {
        models[i] = load_model(wanted[i].path, wanted[i].name, wanted[i].number, how.engines, how.explain);
      } catch (...) {
        errors[i] = std::current_exception();
      }
  };
  {
    std::vector<std::jthread> threads;
    const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
    for (std::size_t i = 1; i < std::min(cores, wanted.size()); ++i) threads.emplace_back(work);
    work();
  }
  for (const auto& e : errors)
    if (e) std::rethrow_exception(e);
  return models;
}

}  // namespace

bool is_model_file(std::string_view name) {
  const auto in = [&](const auto& list) {
    return std::find(std::begin(list), std::end(list), name) != std::end(list);
  };
  return in(model_files) || in(pickles);
}

std::shared_ptr<const loaded_model> load_model(const fs::path& version_dir, std::string name,
                                               std::string version, const engine_options& engines,
                                               bool explain) {
  const fs::path file = model_file(version_dir);
  graph_hints hints;
  hints.explain = explain;
  const fs::path yaml = version_dir / "model.yaml";
  std::unique_ptr<const preprocessing> before;
  std::uint64_t said = 0;  // what model.yaml says changes the answers, too
  if (const auto root = read_yaml(
          yaml, {"features", "classes", "classes_file", "input", "shapes", "outputs", "softmax", "top_k"})) {
    const std::string text = read_file(yaml, most_yaml_bytes);
    said = XXH3_64bits(text.data(), text.size());
    load_mistakes wrong;
    wrong.attempt([&] {
      before = read_preprocessing(text, yaml);
      hints.features = before ? before->columns() : names(yaml, *root, "features");
    });
    wrong.attempt([&] { hints.classes = names(yaml, *root, "classes"); });
    wrong.attempt([&] { read_tensor_hints(text, yaml, hints); });
    wrong.end();
  }
  const onnx::limits most;
  const std::string bytes = read_file(file, most.file_bytes);
  try {
    chosen_engine chosen;
    if (file.extension() == ".onnx") {
      std::vector<std::vector<double>> examples;
      const fs::path example = version_dir / "input_example.json";
      std::error_code error;
      if (engines.mode == engine_mode::automatic && fs::is_regular_file(example, error))
        examples = before ? before->rows_of_model(probe_rows(version_dir, before->request()))
                          : read_examples(read_file(example, most_yaml_bytes));
      chosen = choose_engine(bytes, hints, most, engines, name + "/" + version, examples);
    } else if (hints.beyond_tables() || hints.top_k > 0) {
      fail(yaml, "input, shapes, outputs, softmax and top_k are of ONNX models");
    } else {
      chosen.graph = read_model(file, bytes, hints, most);
      chosen.why = "ONNX Runtime does not read this file";
    }
    auto& graph = chosen.graph;
    if (before) before->put_before(graph);
    return std::make_shared<const loaded_model>(loaded_model::parts{
        std::move(name), std::move(version), std::move(graph.schema), std::move(graph.output),
        std::move(graph.engine), XXH3_64bits_withSeed(bytes.data(), bytes.size(), said), file,
        std::move(chosen.why), std::move(graph.explain), std::move(graph.unexplained)});
  } catch (const load_error& e) {
    if (before && before->widens()) {
      fail(file, std::string(e.what()) + " (in model.yaml " + std::to_string(before->features()) +
                     " features make " + std::to_string(before->columns().size()) + " columns)");
    }
    fail(file, e.what());
  }
}

std::shared_ptr<const model_table> repository::load() const {
  const fs::path& directory = options_.directory;
  std::error_code error;
  const auto& source = options_.source;
  const bool has_directory = fs::is_directory(directory, error);
  if (!has_directory && source.versions.empty()) {
    fail(fs::absolute(directory), "is no directory of models; set models.directory (--models DIR) to one");
  }
  std::vector<version_at> wanted;
  model_table::options how;
  how.fallback = options_.fallback;
  for (const auto& v : source.versions) wanted.push_back({v.path, v.name, v.version});
  how.production = source.production;
  for (const fs::path& folder : has_directory ? folders(directory) : std::vector<fs::path>()) {
    const std::string name = folder.filename().string();
    if (std::find(options_.not_here.begin(), options_.not_here.end(), name) != options_.not_here.end())
      continue;
    std::map<std::uint64_t, fs::path> versions;
    for (const fs::path& version : folders(folder)) {
      const auto number = number_of(version.filename().string());
      if (!number)
        fail(version, "is no version: name the folder by a number (3 or v3), or begin its name with a dot");
      const auto [at, fresh] = versions.emplace(*number, version);
      if (!fresh)
        fail(version, "and " + at->second.filename().string() + " are one version; keep one of them");
    }
    if (versions.empty()) {
      fail(folder, "has no version; put a model into " + (folder / "1" / "model.onnx").string() +
                       ", or take the folder away");
    }
    for (const auto& [number, path] : versions) wanted.push_back({path, name, std::to_string(number)});
    const fs::path yaml = folder / "model.yaml";
    if (const auto root = read_yaml(yaml, {"production"}); root && (*root)["production"]) {
      const YAML::Node node = (*root)["production"];
      const auto number = node.IsScalar() ? number_of(node.Scalar()) : std::nullopt;
      if (!number || !versions.contains(*number)) {
        std::string there;
        for (const auto& [n, path] : versions) there += (there.empty() ? "" : ", ") + std::to_string(n);
        fail(yaml, "production is not one of the versions that are there: " + there);
      }
      how.production[name] = std::to_string(*number);
    }
  }
  if (wanted.empty())
    fail(directory, "has no models; put one into " + (directory / "NAME/1/model.onnx").string());
  auto models = load_all(wanted, options_);
  how.default_model = options_.default_model;
  if (how.default_model.empty() &&
      std::any_of(models.begin(), models.end(), [](const auto& m) { return m->name() == shipped_model; })) {
    how.default_model = shipped_model;
  }
  try {
    return std::make_shared<const model_table>(std::move(models), how);
  } catch (const load_error& e) {
    fail(directory, e.what());
  }
}

}  // namespace troupe::model
