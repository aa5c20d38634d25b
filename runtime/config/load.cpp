#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "runtime/config/event_hubs.hpp"
#include "runtime/config/option_list.hpp"
#include "runtime/config/options.hpp"
#include "runtime/policy/address.hpp"
#include "runtime/policy/keys_once.hpp"
#include "runtime/policy/nearest.hpp"
#include "runtime/policy/registry_watch.hpp"

namespace troupe::config {
namespace {

constexpr std::string_view prefix = "TROUPE_";
constexpr std::string_view file_suffix = "_file";
constexpr std::string_view properties = "kafka.properties";
constexpr std::string_view hidden = "***";
constexpr const char* every_key = "*";

/// Variables of the older services, and of OpenTelemetry, that name something Troupe has.
constexpr std::pair<const char*, const char*> older_names[] = {
    {"KAFKA_BROKER", "kafka.brokers"},
    {"CONSUMER_GROUP", "kafka.group"},
    {"REDIS_HOST", "redis.host"},
    {"REDIS_PORT", "redis.port"},
    {"REDIS_PASSWORD", "redis.password"},
    {"MODEL_NAME", "models.default"},
    {"DEPLOYMENT_NAME", "http.deployment"},
    {"MLFLOW_TRACKING_URI", "mlflow.uri"},
    {"MLFLOW_TRACKING_USERNAME", "mlflow.username"},
    {"MLFLOW_TRACKING_PASSWORD", "mlflow.password"},
    {"MLFLOW_TRACKING_TOKEN", "mlflow.token"},
    {"OTEL_SERVICE_NAME", "tracing.service_name"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT", "tracing.endpoint"},
    {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "tracing.endpoint"},  // the last of them wins
    {"OTEL_EXPORTER_OTLP_HEADERS", "tracing.headers"},
};

/// Those that are read with Azure Event Hubs only.
constexpr std::pair<const char*, const char*> hub_names[] = {
    {"EVENTHUB_CONNECTION", "kafka.eventhub_connection"},
    {"EVENTHUB_CONNECTION_FILE", "kafka.eventhub_connection_file"},
    {"EVENTHUB_NAME", "kafka.requests_topic"},
    {"EVENTHUB_RESULTS", "kafka.results_topic"},
};

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool starts_with(std::string_view text, std::string_view begin) {
  return text.substr(0, begin.size()) == begin;
}

/// In one line, whatever it is.
std::string in_quotes(std::string_view text) {
  constexpr const char* digits = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '\n')
      out += "\\n";
    else if (u < 0x20 || u == 0x7f)
      (out += "\\x") += {digits[u >> 4], digits[u & 15]};
    else
      out += c;
  }
  return out + "'";
}

/// A value in quotes, its beginning where it is long.
std::string value_in_quotes(std::string_view text) {
  constexpr std::size_t most = 80;
  if (text.size() <= most) return in_quotes(text);
  std::string_view begin = text.substr(0, most * 3 / 4);
  while (!begin.empty() && (static_cast<unsigned char>(text[begin.size()]) & 0xc0) == 0x80)
    begin.remove_suffix(1);  // no part of a character
  return in_quotes(std::string(begin) + "...") + " (" + std::to_string(text.size()) + " characters)";
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string_view without_blanks(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// "; did you mean 'x'?", or where to look.
std::string suggestion(std::string_view unknown, const std::vector<std::string>& known) {
  std::string meant = policy::nearest(unknown, known, std::max<std::size_t>(2, unknown.size() / 3));
  if (meant.empty())  // tls_certificate is far from tls_cert, and means it
    for (const auto& one : known)
      if (one.size() > meant.size() && unknown.starts_with(one)) meant = one;
  if (meant.empty()) return "; `troupe config --markdown` lists all options";
  return "; did you mean " + in_quotes(meant) + "?";
}

/// [PROTOCOL://]HOST[:PORT], as librdkafka takes it; an IPv6 address stands in brackets.
bool is_broker(std::string_view text) {
  text = without_blanks(text);
  if (const auto at = text.find("://"); at != std::string_view::npos) text.remove_prefix(at + 3);
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || text.back() == ']') return !text.empty();
  const std::string_view port = text.substr(colon + 1);
  int number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  return colon > 0 && error == std::errc() && end == port.data() + port.size() && number > 0 &&
         number < 65536;
}

/// What Kubernetes sets in every pod for a service called troupe or troupe-<section>.
bool is_service_link(std::string_view name, std::string_view value) {
  if (ends_with(name, "_SERVICE_HOST") || name.find("_SERVICE_PORT") != std::string_view::npos) return true;
  if (ends_with(name, "_PORT") && value.find("://") != std::string_view::npos) return true;
  const auto port = name.find("_PORT_");
  return port != std::string_view::npos && port + 6 < name.size() && name[port + 6] >= '0' &&
         name[port + 6] <= '9';
}

/// nullopt when it can't be read (a directory, too).
std::optional<std::string> text_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::error_code ignored;
  if (!file || std::filesystem::is_directory(path, ignored)) return std::nullopt;
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) return std::nullopt;
  return text;
}

class loader {
 public:
  loaded run(const sources& from) {
    property_fault_ = from.property_fault;
    attempt([&] { read_file(from); }, every_key);
    read_environment(from);
    for (const auto& assignment : from.set) attempt([&] { read_flag(assignment); }, key_of_flag(assignment));
    for (const auto& f : from.flags) attempt([&] { assign(f.key, f.value, f.name, f.name); }, f.key);
    check();
    if (from.node) check_node();
    if (from.misfits && values_.kafka.enabled && sure_of_all("kafka"))
      for (const auto& m : from.misfits(values_))
        attempt([&] { fail(origin_of(std::string(properties) + "." + m.property, ""), m.text); });
    end_if_wrong();
    show();
    return std::move(result_);
  }

 private:
  [[noreturn]] static void fail(const std::string& where, const std::string& what) {
    throw config_error(where.empty() ? what : where + ": " + what);
  }

  /// Notes what is wrong with one part, so that the others are looked at all the same. `unsure`: the key that
  /// is in doubt then.
  template <class F>
  void attempt(F part, const std::string& unsure = {}) {
    try {
      part();
    } catch (const config_error& e) {
      wrong_.emplace_back(e.what());
      doubt(unsure);
    }
  }

  /// What was meant by this key, or which one was meant, is not known.
  void doubt(const std::string& key) {
    if (key.empty()) return;
    const std::string section(section_of(key));
    const bool known = section == "classes" || section == "rollout" ||
                       std::any_of(bindings_.begin(), bindings_.end(),
                                   [&](const binding& b) { return section_of(b.doc.key) == section; });
    if (find(key) || starts_with(key, std::string(properties) + "."))
      unsure_.insert(key);
    else
      unsure_.insert(known ? section : every_key);
  }

  /// Whether its value is what somebody meant: neither it nor a key that may have been misspelt for it was
  /// refused.
  [[nodiscard]] bool sure(const std::string& key) const {
    if (unsure_.contains(every_key) || unsure_.contains(key)) return false;
    return !unsure_.contains(std::string(section_of(key))) || origins_.contains(key);
  }
  [[nodiscard]] bool sure_of_all(const std::string& section) const {
    const auto of_it = [&](const std::string& one) { return one == every_key || section_of(one) == section; };
    return std::none_of(unsure_.begin(), unsure_.end(), of_it) &&
           std::none_of(refused_.begin(), refused_.end(), of_it);
  }

  void end_if_wrong() const {
    std::string lines;
    for (const auto& line : wrong_) lines += (lines.empty() ? "" : "\n") + line;
    if (!lines.empty()) throw config_error(lines);
  }

  binding* find(std::string_view key) {
    for (auto& b : bindings_)
      if (b.doc.key == key) return &b;
    return nullptr;
  }

  /// The secret that `key` = <secret>_file names a file for.
  binding* secret_of_file(std::string_view key) {
    if (!ends_with(key, file_suffix)) return nullptr;
    binding* b = find(key.substr(0, key.size() - file_suffix.size()));
    return b && b->doc.secret ? b : nullptr;
  }

  class_settings* find_class(std::string_view name) {
    for (auto& c : values_.classes)
      if (c.name == name) return &c;
    return nullptr;
  }

  [[nodiscard]] std::vector<std::string> known_keys() {
    std::vector<std::string> keys;
    for (const auto& b : bindings_) {
      keys.push_back(b.doc.key);
      if (b.doc.secret) keys.push_back(b.doc.key + std::string(file_suffix));
    }
    return keys;
  }

  [[nodiscard]] std::vector<std::string> class_names() const {
    std::vector<std::string> names;
    for (const auto& c : values_.classes) names.push_back(c.name);
    return names;
  }

  static std::string joined(const std::vector<std::string>& names) {
    std::string all;
    for (const auto& n : names) all += (all.empty() ? "" : ", ") + n;
    return all;
  }

  // --- one value
  // ------------------------------------------------------------------------------------------------------

  static void apply(binding& b, const std::string& key, const std::string& text, const std::string& where) {
    try {
      b.set(text);
    } catch (const value_error& e) {
      const std::string given = b.doc.secret ? "its value" : value_in_quotes(text);
      fail(where, key + ": " + given + " is not allowed; expected " + e.what());
    }
  }

  void assign_secret_file(binding& b, const std::string& path, const std::string& where,
                          const std::string& origin) {
    auto text = text_of_file(path);
    if (!text) fail(where, b.doc.key + std::string(file_suffix) + ": " + in_quotes(path) + " can't be read");
    while (!text->empty() && (text->back() == '\n' || text->back() == '\r')) text->pop_back();
    apply(b, b.doc.key, *text, where);
    origins_[b.doc.key] = origin + " (" + path + ")";
  }

  void assign_class_field(class_settings& c, const std::string& field, const std::string& text,
                          const std::string& where, const std::string& origin) {
    std::vector<std::string> known;
    for (auto& b : bind(c)) {
      known.push_back("classes." + c.name + "." + b.doc.key);
      if (b.doc.key != field) continue;
      apply(b, known.back(), text, where);
      origins_[known.back()] = origin;
      return;
    }
    const std::string key = "classes." + c.name + "." + field;
    fail(where, "unknown key " + in_quotes(key) + suggestion(key, known));
  }

  /// A key as `--set` writes it.
  void assign(const std::string& key, const std::string& text, const std::string& where,
              const std::string& origin) {
    if (binding* b = find(key); b && b->set) {
      apply(*b, key, text, where);
      origins_[key] = origin;
      return;
    }
    if (binding* b = secret_of_file(key)) {
      assign_secret_file(*b, text, where, origin);
      return;
    }
    if (starts_with(key, std::string(properties) + ".") && key.size() > properties.size() + 1) {
      const std::string name = key.substr(properties.size() + 1);
      if (const std::string wrong = property_fault_ ? property_fault_(name, text) : ""; !wrong.empty())
        fail(where, key + ": " + wrong);
      values_.kafka.properties[name] = text;
      origins_[key] = origin;
      return;
    }
    if (key == properties) fail(where, key + ": name a property, such as kafka.properties.linger.ms=5");
    if (key == "rollout" || starts_with(key, "rollout."))
      fail(where, key + ": rollouts are a list in the file, or are begun through /admin/rollout");
    if (key == "classes") fail(where, key + ": name a class and a field, such as classes.bulk.target=30s");
    if (starts_with(key, "classes.")) {
      const std::string rest = key.substr(8);
      const auto dot = rest.find('.');
      class_settings* c = find_class(rest.substr(0, dot));
      if (!c && classes_unsure_) return;
      if (!c)
        fail(where, key + ": there is no class " + in_quotes(rest.substr(0, dot)) + "; classes are " +
                        joined(class_names()));
      assign_class_field(*c, dot == std::string::npos ? "" : rest.substr(dot + 1), text, where, origin);
      return;
    }
    fail(where, "unknown key " + in_quotes(key) + suggestion(key, known_keys()));
  }

  // --- the file
  // -------------------------------------------------------------------------------------------------------

  [[nodiscard]] std::string at(const YAML::Node& node) const {
    return result_.file + ":" + std::to_string(node.Mark().line + 1);
  }

  void read_file(const sources& from) {
    if (from.file) {
      result_.file = from.file->string();
    } else if (from.search) {
      for (const char* path : {"config/troupe.yaml", "/etc/troupe/troupe.yaml"}) {
        // A working directory that this user may not look into has none; /etc is another matter.
        std::error_code refused;
        const bool there = std::filesystem::exists(path, refused);
        if (refused && *path == '/')
          fail(path, "the configuration file can't be looked for: " + refused.message());
        if (!there) continue;
        result_.file = path;
        break;
      }
    }
    if (result_.file.empty()) return;
    const auto text = text_of_file(result_.file);
    if (!text) fail(result_.file, "the configuration file can't be read");
    YAML::Node root;
    try {
      root = YAML::Load(*text);
    } catch (const YAML::Exception& e) {
      fail(result_.file + ":" + std::to_string(e.mark.line + 1), "not valid YAML: " + e.msg);
    }
    if (!root.IsDefined() || root.IsNull()) return;
    if (!root.IsMap()) fail(at(root), "expected sections, such as `kafka:` with options below it");
    policy::keys_once seen;
    for (const auto& entry : root) attempt([&] { read_section(entry.first, entry.second, seen); }, every_key);
  }

  void once(const YAML::Node& key_node, const std::string& key, policy::keys_once& seen) const {
    const std::string twice = seen.again(key, key_node.Mark().line + 1);
    if (!twice.empty()) fail(at(key_node), key + " " + twice);
  }

  [[nodiscard]] std::string key_text(const YAML::Node& node) const {
    if (!node.IsScalar()) fail(at(node), "a key must be a plain text");
    return node.Scalar();
  }

  static std::string key_below(const std::string& section, const YAML::Node& node) {
    return section + "." + (node.IsScalar() ? node.Scalar() : "");
  }

  void read_section(const YAML::Node& key_node, const YAML::Node& node, policy::keys_once& seen) {
    const std::string section = key_text(key_node);
    once(key_node, section, seen);
    if (section == "classes") return read_classes(key_node, node);
    if (section == "rollout") return read_rollouts(key_node, node);
    std::vector<std::string> sections;
    for (const auto& b : bindings_) sections.emplace_back(section_of(b.doc.key));
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) {
      if (find(section)) {
        const auto dot = section.find('.');
        fail(at(key_node), in_quotes(section) + " is written as a section: `" + section.substr(0, dot) +
                               ":` and below it `" + section.substr(dot + 1) + ":`");
      }
      fail(at(key_node), "unknown section " + in_quotes(section) + suggestion(section, sections));
    }
    if (node.IsNull()) return;
    if (!node.IsMap()) fail(at(node), section + ": expected options below it, not a value");
    for (const auto& entry : node)
      attempt(
          [&] {
            const std::string key = section + "." + key_text(entry.first);
            binding* secret = secret_of_file(key);
            once(entry.first, secret ? secret->doc.key : key, seen);
            if (key == properties)
              read_properties(entry.second);
            else
              assign(key, scalar(key, entry.first, entry.second), at(entry.first), at(entry.first));
          },
          key_below(section, entry.first));
  }

  /// A list is one value where the option is a list.
  std::string scalar(const std::string& key, const YAML::Node& key_node, const YAML::Node& node) {
    binding* b = find(key);
    if (!b && !secret_of_file(key))
      fail(at(key_node), "unknown key " + in_quotes(key) + suggestion(key, known_keys()));
    if (b && b->doc.type == value_type::list && node.IsSequence()) {
      std::vector<std::string> parts;
      for (const auto& part : node) parts.push_back(plain(key, part, part));
      std::string all;
      for (const auto& part : parts) all += (all.empty() ? "" : ",") + part;
      return all;
    }
    return plain(key, node, key_node);
  }

  [[nodiscard]] std::string plain(const std::string& key, const YAML::Node& node,
                                  const YAML::Node& named) const {
    if (node.IsNull())
      fail(at(named), key + " has no value; give one (\"\" is the empty text) or remove the line");
    if (!node.IsScalar())
      fail(at(node), key + ": expected one value, not a " + (node.IsMap() ? "section" : "list"));
    return node.Scalar();
  }

  void read_properties(const YAML::Node& node) {
    if (node.IsNull()) return;
    if (!node.IsMap())
      fail(at(node),
           std::string(properties) + ": expected librdkafka properties below it, such as linger.ms: 5");
    policy::keys_once seen;
    for (const auto& entry : node)
      attempt(
          [&] {
            const std::string key = std::string(properties) + "." + key_text(entry.first);
            once(entry.first, key, seen);
            assign(key, plain(key, entry.second, entry.first), at(entry.first), at(entry.first));
          },
          key_below(std::string(properties), entry.first));
  }

  /// Those that a class does not have; each is complained of, before what it leaves missing would be.
  std::set<std::string> refuse_unknown_class_keys(const YAML::Node& entry) {
    class_settings any;
    const std::string of_entry =
        entry["name"] && entry["name"].IsScalar() ? "classes." + entry["name"].Scalar() + "." : "classes.";
    std::vector<std::string> known{of_entry + "name"};
    for (const auto& field : bind(any)) known.push_back(of_entry + field.doc.key);
    std::set<std::string> unknown;
    for (const auto& field : entry)
      attempt([&] {
        const std::string name = key_text(field.first);
        const std::string key = of_entry + name;
        if (std::find(known.begin(), known.end(), key) != known.end()) return;
        unknown.insert(name);
        fail(at(field.first), "unknown key " + in_quotes(key) + suggestion(key, known));
      });
    return unknown;
  }

  void read_class(const YAML::Node& entry, const std::vector<class_settings>& defaults) {
    if (!entry.IsMap())
      fail(at(entry), "classes: expected entries such as {name: interactive, target: 100ms}");
    const auto unknown = refuse_unknown_class_keys(entry);
    if (!entry["name"] && !unknown.empty()) return;
    if (!entry["name"]) fail(at(entry), "classes: an entry has no name");
    class_settings c;
    c.name = plain("classes.name", entry["name"], entry);
    const bool usable = !c.name.empty() && c.name.find_first_not_of(
                                               "abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos;
    if (!usable)
      fail(at(entry["name"]), "classes.name: " + in_quotes(c.name) +
                                  " is not allowed; expected lower-case letters, digits, _ and -");
    if (find_class(c.name)) fail(at(entry["name"]), "classes: there are two classes " + in_quotes(c.name));
    const auto own =
        std::find_if(defaults.begin(), defaults.end(), [&](const auto& d) { return d.name == c.name; });
    if (own != defaults.end())
      c = *own;
    else if (!entry["target"] && unknown.empty())
      fail(at(entry), "classes." + c.name + ": a target is needed, such as target: 1s");
    policy::keys_once seen;
    for (const auto& field : entry)
      attempt([&] {
        const std::string name = key_text(field.first);
        if (unknown.contains(name)) return;
        once(field.first, "classes." + c.name + "." + name, seen);
        if (name != "name")
          assign_class_field(c, name, plain("classes." + c.name + "." + name, field.second, field.first),
                             at(field.first), at(field.first));
      });
    values_.classes.push_back(std::move(c));
  }

  void read_classes(const YAML::Node& key_node, const YAML::Node& node) {
    if (!node.IsSequence() || node.size() == 0)
      fail(at(key_node),
           "classes: expected a list, most urgent first, of entries such as {name: interactive, target: "
           "100ms}");
    const auto defaults = std::exchange(values_.classes, {});
    const auto before = wrong_.size();
    for (const auto& entry : node) attempt([&] { read_class(entry, defaults); });
    classes_unsure_ = wrong_.size() > before;
    if (classes_unsure_) doubt("classes");
    if (values_.classes.size() > 16) fail(at(key_node), "classes: at most 16 are possible");
    origins_["classes"] = at(key_node);
  }

  void set_rollout(policy::rollout_spec& r, const std::string& name, const YAML::Node& key_node,
                   const YAML::Node& node) {
    const std::string key = "rollout." + name;
    if (name == "model" || name == "version") {
      (name == "model" ? r.model : r.version) = plain(key, node, key_node);
      return;
    }
    std::vector<std::string> known = {"rollout.model", "rollout.version"};
    for (auto& b : bind(r)) {
      known.push_back("rollout." + b.doc.key);
      if (b.doc.key != name) continue;
      std::string text;
      if (b.doc.type == value_type::list && node.IsSequence())
        for (const auto& part : node) text += (text.empty() ? "" : ",") + plain(key, part, part);
      else
        text = plain(key, node, key_node);
      return apply(b, key, text, at(key_node));
    }
    fail(at(key_node), "unknown key " + in_quotes(key) + suggestion(key, known));
  }

  void read_rollout(const YAML::Node& entry) {
    policy::rollout_spec r;
    const auto before = wrong_.size();
    policy::keys_once seen;
    for (const auto& field : entry)
      attempt([&] {
        const std::string name = key_text(field.first);
        once(field.first, "rollout." + name, seen);
        set_rollout(r, name, field.first, field.second);
      });
    if (wrong_.size() > before) return;
    if (const std::string wrong = policy::complaint(r); !wrong.empty()) fail(at(entry), "rollout." + wrong);
    for (const auto& other : values_.rollout)
      if (other.model == r.model)
        fail(at(entry), "rollout: there are two rollouts of model " + in_quotes(r.model));
    values_.rollout.push_back(std::move(r));
  }

  void read_rollouts(const YAML::Node& key_node, const YAML::Node& node) {
    constexpr const char* expected =
        "rollout: expected a list of entries such as {model: churn, version: 4, strategy: canary, percent: "
        "5}";
    if (node.IsNull()) return;
    if (!node.IsSequence()) fail(at(key_node), expected);
    for (const auto& entry : node)
      attempt([&] {
        if (!entry.IsMap()) fail(at(entry), expected);
        read_rollout(entry);
      });
    origins_["rollout"] = at(key_node);
  }

  // --- the environment
  // ------------------------------------------------------------------------------------------------

  static std::map<std::string, std::string> environment_of(const sources& from) {
    if (from.environment) return *from.environment;
    std::map<std::string, std::string> all;
    for (char** entry = environ; *entry; ++entry) {
      const std::string_view text(*entry);
      const auto equals = text.find('=');
      if (equals != std::string_view::npos) all.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    return all;
  }

  void read_environment(const sources& from) {
    const auto all = environment_of(from);
    read_older_names(all, from.set);
    std::set<std::string, std::less<>> sections;
    for (const auto& b : bindings_) sections.insert(environment_name(section_of(b.doc.key)) + "_");
    for (const auto& [name, value] : all)
      if (starts_with(name, prefix))
        attempt([&] { read_variable(name, value, all, sections); }, key_of_variable(name));
  }

  static bool says_yes(std::string_view given) {
    const std::string text = lower(given);
    return text == "true" || text == "1" || text == "yes" || text == "on";
  }
  static bool says_no(std::string_view given) {
    const std::string text = lower(given);
    return text == "false" || text == "0" || text == "no" || text == "off";
  }

  /// What kafka.eventhub will be: the older names have to know before the later sources are read.
  [[nodiscard]] bool hub_wanted(const std::map<std::string, std::string>& all,
                                const std::vector<std::string>& flags) const {
    constexpr std::string_view flag = "kafka.eventhub=";
    bool wanted = values_.kafka.eventhub;
    if (const auto it = all.find(environment_name("kafka.eventhub")); it != all.end())
      wanted = says_yes(it->second);
    for (const auto& one : flags)
      if (starts_with(one, flag)) wanted = says_yes(one.substr(flag.size()));
    return wanted;
  }

  void read_older_names(const std::map<std::string, std::string>& all,
                        const std::vector<std::string>& flags) {
    const auto value_of = [&](const char* name) {
      const auto it = all.find(name);
      return it == all.end() ? std::string() : it->second;
    };
    const std::string use = value_of("USE_EVENTHUB");
    if (!use.empty() && !says_yes(use) && !says_no(use))
      attempt(
          [&] {
            fail("environment USE_EVENTHUB",
                 value_in_quotes(use) +
                     " is not allowed; expected true, 1, yes or on, or false, 0, no or off");
          },
          "kafka.eventhub");
    else if (!use.empty())
      assign("kafka.eventhub", says_yes(use) ? "true" : "false", "", "environment USE_EVENTHUB");
    const bool hub = hub_wanted(all, flags);
    for (const auto& [name, key] : older_names) {
      const std::string value = value_of(name);
      if (value.empty()) continue;
      if (is_service_link(name, value)) {
        ignore(name);
        continue;
      }
      const std::string origin = std::string("environment ") + name;
      if (hub && key == std::string_view("kafka.brokers"))
        result_.warnings.push_back(origin +
                                   " has no effect: the connection string of Event Hubs names the brokers");
      else
        attempt([&, key = key] { assign(key, value, origin, origin); }, key);
    }
    for (const auto& [name, key] : hub_names) {
      const std::string value = value_of(name);
      if (value.empty()) continue;
      const std::string origin = std::string("environment ") + name;
      if (hub)
        attempt([&, key = key] { assign(key, value, origin, origin); }, key);
      else
        result_.warnings.push_back(origin + " has no effect without USE_EVENTHUB=true");
    }
    older_model_ = {value_of("MODEL_NAME"), value_of("MODEL_VERSION"), value_of("MODEL_STAGE")};
  }

  void ignore(const std::string& name) {
    result_.warnings.push_back("environment " + name +
                               " is ignored: it describes a Kubernetes service, not an option");
  }

  [[nodiscard]] std::string key_of_variable(const std::string& name) const {
    for (const auto& b : bindings_)
      if (name == b.doc.environment || (b.doc.secret && name == b.doc.environment + "_FILE"))
        return b.doc.key;
    if (starts_with(name, environment_name(properties) + "_")) return std::string(properties) + ".";
    return starts_with(name, environment_name("classes.")) ? "classes" : every_key;
  }

  void read_variable(const std::string& name, const std::string& value,
                     const std::map<std::string, std::string>& all,
                     const std::set<std::string, std::less<>>& sections) {
    const std::string origin = "environment " + name;
    std::vector<std::string> known;
    for (auto& b : bindings_) {
      if (!b.set) continue;
      known.push_back(b.doc.environment);
      if (b.doc.environment == name) {
        if (b.doc.type == value_type::integer && is_service_link(name, value)) return ignore(name);
        return assign(b.doc.key, value, origin, origin);
      }
      if (!b.doc.secret) continue;
      known.push_back(b.doc.environment + "_FILE");
      if (known.back() == name) {
        if (all.contains(b.doc.environment))
          fail(origin, "set either this or " + b.doc.environment + ", not both");
        return assign_secret_file(b, value, origin, origin);
      }
    }
    const std::string for_properties = environment_name(properties) + "_";
    if (starts_with(name, for_properties) && name.size() > for_properties.size()) {
      std::string key = std::string(properties) + ".";
      for (const char c : name.substr(for_properties.size()))
        key += c == '_' ? '.' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      return assign(key, value, origin, origin);
    }
    for (auto& c : values_.classes)
      for (auto& field : bind(c)) {
        known.push_back(environment_name("classes." + c.name + "." + field.doc.key));
        if (known.back() == name) return assign_class_field(c, field.doc.key, value, origin, origin);
      }
    if (is_service_link(name, value)) return;
    if (classes_unsure_ && starts_with(name, environment_name("classes."))) return;
    // Other programs may have variables of this prefix; ours begin with a section.
    for (const auto& section : sections)
      if (starts_with(name, section)) fail(origin, "unknown variable" + suggestion(name, known));
  }

  // --- flags
  // ----------------------------------------------------------------------------------------------------------

  [[nodiscard]] std::string key_of_flag(const std::string& assignment) {
    const auto equals = assignment.find('=');
    std::string key = assignment.substr(0, equals);
    return equals != std::string::npos || find(key) ? key : "";
  }

  void read_flag(const std::string& assignment) {
    const auto equals = assignment.find('=');
    if (equals == std::string::npos) fail("--set " + assignment, "expected section.option=value");
    const std::string key = assignment.substr(0, equals);
    assign(key, assignment.substr(equals + 1), "--set", "--set");
  }

  // --- the whole
  // ------------------------------------------------------------------------------------------------------

  /// Notes it: what else does not go together is looked at all the same. What is refused already, or one of
  /// the `others` on which this depends, tells nothing.
  void refuse(const std::string& key, const std::string& what, const std::vector<std::string>& others = {}) {
    if (!sure(key) || !std::all_of(others.begin(), others.end(), [&](const auto& one) { return sure(one); }))
      return;
    attempt([&] { fail(origin_of(key, ""), key + ": " + what); });
    refused_.insert(key);
  }

  void warn(const std::string& key, const std::string& what) {
    const std::string at = origin_of(key, "");
    result_.warnings.push_back((at.empty() ? "" : at + ": ") + key + ": " + what);
  }

  /// MODEL_NAME with MODEL_VERSION or MODEL_STAGE names a registry's model unless mlflow.models does.
  void use_older_model() {
    const auto& [name, version, stage] = older_model_;
    auto& m = values_.mlflow;
    if (m.uri.empty() || !m.models.empty() || name.empty()) {
      if (!version.empty() || !stage.empty())
        result_.warnings.push_back(
            m.models.empty()
                ? "environment MODEL_VERSION and MODEL_STAGE have no effect without mlflow.uri and "
                  "MODEL_NAME; name the production version in <models.directory>/<name>/model.yaml"
                : "environment MODEL_VERSION and MODEL_STAGE have no effect: mlflow.models is set");
      return;
    }
    using kind = policy::model_reference::kind;
    const auto kind_of = [](const std::string& what) {
      const auto r = policy::parse_model_reference("models:/m/" + what);
      return r ? r->by : kind::alias;
    };
    if (const kind k = kind_of(version); !version.empty() && k != kind::number && k != kind::latest)
      fail("environment MODEL_VERSION",
           value_in_quotes(version) +
               " is not allowed; expected the number of a version, or latest; a stage goes into MODEL_STAGE");
    if (const kind k = kind_of(stage);
        version.empty() && !stage.empty() && k != kind::stage && k != kind::latest)
      fail("environment MODEL_STAGE",
           value_in_quotes(stage) +
               " is not allowed; expected a stage, such as Production; a version's number goes into "
               "MODEL_VERSION");
    m.models = "models:/" + name + "/" + (!version.empty() ? version : !stage.empty() ? stage : "Production");
    origins_["mlflow.models"] = "environment MODEL_NAME";
  }

  /// Brokers, topics, group and properties from the connection string, where nothing else names them.
  void use_event_hubs() {
    auto& k = values_.kafka;
    if (!k.eventhub) {
      if (!k.eventhub_connection.empty())
        result_.warnings.push_back("kafka.eventhub_connection has no effect without kafka.eventhub: true");
      if (k.eventhub_transactions)
        result_.warnings.push_back("kafka.eventhub_transactions has no effect without kafka.eventhub: true");
      return;
    }
    if (k.eventhub_connection.empty())
      return refuse(
          "kafka.eventhub",
          "needs kafka.eventhub_connection, the namespace's connection string (or EVENTHUB_CONNECTION, or "
          "kafka.eventhub_connection_file)",
          {"kafka.eventhub_connection"});
    event_hubs_connection to;
    try {
      to = parse_connection_string(k.eventhub_connection);
    } catch (const value_error& e) {
      return refuse("kafka.eventhub_connection", e.what());
    }
    // Turned on by a variable or flag, it is above a file that only spells the usual names out.
    const kafka_settings usual;
    const bool above_file = !from_file("kafka.eventhub");
    const auto named = [&](const char* key, const std::string& value, const std::string& otherwise) {
      return origins_.contains(key) && !(above_file && from_file(key) && value == otherwise);
    };
    if (named("kafka.brokers", k.brokers, usual.brokers)) {
      if (!from_file("kafka.brokers"))
        refuse("kafka.brokers",
               "not together with kafka.eventhub, whose connection string names the brokers");
      result_.warnings.push_back(
          origins_.at("kafka.brokers") +
          ": kafka.brokers has no effect: the connection string of Event Hubs names them");
    }
    const std::string by = "kafka.eventhub";
    k.brokers = to.host + ":" + std::to_string(to.port);
    origins_["kafka.brokers"] = by;
    const auto fill = [&](const char* key, std::string& value, const std::string& standard,
                          const std::string& ours) {
      if (named(key, value, standard)) return;
      value = ours;
      origins_[key] = by;
    };
    if (!to.entity.empty())
      fill("kafka.requests_topic", k.requests_topic, usual.requests_topic, to.entity);
    else if (!origins_.contains("kafka.requests_topic"))
      refuse(
          "kafka.eventhub",
          "name the event hub that requests come from: EVENTHUB_NAME, kafka.requests_topic or EntityPath in "
          "the connection string",
          {"kafka.requests_topic", "kafka.eventhub_connection"});
    fill("kafka.results_topic", k.results_topic, usual.results_topic, k.requests_topic + "-results");
    fill("kafka.dead_letter_topic", k.dead_letter_topic, usual.dead_letter_topic, k.requests_topic + "-dlq");
    fill("kafka.group", k.group, usual.group, "$Default");
    if (!to.entity.empty())
      for (const auto& topic : {k.requests_topic, k.results_topic, k.dead_letter_topic})
        if (topic != to.entity) {
          result_.warnings.push_back("kafka.eventhub_connection opens the event hub " + in_quotes(to.entity) +
                                     " alone (EntityPath), not " + in_quotes(topic) +
                                     ": take the connection string of the namespace");
          break;
        }
    check_event_hubs_limits();
    for (auto& [name, value] : event_hubs_properties(to)) {
      if (k.properties.contains(name) ||
          (name == "sasl.mechanism" && k.properties.contains("sasl.mechanisms")))
        continue;
      k.properties[name] = value;
      origins_[std::string(properties) + "." + name] = by;
    }
  }

  [[nodiscard]] bool from_file(const std::string& key) const {
    const auto it = origins_.find(key);
    return it != origins_.end() && !result_.file.empty() && starts_with(it->second, result_.file + ":");
  }

  void check_event_hubs_limits() {
    const auto& k = values_.kafka;
    if (k.delivery == delivery::exactly_once && !k.eventhub_transactions)
      refuse("kafka.delivery",
             "exactly_once needs transactions, a preview in Event Hubs Premium and Dedicated: use "
             "at_least_once, or "
             "say kafka.eventhub_transactions: true where the namespace has them",
             {"kafka.eventhub_transactions"});
    const auto own = [&](const char* name) {
      const auto it = k.properties.find(name);
      return it == k.properties.end() ? std::string() : it->second;
    };
    for (const char* name : {"compression.type", "compression.codec"})
      if (const std::string kind = own(name); !kind.empty() && kind != "none" && kind != "gzip")
        refuse(std::string(properties) + "." + name,
               "Event Hubs takes none, and in Premium and Dedicated gzip; not " + in_quotes(kind));
    if (const std::string every = own("auto.commit.interval.ms"); !every.empty()) {
      int ms = 0;
      const auto [end, error] = std::from_chars(every.data(), every.data() + every.size(), ms);
      if (error == std::errc() && end == every.data() + every.size() && ms < 250)
        refuse(std::string(properties) + ".auto.commit.interval.ms",
               "Event Hubs takes four commits a second of a partition: at least 250");
    }
  }

  void check() {
    attempt([&] { use_older_model(); });
    use_event_hubs();
    if (!values_.mlflow.models.empty() && values_.mlflow.uri.empty())
      refuse("mlflow.models", "needs mlflow.uri, the address of the MLflow server", {"mlflow.uri"});
    if (!values_.mlflow.models.empty() && !starts_with(values_.mlflow.uri, "http://") &&
        !starts_with(values_.mlflow.uri, "https://"))
      refuse("mlflow.uri", "expected an address like http://mlflow:5000");
    const auto& k = values_.kafka;
    if (k.delivery == delivery::exactly_once && k.enabled && k.brokers == "embedded")
      refuse("kafka.delivery",
             "the embedded broker has no transactions; use at_least_once, or name a Kafka in kafka.brokers",
             {"kafka.brokers"});
    for (const auto& [key, name] : {std::pair{"kafka.class", k.default_class},
                                    {"http.class", values_.http.default_class},
                                    {"grpc.class", values_.grpc.default_class},
                                    {"batches.class", values_.batches.batch_class}})
      if (!(name.empty() && key != std::string_view("kafka.class")) && !find_class(name))
        refuse(key, "there is no class " + in_quotes(name) + "; classes are " + joined(class_names()),
               {"classes"});
    const auto& to = values_.tracing.endpoint;
    if (!to.empty() && !starts_with(to, "http://") && !starts_with(to, "https://"))
      refuse("tracing.endpoint",
             in_quotes(to) + " is not allowed; expected an OTLP/HTTP address like http://collector:4318");
    check_auth();
    check_tls("http", values_.http.tls);
    check_tls("grpc", values_.grpc.tls);
    if (!values_.batches.directory.empty() && !values_.http.enabled)
      refuse("batches.directory", "batches come over HTTP: needs http.enabled: true", {"http.enabled"});
    if (!k.enabled && !values_.http.enabled && !values_.grpc.enabled)
      refuse("kafka.enabled", "one door must be open: kafka.enabled, http.enabled or grpc.enabled",
             {"http.enabled", "grpc.enabled"});
    for (std::string_view rest = k.brokers; !rest.empty();) {
      const std::string_view one = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(rest.size(), one.size() + 1));
      if (without_blanks(one) == "embedded" && k.brokers != "embedded") {
        refuse("kafka.brokers",
               value_in_quotes(k.brokers) +
                   " is not allowed; `embedded` stands alone: expected either it, or hosts such as "
                   "broker:9092");
        break;
      }
      if (!is_broker(one))
        refuse("kafka.brokers", in_quotes(one) + " is not allowed; expected host:port, such as broker:9092");
    }
    // Event Hubs gives names that were not read as options.
    for (const char* key : {"kafka.requests_topic", "kafka.results_topic", "kafka.dead_letter_topic"})
      if (binding* b = find(key)) attempt([&] { apply(*b, key, b->get(), origin_of(key, "")); });
    if (k.results_topic == k.requests_topic)
      refuse("kafka.results_topic",
             "must differ from kafka.requests_topic: results would be read as requests",
             {"kafka.requests_topic"});
    if (k.dead_letter_topic == k.requests_topic)
      refuse("kafka.dead_letter_topic",
             "must differ from kafka.requests_topic: dead letters would be read as requests",
             {"kafka.requests_topic"});
    for (const auto* other : {&k.requests_topic, &k.results_topic, &k.dead_letter_topic})
      if (k.parking_topic == *other) {
        refuse("kafka.parking_topic", "must differ from the topics of requests, results and dead letters",
               {"kafka.requests_topic", "kafka.results_topic", "kafka.dead_letter_topic"});
        break;
      }
    if (k.gather_min > k.gather_max)
      refuse("kafka.gather_min", "must not exceed kafka.gather_max", {"kafka.gather_max"});
    if (values_.supervision.backoff_min > values_.supervision.backoff_max)
      refuse("supervision.backoff_min", "must not exceed supervision.backoff_max",
             {"supervision.backoff_max"});
    const auto& r = values_.redis;
    if (!r.tls && !r.tls_ca.empty()) refuse("redis.tls_ca", "needs redis.tls: true", {"redis.tls"});
    if (!r.tls && !r.tls_cert.empty()) refuse("redis.tls_cert", "needs redis.tls: true", {"redis.tls"});
    if (!r.tls_cert.empty() && r.tls_key.empty())
      refuse("redis.tls_cert", "needs redis.tls_key beside it", {"redis.tls_key"});
    if (!r.tls_key.empty() && r.tls_cert.empty())
      refuse("redis.tls_key", "needs redis.tls_cert beside it", {"redis.tls_cert"});
    warn_of_idle_transactions();
    warn_of_idle_security();
    if (values_.models.time_limit > 0 && values_.models.max_hung >= values_.supervision.max_abandoned)
      warn("models.max_hung", "is not reached: calls that hang are threads left alone, and more than " +
                                  std::to_string(values_.supervision.max_abandoned) +
                                  " of them end the process (supervision.max_abandoned)");
    double floors = 0;
    for (const auto& c : values_.classes) floors += c.floor;
    if (floors > 1) refuse("classes", "the floors of all classes together exceed 1");
  }

  /// What only a node has to have: commands that ask one, or show something, do without.
  void check_node() {
    const auto& k = values_.kafka;
    if (values_.faults.enabled && values_.admin.token.empty())
      refuse("faults.enabled",
             "needs admin.token (or TROUPE_ADMIN_TOKEN, or admin.token_file): without it there is no "
             "/admin/faults to inject any through",
             {"admin.token"});
    const auto isolation = k.properties.find("isolation.level");
    if (k.enabled && k.delivery == delivery::exactly_once && isolation != k.properties.end() &&
        lower(isolation->second) == "read_uncommitted")
      refuse(std::string(properties) + ".isolation.level",
             "read_uncommitted does not go with kafka.delivery: exactly_once: requests of an aborted "
             "transaction, which were never made, would be answered too; remove it, or use at_least_once",
             {"kafka.delivery"});
    check_guarantee();
  }

  /// What librdkafka lets properties take from "nothing is lost", once its own checks are off.
  void check_guarantee() {
    const auto& k = values_.kafka;
    const auto own = [&](const char* name) {
      const auto it = k.properties.find(name);
      return it == k.properties.end() ? std::string() : lower(it->second);
    };
    if (!k.enabled || !says_no(own("enable.idempotence"))) return;
    warn(std::string(properties) + ".enable.idempotence",
         "without it an answer whose acknowledgement was lost is there twice, perhaps behind later ones; "
         "remove it, unless the brokers do not let this user write so");
    for (const char* name : {"acks", "request.required.acks"}) {
      const std::string acks = own(name);
      const std::string key = std::string(properties) + "." + name;
      if (acks.empty() || acks == "all" || acks == "-1") continue;
      if (acks == "0")
        refuse(key,
               "0 is not allowed: no broker would say that it has an answer, and the requests of lost ones "
               "would be committed; remove it, or set it to all");
      else
        warn(key, acks +
                      " weakens at least once: an answer counts as written when the leader alone has it, and "
                      "is lost with that broker while its request is committed; remove it, or set it to all");
    }
  }

  /// Credentials and certificates that nobody looks at: the protocol was forgotten.
  void warn_of_idle_security() {
    const auto& k = values_.kafka;
    if (!k.enabled) return;
    const auto set = k.properties.find("security.protocol");
    std::string protocol = set == k.properties.end() ? "plaintext" : set->second;
    std::transform(protocol.begin(), protocol.end(), protocol.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (const auto& [name, value] : k.properties) {
      const bool sasl = name.starts_with("sasl.");
      if (sasl ? protocol.starts_with("sasl") : !name.starts_with("ssl.") || protocol.ends_with("ssl"))
        continue;
      result_.warnings.push_back("kafka.properties." + name +
                                 " has no effect: kafka.properties.security.protocol is " +
                                 (set == k.properties.end() ? std::string("not set") : set->second) +
                                 "; set it to " + (sasl ? "SASL_SSL or SASL_PLAINTEXT" : "SSL or SASL_SSL"));
    }
  }

  /// One file may serve with either delivery: what is meant for the other one does no harm.
  void warn_of_idle_transactions() {
    const auto& k = values_.kafka;
    const kafka_settings usual;
    if (!k.enabled) return;
    if (k.delivery == delivery::exactly_once) {
      if (k.output_order == output_order::completion && origins_.contains("kafka.output_order"))
        result_.warnings.push_back(
            "kafka.output_order: completion has no effect with kafka.delivery: exactly_once, which writes "
            "the "
            "answers of a partition in the order of its records; remove it");
      return;
    }
    std::vector<std::string> idle;
    if (!k.transactional_id.empty()) idle.emplace_back("kafka.transactional_id");
    if (k.transaction_records != usual.transaction_records) idle.emplace_back("kafka.transaction_records");
    if (k.transaction_timeout != usual.transaction_timeout) idle.emplace_back("kafka.transaction_timeout");
    if (k.transaction_groups != usual.transaction_groups) idle.emplace_back("kafka.transaction_groups");
    if (idle.empty()) return;
    const bool one = idle.size() == 1;
    result_.warnings.push_back(joined(idle) + (one ? " has" : " have") +
                               " no effect with kafka.delivery: at_least_once; set kafka.delivery: "
                               "exactly_once, or remove " +
                               (one ? "it" : "them"));
  }

  static std::vector<std::string> parts_of(std::string_view list) {
    std::vector<std::string> all;
    while (!list.empty()) {
      std::string one(list.substr(0, list.find(',')));
      list.remove_prefix(std::min(list.size(), one.size() + 1));
      std::erase(one, ' ');
      if (!one.empty()) all.push_back(std::move(one));
    }
    return all;
  }

  /// As the Origin header of a browser says it.
  static bool is_origin(std::string_view text) {
    if (text == "*" || text == "null") return true;
    const auto scheme = text.find("://");
    if (scheme == std::string_view::npos || scheme == 0) return false;
    const std::string_view host = text.substr(scheme + 3);
    return !host.empty() && host.find_first_of("/?#@*") == std::string_view::npos &&
           std::none_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  }

  void check_auth() {
    const auto& a = values_.auth;
    if (!a.jwks_file.empty() && !a.jwks_url.empty())
      refuse("auth.jwks_url", "set either this or auth.jwks_file, not both");
    if (!a.jwks_url.empty() && !starts_with(a.jwks_url, "http://") && !starts_with(a.jwks_url, "https://"))
      refuse("auth.jwks_url", "expected an address like https://id.example/.well-known/jwks.json");
    const bool tokens = !a.jwks_file.empty() || !a.jwks_url.empty();
    if (a.mode == auth_mode::required && a.keys_file.empty() && !tokens)
      refuse("auth.mode", "required needs auth.keys_file, auth.jwks_file or auth.jwks_url",
             {"auth.keys_file", "auth.jwks_file", "auth.jwks_url"});
    if (!tokens && (!a.jwt_issuer.empty() || !a.jwt_audience.empty()))
      refuse(a.jwt_issuer.empty() ? "auth.jwt_audience" : "auth.jwt_issuer",
             "needs auth.jwks_file or auth.jwks_url", {"auth.jwks_file", "auth.jwks_url"});
    for (const auto& one : parts_of(a.exempt))
      if (one != "health" && one != "metrics" && one != "docs")
        refuse("auth.exempt", in_quotes(one) + " is not allowed; expected health, metrics or docs");
    for (const auto& one : parts_of(values_.http.trusted_proxies))
      if (!policy::parse_network(one))
        refuse("http.trusted_proxies",
               in_quotes(one) + " is not allowed; expected an address or a network such as 10.0.0.0/8");
    for (const auto& one : parts_of(values_.http.cors_origins))
      if (!is_origin(one))
        refuse(
            "http.cors_origins",
            in_quotes(one) +
                " is not allowed; expected an origin as browsers send it: scheme and host, without a path, "
                "such as https://app.example or http://localhost:3000; or *");
    if (a.mode == auth_mode::off && (!a.keys_file.empty() || tokens))
      result_.warnings.push_back(
          std::string(!a.keys_file.empty()   ? "auth.keys_file"
                      : !a.jwks_file.empty() ? "auth.jwks_file"
                                             : "auth.jwks_url") +
          " has no effect, nobody is asked for a key or token: set auth.mode: required");
    if (tokens && (a.jwt_issuer.empty() || a.jwt_audience.empty()))
      result_.warnings.push_back(
          std::string(a.jwt_issuer.empty() ? "auth.jwt_issuer" : "auth.jwt_audience") +
          (a.jwt_issuer.empty() && a.jwt_audience.empty() ? " and auth.jwt_audience are" : " is") +
          " empty: tokens that the provider made for other services are good here");
    const auto& r = values_.rate_limit;
    if (r.burst != 0 && r.burst < 1) refuse("rate_limit.burst", "expected 0 or a number from 1");
  }

  void check_tls(const std::string& section, const tls_settings& t) {
    const auto key = [&](const char* name) { return section + "." + name; };
    if (t.certificate.empty() != t.key.empty())
      refuse(key(t.key.empty() ? "tls_cert" : "tls_key"),
             "needs " + key(t.key.empty() ? "tls_key" : "tls_cert") + " beside it",
             {key("tls_cert"), key("tls_key")});
    if (!t.client_ca.empty() && t.certificate.empty())
      refuse(key("tls_client_ca"), "needs " + key("tls_cert") + " and " + key("tls_key"), {key("tls_cert")});
    if (t.client_required && t.client_ca.empty())
      refuse(key("tls_client_required"), "needs " + key("tls_client_ca"), {key("tls_client_ca")});
  }

  [[nodiscard]] std::string origin_of(const std::string& key,
                                      const std::string& otherwise = "default") const {
    const auto it = origins_.find(key);
    return it == origins_.end() ? otherwise : it->second;
  }

  void show() {
    for (auto& b : bindings_) {
      const std::string& key = b.doc.key;
      if (b.doc.type == value_type::map) {
        for (const auto& [name, value] : values_.kafka.properties) {
          const bool secret = is_secret_property(name);
          add(key + "." + name, value, origin_of(key + "." + name), secret);
        }
      } else if (b.doc.type == value_type::classes) {
        for (auto& c : values_.classes)
          for (auto& field : bind(c)) {
            const std::string name = "classes." + c.name + "." + field.doc.key;
            add(name, field.get(), origin_of(name, origin_of("classes")), false);
          }
      } else if (b.doc.type == value_type::rollouts) {
        for (auto& r : values_.rollout) {
          add("rollout." + r.model + ".version", r.version, origin_of("rollout"), false);
          for (auto& field : bind(r))
            add("rollout." + r.model + "." + field.doc.key, field.get(), origin_of("rollout"), false);
        }
      } else {
        add(key, b.get(), origin_of(key), b.doc.secret);
      }
    }
    result_.values = values_;
  }

  void add(const std::string& key, const std::string& value, const std::string& origin, bool secret) {
    result_.effective.push_back(
        {key, secret && !value.empty() ? std::string(hidden) : value, origin, secret});
  }

  struct older_model {
    std::string name, version, stage;
  };
  older_model older_model_;
  std::function<std::string(const std::string&, const std::string&)> property_fault_;
  std::vector<std::string> wrong_;  // a line for each mistake
  std::set<std::string> unsure_;    // keys and sections that may have been meant otherwise
  std::set<std::string> refused_;   // keys that don't go with others
  bool classes_unsure_ = false;     // an entry of the file is wrong: a class that is missing may be that one
  settings values_;
  std::vector<binding> bindings_ = bind(values_);
  std::map<std::string, std::string> origins_;
  loaded result_;
};

}  // namespace

void set_rollout_field(policy::rollout_spec& spec, const std::string& name, const std::string& text) {
  if (name == "model" || name == "version") {
    (name == "model" ? spec.model : spec.version) = text;
    return;
  }
  std::vector<std::string> known = {"model", "version"};
  for (auto& b : bind(spec)) {
    known.push_back(b.doc.key);
    if (b.doc.key != name) continue;
    try {
      b.set(text);
    } catch (const value_error& e) {
      throw config_error(name + ": " + in_quotes(text) + " is not allowed; expected " + e.what());
    }
    return;
  }
  throw config_error("unknown field " + in_quotes(name) + suggestion(name, known));
}

loaded load(const sources& from) {
  return loader().run(from);
}

}  // namespace troupe::config
