#include "cli/fault/outcome.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "runtime/config/units.hpp"
#include "runtime/faults/fault_json.hpp"

namespace troupe::cli {
namespace {

using faults::kind;
using faults::point;
using json = nlohmann::ordered_json;

/// Of a fault at the models.
std::string no_batch(const faults::fault& f, double answered, double cached) {
  if (answered <= 0) return "no request was answered meanwhile: put load on the node (troupe load)";
  const std::string of =
      plain_number(cached) + " of " + plain_number(answered) + " answers came from the cache";
  const std::string vary =
      "send rows that differ (troupe load --distinct, --seed or --features-file), or set cache.mode: off";
  if (cached >= answered) return of + ": " + vary;
  if (!f.model.empty())
    return "none of " + plain_number(answered) + " requests was scored by " + f.model +
           (f.version.empty() ? "" : " version " + f.version) + ": send it some (troupe load --model " +
           f.model + (f.version.empty() ? "" : " --model-version " + f.version) + ")" +
           (cached > 0 ? "; " + of + ": " + vary : "");
  if (f.probability < 1)
    return "of " + plain_number(answered - cached) + " requests in batches none was hit with probability " +
           plain_number(f.probability) + ": raise it, the load or the duration";
  const std::string idle = "no batch was begun meanwhile: ";
  if (cached <= 0) return idle + "put more load on the node (troupe load), or make the duration longer";
  return of + ", and " + idle + vary + ", or more of them";
}

/// Of a fault of a connection: what did not happen on it, and how to make it happen.
std::string quiet_link(const faults::fault& f) {
  struct place {
    point at;
    const char* name;
    const char* remedy;
  };
  constexpr std::array places = {
      place{point::cache, "Redis",
            "send rows that the cache in the process does not know (troupe load --seed or "
            "--features-file)"},
      place{point::link, "Kafka",
            "put load on the node over Kafka (troupe load), or make the duration longer"},
      place{point::registry, "the registry",
            "make the duration longer than mlflow.poll_interval, or run troupe models sync meanwhile"}};
  const auto at = std::find_if(places.begin(), places.end(),
                               [&f](const place& p) { return p.at == faults::info(f.what).at; });
  const bool cut = f.what == kind::redis_cut || f.what == kind::kafka_cut || f.what == kind::registry_cut;
  return std::string(cut ? "there was no connection to " : "no answer came from ") + at->name +
         (cut ? ", and none was tried: " : " meanwhile: ") + at->remedy +
         (f.probability < 1 ? ", or raise the probability" : "");
}

std::string why_nothing(const faults::fault& f, double answered, double cached) {
  switch (faults::info(f.what).at) {
    case point::score:
      return no_batch(f, answered, cached);
    case point::cache:
    case point::link:
    case point::registry:
      return quiet_link(f);
    case point::produce:
      return "no delivery report " + std::string(f.probability < 1 ? "was hit" : "came") +
             ": put load on the node over Kafka (troupe load)" +
             (f.probability < 1 ? ", or raise the probability" : "");
    case point::consume:
      return "the node was no member of its group: let it be ready first, or make the duration longer";
    case point::actor:
      return "no such actor ran meanwhile: troupe tree shows which do";
    case point::process:
      break;
  }
  if (f.what == kind::clock_jump)
    return "no record was read from Kafka: put load on the node over Kafka (troupe load)";
  return "the process was left alone: the system gave it no child process, or the fault was stopped early";
}

std::string padded(std::string text, std::size_t width, bool left = false) {
  const std::string space(width - std::min(width, text.size()), ' ');
  return left ? std::move(text) + space : space + std::move(text);
}

std::string time(const std::optional<double>& seconds) {
  if (!seconds) return "-";
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), "%.2f s", *seconds);
  return out.data();
}

json rounded(const std::optional<double>& v) {
  return v ? json(std::round(*v * 1000) / 1000) : json();
}

/// Counters are read as Prometheus has them; what they count are whole things.
json whole(double count) {
  return static_cast<std::uint64_t>(std::max(0.0, std::round(count)));
}

json objective(const latency_objective& o) {
  return {{"p95_s", o.p95_s}, {"p99_s", o.p99_s}, {"errors", o.errors}};
}

json objectives(const scenario& s) {
  return {{"pipeline", objective(s.steady.pipeline)},
          {"api", objective(s.steady.api)},
          {"lag_s", s.steady.lag_s},
          {"throughput", s.steady.throughput},
          {"ready", s.steady.ready},
          {"degraded", s.steady.degraded},
          {"window_s", s.window_s},
          {"warm_up_s", s.warm_up_s},
          {"detect_within_s", s.detect_within_s ? json(*s.detect_within_s) : json()},
          {"recover_within_s", s.recover_within_s}};
}

json document_of(const step_outcome& o, const scenario_step& step) {
  const bool begun = o.started_ms.has_value();
  json j = {{"fault", faults::info(o.fault.what).name},
            {"outcome", name_of(o.result)},
            {"passed", o.result == outcome::passed}};
  j.update(json::parse(faults::fields_json(o.fault)));
  if (!faults::at_once(o.fault)) j["duration"] = config::format_duration(o.fault.duration);
  j["failed_at_most"] = step.failed_at_most ? json(*step.failed_at_most) : json();
  j["strikes_at_least"] = step.strikes_at_least;
  j["started"] = begun ? json(utc_text(*o.started_ms)) : json();
  j["strikes"] = begun && o.strikes ? json(*o.strikes) : json();
  j["detected_s"] = rounded(o.detected_s);
  j["sign"] = o.sign.empty() ? json() : json(o.sign);
  j["recovered_s"] = rounded(o.recovered_s);
  j["failed"] = begun ? whole(o.failed) : json();
  j["answered"] = begun ? whole(o.answered) : json();
  if (!o.why.empty()) j["why"] = o.why;
  return j;
}

const char* word_of(outcome o) {
  switch (o) {
    case outcome::passed:
      return "passed";
    case outcome::failed:
      return "FAILED";
    case outcome::interrupted:
      return "stopped";
    case outcome::not_run:
      break;
  }
  return "not run";
}

}  // namespace

std::string_view name_of(outcome o) {
  switch (o) {
    case outcome::passed:
      return "passed";
    case outcome::failed:
      return "failed";
    case outcome::interrupted:
      return "interrupted";
    case outcome::not_run:
      break;
  }
  return "not_run";
}

std::string run_outcome::name() const {
  if (what && !what->name.empty()) return what->name;
  return std::filesystem::path(file).filename().string();
}

outcome run_outcome::result() const {
  const auto is = [](outcome o) { return [o](const step_outcome& s) { return s.result == o; }; };
  if (std::any_of(steps.begin(), steps.end(), is(outcome::failed))) return outcome::failed;
  if (!steps.empty() && std::all_of(steps.begin(), steps.end(), is(outcome::passed))) return outcome::passed;
  return interrupted ? outcome::interrupted : outcome::not_run;
}

std::string outcome_document(const run_outcome& run) {
  json j = {{"name", run.name()},
            {"outcome", name_of(run.result())},
            {"passed", run.result() == outcome::passed},
            {"file", run.file},
            {"url", run.url.empty() ? json() : json(run.url)},
            {"started", utc_text(run.started_ms)},
            {"seconds", rounded(run.seconds)},
            {"objectives", run.what ? objectives(*run.what) : json()}};
  json steps = json::array();
  for (std::size_t i = 0; i < run.steps.size(); ++i)
    steps.push_back(document_of(run.steps[i], run.what->steps.at(i)));
  j["steps"] = std::move(steps);
  if (!run.error.empty()) j["error"] = run.error;
  return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string plain_number(double v) {
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), v >= 1000 ? "%.0f" : "%.4g", v);
  return out.data();
}

std::string not_exercised(const scenario_step& step, std::optional<std::uint64_t> strikes, const look& before,
                          const look& over) {
  const std::uint64_t wanted = step.strikes_at_least;
  if (wanted == 0) return {};
  const std::string none_is_fine = "; with strikes_at_least: 0 that is no failure";
  if (!strikes)
    return "not exercised, as far as can be told: the node was restarted meanwhile and knows nothing of the "
           "fault" +
           none_is_fine;
  if (*strikes >= wanted) return {};
  if (*strikes > 0)
    return "not exercised: it struck " + times_text(*strikes) + ", strikes_at_least is " +
           std::to_string(wanted) + ": more load, a longer duration or a higher probability";
  const double answered =
      over.pipeline.requests + over.api.requests - before.pipeline.requests - before.api.requests;
  return "not exercised, it struck nothing: " +
         why_nothing(step.fault, answered, std::min(answered, over.cached - before.cached)) + none_is_fine;
}

std::string outcome_table(const std::vector<step_outcome>& steps) {
  const auto begun = [](const step_outcome& o) { return o.started_ms.has_value(); };
  if (std::none_of(steps.begin(), steps.end(), begun)) return {};
  std::size_t wide = 18;
  for (const auto& o : steps) wide = std::max(wide, faults::in_words(o.fault).size());
  std::string all = "\n" + padded("FAULT", wide, true) +
                    "   DETECTED  RECOVERED   FAILED  ANSWERED  STRIKES  RESULT   FIRST SIGN\n";
  for (const auto& o : steps) {
    const auto of_one_begun = [&](std::string text) { return begun(o) ? std::move(text) : std::string("-"); };
    all += padded(faults::in_words(o.fault), wide, true) + padded(time(o.detected_s), 11) +
           padded(time(o.recovered_s), 11) + padded(of_one_begun(plain_number(o.failed)), 9) +
           padded(of_one_begun(plain_number(o.answered)), 10) +
           padded(of_one_begun(o.strikes ? std::to_string(*o.strikes) : "?"), 9) + "  " +
           padded(word_of(o.result), 7, true) + "  " + (o.sign.empty() ? "-" : o.sign) + "\n";
    if (!o.why.empty()) all += "  " + o.why + "\n";
  }
  return all;
}

}  // namespace troupe::cli
