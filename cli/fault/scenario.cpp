#include "cli/fault/scenario.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "runtime/config/units.hpp"
#include "runtime/policy/keys_once.hpp"
#include "runtime/policy/nearest.hpp"

namespace troupe::cli {
namespace {

struct mistake {
  int line;  ///< 0: that of the key
  std::string text;
};

/// All that is wrong with a file.
class mistakes {
 public:
  explicit mistakes(std::string file) : file_(std::move(file)) {}

  void add(int line, const std::string& text) { all_.push_back({line, text}); }
  [[nodiscard]] std::string place(int line) const { return file_ + ":" + std::to_string(line) + ": "; }

  /// Throws usage_error if there is any: a line each, in the order of the file.
  void end() {
    std::stable_sort(all_.begin(), all_.end(),
                     [](const mistake& a, const mistake& b) { return a.line < b.line; });
    std::string lines;
    for (const auto& m : all_) lines += (lines.empty() ? "" : "\n") + place(m.line) + m.text;
    if (!lines.empty()) throw usage_error(lines);
  }

 private:
  std::string file_;
  std::vector<mistake> all_;
};

int line_of(const YAML::Node& node) {
  return std::max(0, node.Mark().line) + 1;
}

/// One mapping of the file, whose keys must all be known.
class reader {
 public:
  /// `path` is what its keys stand below, `joint` what is between it and a key.
  reader(mistakes& to, std::string path, const YAML::Node& node, const char* joint = ".")
      : to_(to), path_(std::move(path)), joint_(joint), node_(node) {}

  /// Calls `take(key, value)` for each; it returns false for a key that it does not know. What is wrong with
  /// one is noted, and the next one is read.
  template <class F>
  void each(const std::vector<std::string>& known, F take) const {
    if (!node_.IsMap())
      return to_.add(line_of(node_), (path_.empty() ? "" : path_ + ": ") + "expected keys and values");
    policy::keys_once seen;
    for (const auto& entry : node_) {
      const int line = line_of(entry.first);
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
      if (const std::string twice = seen.again(key, line); !twice.empty()) {
        to_.add(line, of(key) + " " + twice);
        continue;
      }
      try {
        if (!take(key, entry.second)) to_.add(line, of(key) + ": " + unknown(key, known));
      } catch (const mistake& m) {
        to_.add(m.line == 0 ? line : m.line, m.text);
      }
    }
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string of(const std::string& key) const {
    return path_.empty() ? key : path_ + joint_ + key;
  }
  [[nodiscard]] mistakes& all() const { return to_; }

  [[noreturn]] void fail(const YAML::Node& at, const std::string& key, const std::string& what) const {
    throw mistake{at.IsNull() ? 0 : line_of(at), of(key) + ": " + what};
  }

  [[nodiscard]] std::string text(const std::string& key, const YAML::Node& v) const {
    if (v.IsNull()) fail(v, key, "has no value; give one or remove the line");
    if (!v.IsScalar()) fail(v, key, "expected one value");
    return v.Scalar();
  }
  [[nodiscard]] double seconds(const std::string& key, const YAML::Node& v, std::int64_t least = 0) const {
    constexpr std::int64_t most = 24 * 3'600'000'000'000;
    const auto n = config::parse_duration(text(key, v));
    if (!n || *n < least || *n > most)
      fail(v, key,
           "expected a duration from " + config::format_duration(least) + " to " +
               config::format_duration(most) + (n ? "" : ", written like 500ms or 5s") + ", not " +
               text(key, v));
    return static_cast<double>(*n) / 1e9;
  }
  [[nodiscard]] double share(const std::string& key, const YAML::Node& v) const {
    const std::string s = text(key, v);
    char* end = nullptr;
    double n = std::strtod(s.c_str(), &end);
    if (*end == '%') {
      n /= 100;
      ++end;
    }
    if (s.empty() || *end != '\0' || !(n >= 0) || !(n <= 1))
      fail(v, key, "expected a share from 0 to 1, or a percentage from 0% to 100%, not " + s);
    return n;
  }
  [[nodiscard]] double number(const std::string& key, const YAML::Node& v) const {
    const std::string s = text(key, v);
    char* end = nullptr;
    const double n = std::strtod(s.c_str(), &end);
    if (s.empty() || *end != '\0' || !(n >= 0) || !(n <= 1e12))
      fail(v, key, "expected a number from 0 to 1000000000000, not " + s);
    return n;
  }
  [[nodiscard]] std::uint64_t count(const std::string& key, const YAML::Node& v) const {
    constexpr std::uint64_t most = 1'000'000'000'000;
    const std::string s = text(key, v);
    std::uint64_t n = 0;
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), n);
    if (error != std::errc() || end != s.data() + s.size() || n > most)
      fail(v, key, "expected a whole number from 0 to " + std::to_string(most) + ", not " + s);
    return n;
  }
  [[nodiscard]] bool flag(const std::string& key, const YAML::Node& v) const {
    if (text(key, v) != "true" && text(key, v) != "false")
      fail(v, key, "expected true or false, not " + text(key, v));
    return text(key, v) == "true";
  }
  [[nodiscard]] reader within(const std::string& key, const YAML::Node& v) const { return {to_, of(key), v}; }

 private:
  static std::string unknown(const std::string& key, const std::vector<std::string>& known) {
    const std::string near = policy::nearest(key, known, 3);
    std::string all;
    for (const auto& k : known) all += (all.empty() ? "" : ", ") + k;
    return "unknown" + (near.empty() ? "" : "; did you mean " + near + "?") + "; allowed: " + all;
  }

  mistakes& to_;
  std::string path_;
  const char* joint_;
  YAML::Node node_;
};

latency_objective objective(const reader& r, latency_objective o) {
  r.each({"p95", "p99", "errors"}, [&](const std::string& key, const YAML::Node& v) {
    if (key == "p95")
      o.p95_s = r.seconds(key, v);
    else if (key == "p99")
      o.p99_s = r.seconds(key, v);
    else if (key == "errors")
      o.errors = r.share(key, v);
    else
      return false;
    return true;
  });
  return o;
}

steady_state steady(const reader& r) {
  steady_state s;
  r.each({"pipeline", "api", "lag", "throughput", "ready", "degraded"},
         [&](const std::string& key, const YAML::Node& v) {
           if (key == "pipeline")
             s.pipeline = objective(r.within(key, v), s.pipeline);
           else if (key == "api")
             s.api = objective(r.within(key, v), s.api);
           else if (key == "lag")
             s.lag_s = r.seconds(key, v);
           else if (key == "throughput")
             s.throughput = r.number(key, v);
           else if (key == "ready")
             s.ready = r.flag(key, v);
           else if (key == "degraded")
             s.degraded = r.flag(key, v);
           else
             return false;
           return true;
         });
  return s;
}

/// A number stays one: whether that is right is for the fault's own reader to say.
nlohmann::json scalar(const YAML::Node& v, const std::string& key) {
  const std::string s = v.Scalar();
  if (v.Tag() == "!" || key == "version" || key == "model" || key == "actor") return s;
  char* end = nullptr;
  const double n = std::strtod(s.c_str(), &end);
  if (s.empty() || *end != '\0') return s;
  if (s.find_first_not_of("0123456789") == std::string::npos && s.size() < 19) return std::stoull(s);
  return n;
}

const std::vector<std::string> of_the_step = {"wait", "failed_at_most", "strikes_at_least"};

/// What is wrong with its fault, each at the line of its field.
void note(const faults::bad_fault& e, const reader& r, int line, const std::map<std::string, int>& lines,
          const nlohmann::json& body) {
  for (const auto& m : e.all) {
    const std::string key = m.field.empty() ? "fault" : m.field;
    const auto at = lines.find(key);
    if (at != lines.end() && !body.contains(key)) continue;  // it was there, and is noted already
    r.all().add(at == lines.end() ? line : at->second,
                (m.field.empty() ? r.path() : r.of(m.field)) + ": " + m.what);
  }
}

scenario_step step(const reader& r, const YAML::Node& node) {
  scenario_step s;
  s.place = r.all().place(line_of(node)) + r.path();
  nlohmann::json body = nlohmann::json::object();
  std::map<std::string, int> lines;  // of the fault's fields
  r.each({}, [&](const std::string& key, const YAML::Node& v) {
    if (key == "wait") {
      s.wait_s = r.seconds(key, v);
    } else if (key == "failed_at_most") {
      s.failed_at_most = r.count(key, v);
    } else if (key == "strikes_at_least") {
      s.strikes_at_least = r.count(key, v);
    } else {
      lines[key] = line_of(v);
      (void)r.text(key, v);
      body[key] = scalar(v, key);
    }
    return true;
  });
  if (!node.IsMap()) return s;
  // The node has the last word on its own bounds.
  s.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  try {
    s.fault = faults::parse_fault(s.body, faults::widest, of_the_step);
  } catch (const faults::bad_fault& e) {
    note(e, r, line_of(node), lines, body);
  }
  return s;
}

void read_steps(const reader& r, const YAML::Node& v, scenario& s) {
  if (!v.IsSequence()) r.fail(v, "steps", "expected a list of faults, such as [{fault: redis_cut}]");
  if (v.size() == 0) r.fail(v, "steps", "expected at least one fault");
  for (std::size_t i = 0; i < v.size(); ++i)
    s.steps.push_back(step(reader(r.all(), "step " + std::to_string(i + 1), v[i], ": "), v[i]));
}

}  // namespace

scenario parse_scenario(const std::string& text, const std::string& file) {
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    throw usage_error(file + ":" + std::to_string(e.mark.line + 1) + ": " + e.msg);
  }
  if (root.IsNull())
    throw usage_error(
        file + ": has no scenario in it; expected at least steps: [{fault: NAME}], see docs/faults.md");
  scenario s;
  mistakes wrong(file);
  const reader r(wrong, "", root);
  bool has_steps = false;
  r.each({"name", "steady_state", "window", "warm_up", "detect_within", "recover_within", "steps"},
         [&](const std::string& key, const YAML::Node& v) {
           if (key == "name") {
             s.name = r.text(key, v);
           } else if (key == "steady_state") {
             s.steady = steady(r.within(key, v));
           } else if (key == "window") {
             s.window_s = r.seconds(key, v, 500'000'000);
           } else if (key == "warm_up") {
             s.warm_up_s = r.seconds(key, v);
           } else if (key == "detect_within") {
             s.detect_within_s = r.seconds(key, v);
           } else if (key == "recover_within") {
             s.recover_within_s = r.seconds(key, v);
           } else if (key == "steps") {
             has_steps = true;
             read_steps(r, v, s);
           } else {
             return false;
           }
           return true;
         });
  wrong.end();
  // Not beside other mistakes: a key that is misspelt may be it.
  if (!has_steps) throw usage_error(file + ": steps: missing; expected a list of faults");
  return s;
}

}  // namespace troupe::cli
