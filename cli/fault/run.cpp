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
#include "runtime/kafka/client.hpp"

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

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

class runner {
 public:
  /// `run` has its scenario and steps, and is given what comes of them.
  runner(run_outcome& run, const admin_client& node) : run_(run), scenario_(*run.what), node_(node) {}

  void run() {
    say(run_.name());
    if (const auto why = refused(); !why.empty())
      run_.error = listed("nothing injected", why);
    else if (const auto unsteady = warm_up(); !unsteady.empty())
      run_.error = listed("not steady, nothing injected", unsteady);
    else if (!stop_requested())
      inject_all();
    const bool all_done = std::none_of(run_.steps.begin(), run_.steps.end(), [](const step_outcome& o) {
      return o.result == outcome::not_run || o.result == outcome::interrupted;
    });
    run_.interrupted = stop_requested() && !all_done;
    if (run_.interrupted) run_.error = "interrupted";
    for (auto& o : run_.steps)
      if (o.result == outcome::not_run && o.why.empty())
        o.why = "not begun" + (run_.interrupted ? ": interrupted" : not_begun_);
  }

 private:
  static void say(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }
  [[nodiscard]] std::string number_of(std::size_t i) const { return "step " + std::to_string(i + 1); }
  void say(std::size_t i, const std::string& text) const {
    say(number_of(i) + " of " + std::to_string(scenario_.steps.size()) + ": " + text);
  }

  void inject_all() {
    say("steady");
    for (std::size_t i = 0; i < scenario_.steps.size() && !stop_requested(); ++i) {
      one(i);
      const auto& o = run_.steps[i];
      if (o.result == outcome::interrupted) break;
      if (!o.started_ms || !o.recovered_s) {  // nothing more to learn from a node that is down
        not_begun_ = ": " + number_of(i) + (o.started_ms ? " did not recover" : " was not injected");
        break;
      }
      if (i + 1 < scenario_.steps.size()) pause(scenario_.steps[i].wait_s);
    }
  }

  /// Which steps the node would not take now, each with its place in the file.
  [[nodiscard]] std::vector<std::string> refused() {
    std::vector<std::string> all;
    for (std::size_t i = 0; i < scenario_.steps.size() && !stop_requested(); ++i) {
      const auto& step = scenario_.steps[i];
      try {
        (void)node_.post("/admin/faults/check", step.body);
      } catch (const std::runtime_error& e) {
        run_.steps[i].why = e.what();
        all.push_back(step.place + ": " + e.what());
      }
    }
    return all;
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

  std::vector<std::string> warm_up() {
    const double until = now_s() + std::max(scenario_.warm_up_s, scenario_.window_s + 1);
    std::optional<std::vector<std::string>> wrong;
    while (!stop_requested()) {
      (void)glance();
      wrong = lately(scenario_.window_s);
      // What is worse than it should be already hides what a fault makes of it.
      if (wrong && !scenario_.steady.degraded)
        for (const auto& why : looks_.back().degraded) wrong->push_back("degraded: " + why);
      if (wrong && wrong->empty()) return {};
      if (now_s() > until) return wrong ? *wrong : std::vector<std::string>{"the node does not answer"};
      rest();
    }
    return {"interrupted"};
  }

  void one(std::size_t i) {
    const scenario_step& step = scenario_.steps[i];
    step_outcome& o = run_.steps[i];
    const std::string name(faults::info(step.fault.what).name);
    const look before = glance();
    const auto noisy = noise(looks_.front(), before);
    say(i, "injecting " + name);
    const double begun = now_s();
    const std::int64_t begun_ms = now_ms();
    std::uint64_t id = 0;
    try {
      const auto got = json::parse(node_.post("/admin/faults", step.body));
      id = got.at("id");
      o.strikes = got.at("strikes");
      if (got.contains("actor")) o.fault.actor = got["actor"];  // which one `random` was
    } catch (const std::exception& e) {
      o.why = std::string("not injected: ") + e.what();
      if (i > 0 && !before.answers) o.result = outcome::failed;  // it did, after the step before
      run_.error = number_of(i) + ": " + o.why;
      return;
    }
    o.started_ms = begun_ms;
    std::string why;
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
          say(i, name + " is over");
          if (s.stopped)
            why = "somebody else stopped it after " + plain_number(std::round(ended - begun)) + " s";
        }
      }
      const auto not_held = lately(judged_s);
      auto found = signs(before, now, noisy);
      if (not_held) found.insert(found.end(), not_held->begin(), not_held->end());
      // One that is over as it begins shows only afterwards.
      const bool gone = ended >= 0 && !faults::at_once(step.fault);
      if (auto sign = first_sign(found, gone ? now.at_s - ended : -1); sign && !o.detected_s) {
        o.detected_s = now_s() - begun;
        o.sign = std::move(*sign);
      }
      wrong = lasting_signs(before, now);
      if (not_held) wrong.insert(wrong.end(), not_held->begin(), not_held->end());
      if (!not_held) wrong.emplace_back("not watched for long enough");
      if (!wrong.empty())
        holds_since = -1;
      else if (holds_since < 0)
        holds_since = now.at_s;
      if (!now.answers && now.at_s - last.at_s > gone_s(step)) {
        why = "the node has not answered for " + plain_number(std::round(now.at_s - last.at_s)) + " s";
        break;
      }
      if (ended < 0 && now.answers && now_s() - begun > bound(step)) {
        why = "the fault did not end by itself";
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
    if (!o.recovered_s && why.empty() && stop_requested()) {
      o.result = outcome::interrupted;
      o.why = "interrupted";
    } else {
      o.why = !why.empty() ? why : judge(o, step, wrong, not_exercised(step, o.strikes, before, over));
      o.result = o.why.empty() ? outcome::passed : outcome::failed;
    }
    say(i, name + ": " + (o.why.empty() ? "passed" : o.why));
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

  /// How long a node may not answer: while the fault is there (it may freeze the node), and then to recover.
  [[nodiscard]] double gone_s(const scenario_step& step) const {
    return bound(step) + scenario_.recover_within_s;
  }

  struct seen {
    bool active = true;
    bool stopped = false;                  // before its time, by somebody
    std::optional<std::uint64_t> strikes;  // unset: the node did not say, or knows no such fault
  };
  [[nodiscard]] seen seen_of(std::uint64_t id) const {
    try {
      const auto all = json::parse(node_.get("/admin/faults"));
      for (const auto& f : all.at("faults"))
        if (f.at("id") == id) {
          const std::string how = f.value("ended", "");
          return {f.at("state") == "active", !how.empty() && how != "over" && how != "done",
                  f.at("strikes").get<std::uint64_t>()};
        }
      return {false, false, std::nullopt};
    } catch (const std::exception&) {
      return {};
    }
  }

  [[nodiscard]] std::string judge(const step_outcome& o, const scenario_step& step,
                                  const std::vector<std::string>& wrong, const std::string& idle) const {
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
      return plain_number(o.failed) + (o.failed == 1 ? " request" : " requests") + " failed, at most " +
             std::to_string(*step.failed_at_most) + " may";
    return {};
  }

  run_outcome& run_;
  const scenario& scenario_;
  const admin_client& node_;
  std::deque<look> looks_;
  std::string not_begun_;  // why the rest was not
};

std::string last_line(const run_outcome& run) {
  const std::string why = run.error.empty() ? "" : ": " + run.error;
  switch (run.result()) {
    case outcome::passed:
      return "passed";
    case outcome::failed:
      return "FAILED" + why;
    case outcome::interrupted:
      return "interrupted";
    case outcome::not_run:
      break;
  }
  return "not run" + why;
}

}  // namespace

int fault_run(const fault_options& o) {
  (void)stop_requested();
  run_outcome run;
  run.file = o.file == "-" ? "standard input" : o.file;
  run.started_ms = now_ms();
  const double begun = now_s();
  const auto tell = [&] {
    run.seconds = now_s() - begun;
    if (o.common.json) std::printf("%s\n", outcome_document(run).c_str());
  };
  const auto could_not = [&](const std::exception& e) {
    run.error = e.what();
    for (auto& step : run.steps)
      if (step.result == outcome::not_run && step.why.empty()) step.why = "not begun";
    tell();
  };
  try {
    usage_mistakes wrong;
    wrong.attempt([&] {
      if (!o.url.empty()) run.url = node_url(o.url, "--url");
    });
    wrong.attempt([&] { run.what = parse_scenario(read_text(o.file), run.file); });
    wrong.end();
    for (const auto& step : run.what->steps) run.steps.emplace_back().fault = step.fault;
    const admin_client node = fault_client(o);
    run.url = node.url();
    // Refused here rather than after the warm-up: faults are off, the token is another, nobody is there.
    (void)node.get("/admin/faults");
    runner(run, node).run();
  } catch (const usage_error& e) {
    could_not(e);
    throw;
  } catch (const config::config_error& e) {
    could_not(e);
    throw;
  } catch (const kafka::property_error& e) {
    could_not(e);
    throw;
  } catch (const std::exception& e) {
    could_not(e);
    tell_error(e.what());
    return not_run;
  }
  tell();
  std::fprintf(stderr, "%s%s\n", outcome_table(run.steps).c_str(), last_line(run).c_str());
  switch (run.result()) {
    case outcome::passed:
      return ok;
    case outcome::failed:
      return failed;
    case outcome::interrupted:
    case outcome::not_run:
      break;
  }
  return not_run;
}

}  // namespace troupe::cli
