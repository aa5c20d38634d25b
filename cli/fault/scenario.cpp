#include "cli/fault/scenario.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "runtime/config/units.hpp"
#include "runtime/policy/nearest.hpp"

namespace troupe::cli {
namespace {

/// One mapping of the file, whose keys must all be known.
class reader {
 public:
  reader(std::string file, std::string path, const YAML::Node& node)
      : file_(std::move(file)), path_(std::move(path)), node_(node) {
    if (!node_.IsMap()) fail(node_, path_, "expected keys and values");
  }

  /// Calls `take(key, value)` for each; it returns false for a key that it does not know.
  template <class F>
  void each(const std::vector<std::string>& known, F take) const {
    for (const auto& entry : node_) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
      if (take(key, entry.second)) continue;
      const std::string near = policy::nearest(key, known, 3);
      std::string all;
      for (const auto& k : known) all += (all.empty() ? "" : ", ") + k;
      fail(entry.first, of(key),
           "unknown" + (near.empty() ? "" : "; did you mean " + near + "?") + "; allowed: " + all);
    }
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string of(const std::string& key) const {
    return path_.empty() ? key : path_ + "." + key;
  }

  [[nodiscard]] std::string place(const YAML::Node& at, const std::string& key) const {
    return file_ + ":" + std::to_string(std::max(0, at.Mark().line) + 1) + (key.empty() ? "" : ": ") + key;
  }
  [[noreturn]] void fail(const YAML::Node& at, const std::string& key, const std::string& what) const {
    throw usage_error(place(at, key) + ": " + what);
  }

  [[nodiscard]] std::string text(const std::string& key, const YAML::Node& v) const {
    if (!v.IsScalar()) fail(v, of(key), "expected one value");
    return v.Scalar();
  }
  [[nodiscard]] double seconds(const std::string& key, const YAML::Node& v, std::int64_t least = 0) const {
    constexpr std::int64_t most = 24 * 3'600'000'000'000;
    const auto n = config::parse_duration(text(key, v));
    if (!n || *n < least || *n > most)
      fail(v, of(key),
           "expected a duration from " + config::format_duration(least) + " to " +
               config::format_duration(most) + ", written like 500ms or 5s, not " + text(key, v));
    return static_cast<double>(*n) * 1e-9;
  }
  [[nodiscard]] double number(const std::string& key, const YAML::Node& v, double most) const {
    const std::string s = text(key, v);
    char* end = nullptr;
    double n = std::strtod(s.c_str(), &end);
    if (*end == '%' && most == 1) {
      n /= 100;
      ++end;
    }
    if (s.empty() || *end != '\0' || !(n >= 0) || !(n <= most))
      fail(v, of(key),
           most == 1 ? "expected a share from 0 to 1, or a percentage such as 0.1%, not " + s
                     : "expected a number, 0 or more, not " + s);
    return n;
  }
  [[nodiscard]] bool flag(const std::string& key, const YAML::Node& v) const {
    if (text(key, v) != "true" && text(key, v) != "false") fail(v, of(key), "expected true or false");
    return text(key, v) == "true";
  }
  [[nodiscard]] reader within(const std::string& key, const YAML::Node& v) const {
    return {file_, of(key), v};
  }

 private:
  std::string file_, path_;
  YAML::Node node_;
};

latency_objective objective(const reader& r, latency_objective o) {
  r.each({"p95", "p99", "errors"}, [&](const std::string& key, const YAML::Node& v) {
    if (key == "p95")
      o.p95_s = r.seconds(key, v);
    else if (key == "p99")
      o.p99_s = r.seconds(key, v);
    else if (key == "errors")
      o.errors = r.number(key, v, 1);
    else
      return false;
    return true;
  });
  return o;
}

steady_state steady(const reader& r) {
  steady_state s;
  r.each({"pipeline", "api", "lag", "throughput", "ready"}, [&](const std::string& key, const YAML::Node& v) {
    if (key == "pipeline")
      s.pipeline = objective(r.within(key, v), s.pipeline);
    else if (key == "api")
      s.api = objective(r.within(key, v), s.api);
    else if (key == "lag")
      s.lag_s = r.seconds(key, v);
    else if (key == "throughput")
      s.throughput = r.number(key, v, 1e12);
    else if (key == "ready")
      s.ready = r.flag(key, v);
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

scenario_step step(const reader& r, const YAML::Node& node) {
  scenario_step s;
  s.place = r.place(node, r.path());
  nlohmann::json body = nlohmann::json::object();
  r.each({}, [&](const std::string& key, const YAML::Node& v) {
    if (key == "wait")
      s.wait_s = r.seconds(key, v);
    else if (key == "failed_at_most")
      s.failed_at_most = static_cast<std::uint64_t>(r.number(key, v, 1e15));
    else if (key == "strikes_at_least")
      s.strikes_at_least = static_cast<std::uint64_t>(r.number(key, v, 1e15));
    else
      body[key] = scalar((static_cast<void>(r.text(key, v)), v), key);
    return true;
  });
  // The node has the last word on its own bounds.
  try {
    s.body = body.dump();
    s.fault = faults::parse_fault(s.body, faults::widest);
  } catch (const std::exception& e) {
    r.fail(node, r.path(), e.what());
  }
  return s;
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
  const reader r(file, "", root);
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
             if (!v.IsSequence()) r.fail(v, key, "expected a list of faults");
             for (std::size_t i = 0; i < v.size(); ++i)
               s.steps.push_back(step(r.within("steps[" + std::to_string(i) + "]", v[i]), v[i]));
           } else {
             return false;
           }
           return true;
         });
  if (s.steps.empty()) throw usage_error(file + ": steps: expected at least one fault");
  return s;
}

}  // namespace troupe::cli
