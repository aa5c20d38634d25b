#include "actors/node_backend.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "runtime/model/live_models.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/observe/metrics.hpp"

namespace troupe {
namespace {

constexpr auto longest_wait = std::chrono::seconds(60);
constexpr auto look_every = std::chrono::milliseconds(5);

[[nodiscard]] bool serves(const version_report& v) {
  return v.state == "loaded" || v.state == "production" || v.state == "candidate";
}

[[nodiscard]] codec::v2_duration spent(const observe::metrics::model_use::spent& s) {
  return {s.count, s.ns};
}

}  // namespace

node_backend::node_backend(node_backend_args args) : args_(std::move(args)) {}

std::shared_ptr<const model::model_table> node_backend::models() const {
  return args_.models->current();
}

serving::model_state node_backend::state_of(const model::loaded_model& m) const {
  const auto stall = args_.stalls->of(&m);
  if (stall && stall->hung != 0) return {false, model::why_hung(*stall), 0};
  if (!stall || stall->next_probe == 0) return {};
  const nanos left = std::max<nanos>(0, stall->next_probe - args_.now());
  return {
      false,
      "the model keeps failing, its breaker is open; it is tried again " +
          (left > 0 ? "in " + std::to_string((left + policy::second - 1) / policy::second) + " s" : "soon"),
      left};
}

std::vector<codec::v2_model_stats> node_backend::statistics(std::string_view name,
                                                            std::string_view version) const {
  std::vector<codec::v2_model_stats> all;
  const auto wanted = model::plain_version(version);
  for (const auto& m : args_.models->current()->all()) {
    if ((!name.empty() && m->name() != name) || (!wanted.empty() && m->version() != wanted)) continue;
    const auto use = args_.metrics->use_of(m.get());
    auto& s = all.emplace_back();
    s.name = m->name();
    s.version = m->version();
    s.last_inference = static_cast<std::uint64_t>(std::max<std::int64_t>(0, use.last_ms));
    s.inference_count = use.scored_rows;
    s.execution_count = use.executed.count;
    s.success = spent(use.answered);
    s.fail = spent(use.refused);
    // A request's time is its wait and the execution of the batch it was in, which it may share: the rest is
    // what it waited.
    s.compute_infer = {use.answered.count, use.executed.ns};
    // Reading and writing tensors is not timed apart; clients want the three counts to be the same.
    s.compute_input = s.compute_output = {use.answered.count, 0};
    s.queue = {use.answered.count, use.answered.ns > use.executed.ns ? use.answered.ns - use.executed.ns : 0};
  }
  return all;
}

std::vector<version_report> node_backend::versions_of(std::string_view name) const {
  auto all = args_.report().versions;
  std::erase_if(all, [&](const version_report& v) { return v.model != name; });
  return all;
}

std::vector<codec::v2_index_entry> node_backend::index(bool ready_only) const {
  std::vector<codec::v2_index_entry> all;
  const auto table = args_.models->current();
  for (const auto& v : args_.report().versions) {
    const char* state = serves(v) ? "READY" : v.state == "loading" ? "LOADING" : "UNAVAILABLE";
    if (v.state == "draining") continue;  // another entry of that version, or none, says what is to be had
    codec::v2_index_entry entry{v.model, v.version, state, v.error};
    const auto found = serves(v) ? table->find(v.model, v.version) : model::model_table::choice();
    if (found.model && found.model->version() == v.version)
      if (auto now = state_of(*found.model); !now.ready) {
        entry.state = "UNAVAILABLE";
        entry.reason = std::move(now.why);
      }
    if (!ready_only || entry.state == "READY") all.push_back(std::move(entry));
  }
  return all;
}

command_result node_backend::await(const std::string& name, const std::vector<std::string>& versions,
                                   bool loaded) const {
  const auto until = std::chrono::steady_clock::now() + longest_wait;
  for (;;) {
    bool all = true;
    const auto now = versions_of(name);
    for (const auto& wanted : versions) {
      const auto v = std::find_if(now.begin(), now.end(), [&](const version_report& r) {
        return r.version == wanted && r.state != "draining";
      });
      const bool there = v != now.end() && serves(*v);
      if (v != now.end() && v->state == "failed" && loaded)
        return {400, "failed to load '" + name + "' version " + wanted + ": " + v->error};
      all &= there == loaded;
    }
    if (all) return {200, loaded ? "loaded" : "unloaded"};
    if (std::chrono::steady_clock::now() > until)
      return {503, "'" + name + "' is still being " + (loaded ? "loaded" : "unloaded")};
    std::this_thread::sleep_for(look_every);
  }
}

command_result node_backend::load(std::string_view name, std::string_view version) {
  std::vector<std::string> wanted;
  std::string plain(model::plain_version(version));
  if (plain.empty()) {
    for (const auto& v : versions_of(name))
      if (v.state != "draining") wanted.push_back(v.version);
    if (wanted.empty()) return {404, "failed to load '" + std::string(name) + "': there is no such model"};
  } else {
    wanted.push_back(std::move(plain));
  }
  for (const auto& v : wanted) {
    model_command c;
    c.op = model_command::what::load;
    c.model = name;
    c.version = v;
    const auto said = args_.command(std::move(c));
    if (said.status >= 400 && said.status != 409) return said;  // 409: it is loaded
  }
  return await(std::string(name), wanted, true);
}

command_result node_backend::unload(std::string_view name, std::string_view version) {
  model_command c;
  c.op = model_command::what::unload;
  c.model = name;
  c.version = model::plain_version(version);
  std::vector<std::string> wanted;
  for (const auto& v : versions_of(name))
    if (serves(v) && (c.version.empty() || v.version == c.version)) wanted.push_back(v.version);
  if (wanted.empty()) return {404, "failed to unload '" + std::string(name) + "': it is not loaded"};
  const auto said = args_.command(std::move(c));
  if (said.status >= 400) return said;
  return await(std::string(name), wanted, false);
}

}  // namespace troupe
