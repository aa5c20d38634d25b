#include "runtime/model/repository.hpp"

#include <xxhash.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <initializer_list>
#include <map>
#include <optional>
#include <system_error>
#include <vector>

#include "runtime/model/graph.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view shipped_model = "diabetes-rf-model";
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
  for (const auto& entry : root) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      std::string what = "line " + std::to_string(entry.first.Mark().line + 1);
      fail(file, what.append(": unknown key ").append(key).append("; it can hold ").append(keys));
    }
  }
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

}  // namespace

std::shared_ptr<const loaded_model> load_model(const fs::path& version_dir, std::string name,
                                               std::string version) {
  const fs::path file = version_dir / "model.onnx";
  std::error_code error;
  if (!fs::is_regular_file(file, error))
    fail(file, "is missing; export the model to it, or take the folder away");
  graph_hints hints;
  const fs::path yaml = version_dir / "model.yaml";
  if (const auto root = read_yaml(yaml, {"features", "classes"})) {
    hints.features = names(yaml, *root, "features");
    hints.classes = names(yaml, *root, "classes");
  }
  const onnx::limits most;
  const std::string bytes = read_file(file, most.file_bytes);
  try {
    compiled_graph graph = compile(bytes, hints, most);
    return std::make_shared<const loaded_model>(loaded_model::parts{
        std::move(name), std::move(version), std::move(graph.schema), std::move(graph.output),
        std::move(graph.engine), XXH3_64bits(bytes.data(), bytes.size()), file});
  } catch (const load_error& e) {
    fail(file, e.what());
  }
}

std::shared_ptr<const model_table> repository::load() const {
  const fs::path& directory = options_.directory;
  std::error_code error;
  const auto& source = options_.source;
  const bool there = fs::is_directory(directory, error);
  if (!there && source.versions.empty()) {
    fail(directory, "is no directory of models; set models.directory to one");
  }
  std::vector<std::shared_ptr<const loaded_model>> models;
  model_table::options how;
  how.fallback = options_.fallback;
  for (const auto& v : source.versions) models.push_back(load_model(v.directory, v.name, v.version));
  how.production = source.production;
  for (const fs::path& folder : there ? folders(directory) : std::vector<fs::path>()) {
    const std::string name = folder.filename().string();
    if (std::any_of(source.versions.begin(), source.versions.end(),
                    [&](const auto& v) { return v.name == name; }))
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
    for (const auto& [number, path] : versions)
      models.push_back(load_model(path, name, std::to_string(number)));
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
  if (models.empty())
    fail(directory, "has no models; put one into " + (directory / "NAME/1/model.onnx").string());
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
