// troupe fault run: steady, then fault after fault, each watched until the node is steady again.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <deque>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/fault/client.hpp"
#include "cli/fault/outcome.hpp"
#include "cli/fault/watch.hpp"
#include "runtime/faults/fault_json.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;

constexpr auto look_every = std::chrono::milliseconds(250);
constexpr int patience_s = 1;    // for one answer of the node
constexpr double judged_s = 1;   // over which a recovery is measured
constexpr double settled_s = 2;  // for which it must hold

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string joined(const std::vector<std::string>& all) {
  std::string text;
  for (const auto& one : all) text += (text.empty() ? "" : "; ") + one;
  return text;
}

class runner {
 public:
  runner(scenario s, const admin_client& node) : scenario_(std::move(s)), node_(node) {}

  int run(bool as_json) {
    say(scenario_.name.empty() ? "scenario" : scenario_.name.c_str());
    std::string broken = refused();
    if (!broken.empty())
      broken = "nothing injected: " + broken;
    else if (broken = warm_up(); !broken.empty())
      broken = "not steady, nothing injected: " + broken;
    else
      inject_all();
    if (stop_requested()) broken = "interrupted";
    const bool passed = broken.empty() && outcomes_.size() == scenario_.steps.size() &&
                        std::all_of(outcomes_.begin(), outcomes_.end(),
                                    [](const step_outcome& o) { return o.why_failed.empty(); });
    if (as_json) std::printf("%s\n", document(passed, broken).dump().c_str());
    table(passed, broken);
    return passed ? ok : failed;
  }

 private:
  static void say(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }

  void inject_all() {
    say("steady");
    for (const auto& step : scenario_.steps) {
      outcomes_.push_back(one(step));
      const auto& o = outcomes_.back();
      if (!o.why_failed.empty() && !o.recovered_s) break;  // nothing more to learn from a node that is down
      if (&step != &scenario_.steps.back()) pause(step.wait_s);
    }
  }

  /// Which steps the node would not take now, each with its place in the file.
  [[nodiscard]] std::string refused() const {
    std::vector<std::string> all;
    for (const auto& step : scenario_.steps) {
      try {
        (void)node_.post("/admin/faults/check", step.body);
      } catch (const std::runtime_error& e) {
        all.push_back(step.place + ": " + e.what());
      }
    }
    return joined(all);
  }

  /// Looks at the node, and keeps the looks of the window.
  const look& glance() {
    look l;
    const double begun = now_s();
    try {
      const http_answer metrics = node_.plain("/metrics", patience_s);
      const http_answer ready = node_.plain("/ready", patience_s);
      if (metrics.status == 200) l = read_look(metrics.body, ready.body, ready.status);
    } catch (const std::runtime_error&) {  // it does not answer
    }
    l.at_s = begun;
    looks_.push_back(std::move(l));
    const double most = std::max(scenario_.window_s, judged_s) + 2;
    while (looks_.size() > 2 && looks_.front().at_s < begun - most) looks_.pop_front();
    return looks_.back();
  }

  /// What does not hold over the last `seconds`; nullopt: not watched for so long.
  [[nodiscard]] std::optional<std::vector<std::string>> lately(double seconds) const {
    const look& last = looks_.back();
    if (!last.answers) return std::vector<std::string>{"the node does not answer"};
    for (auto it = looks_.rbegin(); it != looks_.rend(); ++it) {
      if (!it->answers) return std::nullopt;
      if (it->at_s <= last.at_s - seconds) return objections(scenario_.steady, between(*it, last));
    }
    return std::nullopt;
  }

  static void rest() { std::this_thread::sleep_for(look_every); }

  void pause(double seconds) {
    for (const double until = now_s() + seconds; now_s() < until && !stop_requested();) {
      (void)glance();
      rest();
    }
  }

  std::string warm_up() {
    const double until = now_s() + std::max(scenario_.warm_up_s, scenario_.window_s + 1);
    std::optional<std::vector<std::string>> wrong;
    while (!stop_requested()) {
      (void)glance();
      wrong = lately(scenario_.window_s);
      if (wrong && wrong->empty()) return {};
      if (now_s() > until) return wrong ? joined(*wrong) : "the node does not answer";
      rest();
    }
    return "interrupted";
  }

  step_outcome one(const scenario_step& step) {
    step_outcome o;
    o.fault = step.fault;
    const std::string name(faults::info(step.fault.what).name);
    const look before = glance();
    const auto noisy = noise(looks_.front(), before);
    say("injecting " + name);
    const double begun = now_s();
    std::uint64_t id = 0;
    try {
      const auto got = json::parse(node_.post("/admin/faults", step.body));
      id = got.at("id");
      o.strikes = got.at("strikes");
      if (got.contains("actor")) o.fault.actor = got["actor"];  // which one `random` was
    } catch (const std::exception& e) {
      o.why_failed = std::string("not injected: ") + e.what();
      return o;
    }
    double ended = -1;  // when the fault was over
    double holds_since = -1;
    look last = before;
    look over = before;  // as the fault ended
    std::vector<std::string> wrong;
    while (!stop_requested()) {
      rest();
      const look now = glance();
      if (now.answers) last = now;
      if (ended < 0 && now.answers) {
        over = now;
        const seen s = seen_of(id);
        // One that a restarted node no longer knows had struck before, or nobody can tell.
        if (s.strikes || (!s.active && o.strikes == std::uint64_t{0})) o.strikes = s.strikes;
        if (!s.active) {
          ended = now_s();
          say(name + " is over");
        }
      }
      const auto not_held = lately(judged_s);
      detect(o, signs(before, now, noisy), not_held, begun);
      wrong = lasting_signs(before, now);
      if (not_held) wrong.insert(wrong.end(), not_held->begin(), not_held->end());
      if (!not_held) wrong.emplace_back("not watched for long enough");
      if (!wrong.empty())
        holds_since = -1;
      else if (holds_since < 0)
        holds_since = now.at_s;
      if (ended < 0 && now_s() - begun > bound(step)) {
        o.why_failed = "the fault did not end by itself";
        break;
      }
      if (ended >= 0 && holds_since >= 0 && now.at_s - std::max(holds_since, ended) >= settled_s) {
        o.recovered_s = std::max(0.0, holds_since - ended);
        break;
      }
      if (ended >= 0 && holds_since < 0 && now.at_s - ended > scenario_.recover_within_s) break;
    }
    if (ended < 0 && stop_requested()) end_fault(id);
    o.failed = last.pipeline.errors + last.api.errors - before.pipeline.errors - before.api.errors;
    o.answered = last.pipeline.requests + last.api.requests - before.pipeline.requests - before.api.requests;
    if (o.why_failed.empty())
      o.why_failed = judge(o, step, wrong, not_exercised(step, o.strikes, before, over));
    say(name + (o.why_failed.empty() ? ": passed" : ": " + o.why_failed));
    return o;
  }

  /// Nobody watches it any more.
  void end_fault(std::uint64_t id) const {
    try {
      (void)node_.remove("/admin/faults/" + std::to_string(id));
    } catch (const std::exception& e) {
      say("the fault stays until its time is over; troupe fault stop " + std::to_string(id) + ": " +
          e.what());
    }
  }

  /// How long the fault may be there: its duration, and what looking costs.
  static double bound(const scenario_step& step) {
    return static_cast<double>(step.fault.duration) * 1e-9 + 15;
  }

  struct seen {
    bool active = true;
    std::optional<std::uint64_t> strikes;  // unset: the node did not say, or knows no such fault
  };
  [[nodiscard]] seen seen_of(std::uint64_t id) const {
    try {
      const auto all = json::parse(node_.get("/admin/faults"));
      for (const auto& f : all.at("faults"))
        if (f.at("id") == id) return {f.at("state") == "active", f.at("strikes").get<std::uint64_t>()};
      return {false, std::nullopt};
    } catch (const std::exception&) {
      return {};
    }
  }

  static void detect(step_outcome& o, std::vector<std::string> found,
                     const std::optional<std::vector<std::string>>& not_held, double begun) {
    if (o.detected_s) return;
    if (not_held) found.insert(found.end(), not_held->begin(), not_held->end());
    if (found.empty()) return;
    o.detected_s = now_s() - begun;
    o.sign = found.front();
  }

  [[nodiscard]] std::string judge(const step_outcome& o, const scenario_step& step,
                                  const std::vector<std::string>& wrong, const std::string& idle) const {
    if (stop_requested()) return "interrupted";
    if (!o.recovered_s)
      return "not recovered within " + plain_number(scenario_.recover_within_s) + " s: " + joined(wrong);
    if (*o.recovered_s > scenario_.recover_within_s)
      return "recovered after " + plain_number(*o.recovered_s) + " s, not within " +
             plain_number(scenario_.recover_within_s) + " s";
    if (!idle.empty()) return idle;
    if (scenario_.detect_within_s && (!o.detected_s || *o.detected_s > *scenario_.detect_within_s))
      return o.detected_s ? "detected after " + plain_number(*o.detected_s) + " s, not within " +
                                plain_number(*scenario_.detect_within_s) + " s"
                          : "never detected";
    if (step.failed_at_most && o.failed > static_cast<double>(*step.failed_at_most))
      return plain_number(o.failed) + " requests failed, at most " + std::to_string(*step.failed_at_most) +
             " may";
    return {};
  }

  [[nodiscard]] json document(bool passed, const std::string& broken) const {
    const auto rounded = [](const std::optional<double>& v) {
      return v ? json(std::round(*v * 1000) / 1000) : json();
    };
    json steps = json::array();
    for (const auto& o : outcomes_) {
      json j = {{"fault", faults::info(o.fault.what).name}, {"passed", o.why_failed.empty()}};
      j.update(json::parse(faults::fields_json(o.fault)));
      j["strikes"] = o.strikes ? json(*o.strikes) : json();
      j["detected_s"] = rounded(o.detected_s);
      j["sign"] = o.sign.empty() ? json() : json(o.sign);
      j["recovered_s"] = rounded(o.recovered_s);
      j["failed"] = o.failed;
      j["answered"] = o.answered;
      if (!o.why_failed.empty()) j["why"] = o.why_failed;
      steps.push_back(std::move(j));
    }
    json j = {{"name", scenario_.name}, {"passed", passed}, {"steps", steps}};
    if (!broken.empty()) j["why"] = broken;
    return j;
  }

  void table(bool passed, const std::string& broken) const {
    std::fprintf(stderr, "%s%s%s\n", outcome_table(outcomes_).c_str(), passed ? "passed" : "FAILED",
                 broken.empty() ? "" : (": " + broken).c_str());
  }

  scenario scenario_;
  const admin_client& node_;
  std::deque<look> looks_;
  std::vector<step_outcome> outcomes_;
};

}  // namespace

int fault_run(const fault_options& o) {
  scenario s = parse_scenario(read_text(o.file), o.file == "-" ? "standard input" : o.file);
  const admin_client node = fault_client(o);
  (void)stop_requested();
  // Refused here rather than after the warm-up: no token, faults are off, nobody is there.
  (void)node.get("/admin/faults");
  return runner(std::move(s), node).run(o.common.json);
}

}  // namespace troupe::cli
