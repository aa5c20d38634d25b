#include "runtime/config/options.hpp"

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "runtime/config/option_list.hpp"

namespace troupe::config {
namespace {

using json = nlohmann::ordered_json;

constexpr const char* duration_pattern = R"(^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h|d))+$)";
constexpr const char* size_pattern = R"(^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)?$)";

json number_of(double value) {
  const auto whole = static_cast<std::int64_t>(value);
  return static_cast<double>(whole) == value ? json(whole) : json(value);
}

json schema_of(const binding& b) {
  json s;
  s["description"] = b.doc.help;
  switch (b.doc.type) {
    case value_type::text:
      s["type"] = "string";
      break;
    case value_type::list:
      s["anyOf"] = {{{"type", "string"}},
                    {{"type", "array"}, {"items", {{"type", "string"}}}, {"minItems", 1}}};
      break;
    case value_type::integer:
    case value_type::number:
      s["type"] = b.doc.type == value_type::integer ? "integer" : "number";
      s["minimum"] = number_of(*b.least);
      s["maximum"] = number_of(*b.most);
      break;
    case value_type::boolean:
      s["type"] = "boolean";
      break;
    case value_type::duration:
      s["anyOf"] = {{{"type", "string"}, {"pattern", duration_pattern}}, {{"const", 0}}};
      break;
    case value_type::size:
      s["anyOf"] = {{{"type", "string"}, {"pattern", size_pattern}}, {{"type", "integer"}, {"minimum", 0}}};
      break;
    case value_type::choice:
      // YAML 1.1 readers take on and off for booleans.
      s["enum"] = b.doc.choices;
      for (const auto& c : b.doc.choices)
        if (c == "on" || c == "off") s["enum"].push_back(c == "on");
      break;
    case value_type::map:
      s["type"] = "object";
      s["additionalProperties"] = {{"type", {"string", "number", "boolean"}}};
      break;
    case value_type::classes:
    case value_type::rollouts:
      break;
  }
  if (b.doc.type == value_type::text && b.doc.bounds == "not empty") s["minLength"] = 1;
  if (!b.pattern.empty()) s["pattern"] = b.pattern;
  if (b.get && !b.doc.secret) {
    const std::string& d = b.doc.default_value;
    if (b.doc.type == value_type::integer || b.doc.type == value_type::number)
      s["default"] = json::parse(d);
    else if (b.doc.type == value_type::boolean)
      s["default"] = d == "true";
    else if (b.doc.type == value_type::duration && d == "0")
      s["default"] = 0;
    else
      s["default"] = d;
  }
  return s;
}

json classes_schema(const binding& b) {
  class_settings c;
  json item = {{"type", "object"}, {"additionalProperties", false}, {"required", {"name"}}};
  item["properties"]["name"] = {{"type", "string"}, {"pattern", "^[a-z0-9_-]+$"}};
  for (const auto& field : bind(c)) {
    json s = schema_of(field);
    s.erase("default");
    item["properties"][field.doc.key] = std::move(s);
  }
  return {{"description", b.doc.help},
          {"type", "array"},
          {"minItems", 1},
          {"maxItems", 16},
          {"items", std::move(item)}};
}

json rollouts_schema(const binding& b) {
  policy::rollout_spec r;
  json item = {{"type", "object"}, {"additionalProperties", false}, {"required", {"model", "version"}}};
  item["properties"]["model"] = {{"type", "string"}, {"minLength", 1}};
  item["properties"]["version"] = {{"type", {"string", "integer"}}};
  for (const auto& field : bind(r)) item["properties"][field.doc.key] = schema_of(field);
  item["properties"]["steps"] = {
      {"description", item["properties"]["steps"]["description"]},
      {"anyOf",
       {{{"type", "string"}}, {{"type", "array"}, {"items", {{"type", "number"}}}, {"minItems", 1}}}}};
  return {{"description", b.doc.help}, {"type", {"array", "null"}}, {"items", std::move(item)}};
}

std::string cell(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '|') safe += '\\';
    safe += c;
  }
  return safe;
}

std::string allowed_of(const option& o) {
  if (o.type == value_type::boolean) return "`true`, `false`";
  std::string all;
  for (const auto& c : o.choices) all += (all.empty() ? "`" : ", `") + c + "`";
  if (!all.empty()) return all;
  if (o.type == value_type::list) return "list";
  if (o.type == value_type::map) return "map";
  if (o.bounds.empty()) return "text";
  return o.unit.empty() || o.type == value_type::size ? o.bounds : o.bounds + " " + o.unit;
}

std::string row_of(const option& o, const std::string& variable) {
  const std::string shown = o.default_value.empty() ? "" : "`" + o.default_value + "`";
  std::string help = o.help;
  if (o.secret) help += " Secret: also as `" + o.key + "_file`, the path of a file.";
  if (o.live) help += " Changes without a restart.";
  return "| `" + o.key + "` | " + cell(shown) + " | " + cell(allowed_of(o)) + " | `" + variable + "` | " +
         cell(help) + " |\n";
}

}  // namespace

const std::vector<option>& options() {
  static const std::vector<option> all = [] {
    settings defaults;
    std::vector<option> list;
    for (auto& b : bind(defaults)) list.push_back(std::move(b.doc));
    return list;
  }();
  return all;
}

std::string json_schema() {
  settings defaults;
  json root;
  root["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  root["title"] = "Troupe configuration";
  root["type"] = "object";
  root["additionalProperties"] = false;
  for (const auto& b : bind(defaults)) {
    if (b.doc.type == value_type::classes) {
      root["properties"]["classes"] = classes_schema(b);
      continue;
    }
    if (b.doc.type == value_type::rollouts) {
      root["properties"]["rollout"] = rollouts_schema(b);
      continue;
    }
    const std::string section(section_of(b.doc.key));
    json& s = root["properties"][section];
    if (s.is_null())
      s = {{"type", {"object", "null"}}, {"additionalProperties", false}, {"properties", json::object()}};
    const std::string name = b.doc.key.substr(section.size() + 1);
    s["properties"][name] = schema_of(b);
    if (b.doc.secret)
      s["properties"][name + "_file"] = {{"description", "File that holds " + b.doc.key + "."},
                                         {"type", "string"}};
  }
  return root.dump(2) + "\n";
}

std::string markdown() {
  constexpr std::string_view head =
      "| Option | Default | Allowed | Variable | What it does |\n| --- | --- | --- | --- | --- |\n";
  std::string text =
      "# Configuration\n\n"
      "One YAML file: `--config FILE`, else `config/troupe.yaml`, else `/etc/troupe/troupe.yaml`. Every "
      "option is also an\n"
      "environment variable and `--set section.option=value`. Later wins: default < file < environment < "
      "`--set`\n"
      "< a flag of its own, such as `--brokers`. A key stands once in its section.\n"
      "`troupe config` shows the effective values and where each comes from, `troupe config --schema` the "
      "JSON Schema of the\n"
      "file, `troupe config --markdown` this page.\n\n"
      "What is wrong is told in one go, each mistake with its place (file and line, variable or flag), its "
      "key "
      "and what is allowed:\n"
      "first all values that are wrong for themselves, and where there are none, all that does not go "
      "together. Exit status 2.\n\n"
      "Durations read `250ms`, `10s`, `1h30m`; sizes `512KiB`, `10MiB`. A secret may be given as a file that "
      "holds it\n"
      "(`redis.password_file`, `TROUPE_REDIS_PASSWORD_FILE`); it is shown as `***` and never logged.\n\n"
      "`KAFKA_BROKER`, `CONSUMER_GROUP`, `REDIS_HOST`, `REDIS_PORT`, `REDIS_PASSWORD`, `MODEL_NAME` and "
      "`DEPLOYMENT_NAME`\n"
      "are understood as `kafka.brokers`, `kafka.group`, `redis.host`, `redis.port`, `redis.password`, "
      "`models.default` and\n"
      "`http.deployment`; a `TROUPE_` variable wins over them. `MLFLOW_TRACKING_URI`, `_USERNAME`, `_PASSWORD` and `_TOKEN` are those of `mlflow`, "
      "and "
      "with them\n"
      "`MODEL_NAME` and `MODEL_VERSION` or `MODEL_STAGE` (default Production) are `mlflow.models`. "
      "OpenTelemetry's\n"
      "`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS` and "
      "`OTEL_SERVICE_NAME`\n"
      "are `tracing.endpoint`, `tracing.headers` and `tracing.service_name`. `USE_EVENTHUB` and "
      "`EVENTHUB_...`:\n"
      "[Azure Event Hubs](eventhubs.md).\n";
  settings defaults;
  std::string section;
  for (const auto& b : bind(defaults)) {
    const std::string own(section_of(b.doc.key));
    if (own != section) {
      section = own;
      text += "\n## " + section + "\n\n";
      if (b.doc.type != value_type::classes && b.doc.type != value_type::rollouts) text += head;
    }
    if (b.doc.type == value_type::rollouts) {
      text += b.doc.help +
              " Changes without a restart.\n\n| Field | Default | Allowed | What it does |\n| --- | --- | "
              "--- | --- |\n";
      text += "| `model` | | text | The model. |\n| `version` | | text | The new version. |\n";
      policy::rollout_spec any;
      for (const auto& field : bind(any)) {
        const std::string& d = field.doc.default_value;
        text += "| `" + field.doc.key + "` | " + (d.empty() ? "" : "`" + d + "`") + " | " +
                cell(allowed_of(field.doc)) + " | " + cell(field.doc.help) + " |\n";
      }
      continue;
    }
    if (b.doc.type != value_type::classes) {
      text +=
          row_of(b.doc, b.doc.type == value_type::map ? b.doc.environment + "_LINGER_MS" : b.doc.environment);
      continue;
    }
    text +=
        b.doc.help + "\n\n| Class | target | limit | on_late | floor |\n| --- | --- | --- | --- | --- |\n";
    for (auto& c : defaults.classes) {
      text += "| `" + c.name + "` |";
      for (const auto& field : bind(c)) text += " `" + field.doc.default_value + "` |";
      text += "\n";
    }
    class_settings any;
    text += "\n" + std::string(head);
    for (auto& field : bind(any)) {
      option o = field.doc;
      o.key = "classes.<name>." + field.doc.key;
      o.default_value.clear();
      text += row_of(o, "TROUPE_CLASSES_<NAME>_" + environment_name(field.doc.key).substr(7));
    }
  }
  return text;
}

}  // namespace troupe::config
