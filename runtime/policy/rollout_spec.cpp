#include "runtime/policy/rollout_spec.hpp"

#include <charconv>

namespace troupe::policy {

std::vector<double> shares_of(const std::string& steps) {
  std::vector<double> shares;
  for (std::size_t at = 0; at <= steps.size();) {
    std::size_t end = std::min(steps.find(',', at), steps.size());
    const std::size_t next = end + 1;
    while (at < end && steps[at] == ' ') ++at;
    while (end > at && steps[end - 1] == ' ') --end;
    double percent = 0;
    const auto [stop, error] = std::from_chars(steps.data() + at, steps.data() + end, percent);
    const double least = shares.empty() ? 0 : 100 * shares.back();
    if (error != std::errc() || stop != steps.data() + end || !(percent > least && percent <= 100)) return {};
    shares.push_back(percent / 100);
    at = next;
  }
  return shares;
}

std::string complaint(const rollout_spec& s) {
  if (s.model.empty()) return "model: name the model";
  if (s.version.empty()) return "version: name the new version";
  if (!(s.percent >= 0 && s.percent <= 100)) return "percent: expected a number from 0 to 100";
  if (s.strategy == rollout_strategy::header && (s.header.empty() || s.header[0] == '='))
    return "header: strategy header needs the name of a header, NAME or NAME=VALUE";
  if (s.strategy != rollout_strategy::header && !s.header.empty())
    return "header: only strategy header goes by one";
  if (!(s.max_error_increase >= 0 && s.max_error_increase <= 1))
    return "max_error_increase: expected a share from 0 to 1";
  if (!(s.max_latency_ratio >= 1)) return "max_latency_ratio: expected a number from 1";
  if (s.max_latency_increase < 0) return "max_latency_increase: expected a duration";
  if (!(s.max_psi >= 0)) return "max_psi: expected a number from 0";
  if (s.min_samples == 0) return "min_samples: expected a number from 1";
  if (s.window < second) return "window: expected a duration from 1s";
  if (s.step_every < 0) return "step_every: expected a duration";
  if (s.steps.empty()) return {};
  if (s.strategy != rollout_strategy::canary && s.strategy != rollout_strategy::ab)
    return "steps: only canary and ab have a share that can grow";
  if (shares_of(s.steps).empty()) return "steps: expected ascending percents up to 100, such as 1,10,50,100";
  return {};
}

guard_config guard_of(const rollout_spec& s) {
  guard_config g;
  g.max_error_increase = s.max_error_increase;
  g.max_latency_ratio = s.max_latency_ratio;
  g.max_latency_increase = s.max_latency_increase;
  // Who sends the header is no random sample, so that its predictions may well differ.
  g.max_psi = s.strategy == rollout_strategy::header ? 1e9 : s.max_psi;
  g.min_samples = s.min_samples;
  g.window = s.window;
  g.alone = s.strategy == rollout_strategy::blue_green;
  g.drift.reference = std::max<std::size_t>(200, s.min_samples);
  return g;
}

}  // namespace troupe::policy
