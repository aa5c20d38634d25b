#include "actors/node_door.hpp"

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/config/options.hpp"
#include "runtime/faults/fault_json.hpp"
#include "runtime/faults/injector.hpp"
#include "runtime/http/server.hpp"
#include "runtime/policy/rollout_spec.hpp"

namespace troupe {
namespace {

using nlohmann::json;

json child_of(const child_report& c) {
  json j = {{"name", c.name},
            {"kind", c.kind},
            {"running", c.running},
            {"restarts", c.restarts},
            {"last_reason", c.last_reason},
            {"since_seconds", c.since_seconds}};
  if (c.stuck_seconds > 0) j["stuck_seconds"] = c.stuck_seconds;
  if (!c.notice.empty()) j["notice"] = c.notice;
  return j;
}

json group_of(const tree_report& tree, const group_report& g) {
  json children = json::array();
  for (const auto& c : tree.children)
    if (c.group == g.name) children.push_back(child_of(c));
  json groups = json::array();
  for (const auto& beneath : tree.groups)
    if (!beneath.parent.empty() && beneath.parent == g.name) groups.push_back(group_of(tree, beneath));
  return {{"name", g.name},           {"strategy", g.strategy},
          {"intensity", g.intensity}, {"period_seconds", g.period_seconds},
          {"restarts_left", g.left},  {"group_restarts_left", g.groups_left},
          {"restarts", g.restarts},   {"since_seconds", g.since_seconds},
          {"children", children},     {"groups", groups}};
}

http::response tree(const door_state& state) {
  const auto all = state.tree();
  if (all.groups.empty()) return http::error_response(503, "the supervisor does not answer; try again");
  return {
      200,
      json({{"supervisor", group_of(all, all.groups.front())}, {"abandoned", all.abandoned}}).dump() + "\n",
      "application/json",
      {}};
}

http::response made(int status, std::string body) {
  return {status, std::move(body) + "\n", "application/json", {}};
}

/// What was there before there were other faults.
http::response crash(faults::injector& faults, const json& wanted) {
  if (!wanted["crash"].is_string())
    return http::error_response(400, "crash: expected a name from /admin/tree, or \"random\"");
  faults::fault f;
  f.what = faults::kind::actor_crash;
  f.actor = wanted["crash"];
  return made(200, json({{"crashed", faults.inject(f).what.actor}}).dump());
}

http::response inject(faults::injector& faults, const std::string& body, bool only_check) {
  const json wanted = json::parse(body, nullptr, false);
  try {
    if (only_check) {
      faults.check(faults::parse_fault(body, faults.bounds()));
      return made(200, json({{"can_be_injected", true}}).dump());
    }
    if (wanted.is_object() && wanted.contains("crash") && wanted.size() == 1) return crash(faults, wanted);
    const auto r = faults.inject(faults::parse_fault(body, faults.bounds()));
    return made(201, faults::report_json(r, faults.now()));
  } catch (const faults::bad_fault& e) {
    return http::error_response(400, e.what());
  } catch (const faults::no_such_target& e) {
    return http::error_response(404, e.what());
  } catch (const faults::cannot_inject& e) {
    return http::error_response(409, e.what());
  }
}

http::response end_fault(faults::injector& faults, std::string_view path) {
  constexpr std::string_view all = "/admin/faults";
  if (path == all) return made(200, json({{"stopped", faults.end_all()}}).dump());
  const std::string_view text = path.substr(all.size() + 1);
  std::uint64_t id = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), id);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size())
    return http::error_response(
        400,
        "expected the id of a fault, a number: troupe fault list (GET /admin/faults) shows which there are");
  if (!faults.end(id)) {
    for (const auto& r : faults.list())
      if (r.id == id)
        return http::error_response(404, "fault " + std::to_string(id) + " has ended already: " + r.ended);
    return http::error_response(404, "there is no fault " + std::to_string(id) +
                                         ": troupe fault list (GET /admin/faults) shows which there are");
  }
  return made(200, json({{"stopped", 1}}).dump());
}

constexpr const char* checks_a_fault = "/admin/faults/check";

http::response on_faults(door_state& state, const http::request& r) {
  faults::injector* injected = state.injected();
  if (!injected)
    return http::error_response(
        403, "faults are off on this node: they need faults.enabled: true, and a restart of the node");
  if (r.method == "POST") return inject(*injected, r.body, r.path == checks_a_fault);
  if (r.method == "DELETE") return end_fault(*injected, r.path);
  return made(200, faults::reports_json(injected->list(), injected->now()));
}

json side_of(const side_report& s) {
  return {
      {"version", s.version}, {"requests", s.requests}, {"failed", s.failed}, {"p95_seconds", s.p95_seconds}};
}

json rollout_of(const rollout_report& r) {
  json j = {{"model", r.model},       {"strategy", r.strategy},     {"share", r.share},
            {"since_ms", r.since_ms}, {"old", side_of(r.old_side)}, {"new", side_of(r.new_side)},
            {"psi", nullptr},         {"psi_noise", r.psi_noise}};
  if (r.psi) j["psi"] = *r.psi;
  if (r.ended.empty()) return j;
  j["ended"] = r.ended;
  j["ended_ms"] = r.ended_ms;
  if (!r.reason.empty()) j["reason"] = r.reason;
  if (!r.text.empty()) j["text"] = r.text;
  return j;
}

http::response models(const door_state& state) {
  const models_report report = state.models_now();
  json versions = json::array();
  for (const auto& v : report.versions) {
    json one = {{"model", v.model},   {"version", v.version},   {"state", v.state},
                {"engine", v.engine}, {"since_ms", v.since_ms}, {"share", v.share},
                {"rows", v.rows},     {"errors", v.errors},     {"latency_seconds", v.latency_seconds}};
    if (!v.error.empty()) one["error"] = v.error;
    if (!v.notice.empty()) one["notice"] = v.notice;
    for (const auto& r : report.rollouts)
      if (r.model == v.model && r.new_side.version == v.version && r.psi) one["psi"] = *r.psi;
    versions.push_back(std::move(one));
  }
  json running = json::array();
  json ended = json::array();
  for (const auto& r : report.rollouts) running.push_back(rollout_of(r));
  for (const auto& r : report.history) ended.push_back(rollout_of(r));
  return {200,
          json({{"versions", versions}, {"rollouts", running}, {"history", ended}}).dump() + "\n",
          "application/json",
          {}};
}

/// Text, or a number as it was written: versions are both.
std::optional<std::string> text_of(const json& j) {
  if (j.is_string()) return j.get<std::string>();
  if (j.is_number() || j.is_boolean()) return j.dump();
  return std::nullopt;
}

http::response answer(const command_result& r) {
  if (r.status >= 400) return http::error_response(r.status, r.text);
  return {r.status, json({{"result", r.text}}).dump() + "\n", "application/json", {}};
}

http::response command(door_state& state, model_command::what op, const std::string& body) {
  const json wanted = json::parse(body, nullptr, false);
  if (!wanted.is_object() || !wanted.contains("model") || !wanted["model"].is_string())
    return http::error_response(400, "expected {\"model\": NAME, \"version\": VERSION}");
  model_command c;
  c.op = op;
  c.model = wanted["model"];
  for (const auto& [key, value] : wanted.items()) {
    if (key == "model") continue;
    const auto text = text_of(value);
    if (key != "version" || !text)
      return http::error_response(400, "expected {\"model\": NAME, \"version\": VERSION} and nothing else");
    c.version = *text;
  }
  return answer(state.command(std::move(c)));
}

http::response registry_state(door_state& state, bool sync) {
  const auto now = state.registry_now();
  if (!now) return http::error_response(404, "no registry is configured: set mlflow.uri and mlflow.models");
  if (sync) return {202, json({{"poll", state.sync_registry()}}).dump() + "\n", "application/json", {}};
  json references = json::array();
  for (const auto& r : now->references) {
    json one = {{"reference", r.reference}, {"model", r.name}, {"version", nullptr}};
    if (!r.version.empty()) one["version"] = r.version;
    if (!r.problem.empty()) one["problem"] = r.problem;
    references.push_back(std::move(one));
  }
  return {200,
          json({{"polls", now->polls},
                {"begun", now->begun},
                {"reached", now->reached},
                {"references", references}})
                  .dump() +
              "\n",
          "application/json",
          {}};
}

http::response rollout(door_state& state, const std::string& body) {
  const json wanted = json::parse(body, nullptr, false);
  if (!wanted.is_object())
    return http::error_response(400, "expected a JSON object with the fields of a rollout");
  model_command c;
  c.op = model_command::what::rollout;
  policy::rollout_spec spec;
  try {
    for (const auto& [key, value] : wanted.items()) {
      std::string text;
      if (key == "steps" && value.is_array()) {
        for (const auto& v : value) text += (text.empty() ? "" : ",") + text_of(v).value_or("?");
      } else if (const auto t = text_of(value)) {
        text = *t;
      } else {
        return http::error_response(400, key + ": expected a text, a number, true or false");
      }
      if (key == "strategy" && text == "off")
        c.op = model_command::what::end;
      else
        config::set_rollout_field(spec, key, text);
    }
  } catch (const config::config_error& e) {
    return http::error_response(400, e.what());
  }
  c.model = spec.model;
  if (c.op == model_command::what::rollout) {
    if (const std::string wrong = policy::complaint(spec); !wrong.empty())
      return http::error_response(400, wrong);
    c.spec = std::make_shared<const policy::rollout_spec>(std::move(spec));
  }
  return answer(state.command(std::move(c)));
}

constexpr std::pair<const char*, const char*> fault_routes[] = {{"GET", "/admin/faults"},
                                                                {"POST", "/admin/faults"},
                                                                {"POST", checks_a_fault},
                                                                {"DELETE", "/admin/faults"},
                                                                {"DELETE", "/admin/faults/*"}};

}  // namespace

node_door::node_door(const door_options& o, door_state& state) {
  const auto ready = [&state](const http::request&) { return http::ready(state.health()); };
  std::vector<http::route> routes = {
      {"GET", "/metrics",
       [&state](const http::request& r) { return state.metrics_page(r.header("accept")); }},
      {"GET", "/health", [&state](const http::request&) { return http::health(state.health()); }},
      {"GET", "/ready", ready},
      {"GET", "/readiness", ready},
      {"GET", "/liveness", [](const http::request&) { return http::liveness(); }},
  };
  if (!o.admin_token.empty()) {
    routes.push_back(
        {"GET", "/admin/tree",
         http::require_bearer(o.admin_token, [&state](const http::request&) { return tree(state); })});
    const auto guarded = [&](const char* method, const char* path, http::handler then) {
      routes.push_back({method, path, http::require_bearer(o.admin_token, std::move(then))});
    };
    guarded("GET", "/admin/models", [&state](const http::request&) { return models(state); });
    guarded("GET", "/admin/registry",
            [&state](const http::request&) { return registry_state(state, false); });
    guarded("POST", "/admin/registry/sync",
            [&state](const http::request&) { return registry_state(state, true); });
    guarded("POST", "/admin/rollout", [&state](const http::request& r) { return rollout(state, r.body); });
    using what = model_command::what;
    constexpr std::pair<const char*, what> commands[] = {{"/admin/models/load", what::load},
                                                         {"/admin/models/unload", what::unload},
                                                         {"/admin/models/promote", what::promote},
                                                         {"/admin/models/rollback", what::rollback}};
    for (const auto& [path, op] : commands)
      guarded("POST", path, [&state, op = op](const http::request& r) { return command(state, op, r.body); });
    for (const auto& [method, path] : fault_routes)
      guarded(method, path, [&state](const http::request& r) { return on_faults(state, r); });
  } else {
    const auto closed = [](const http::request&) {
      return http::error_response(404, "/admin is closed: set admin.token, then call it with that token");
    };
    for (const char* path : {"/admin/tree", "/admin/models"}) routes.push_back({"GET", path, closed});
    for (const char* path : {"/admin/rollout", "/admin/models/load", "/admin/models/unload",
                             "/admin/models/promote", "/admin/models/rollback"})
      routes.push_back({"POST", path, closed});
    for (const auto& [method, path] : fault_routes) routes.push_back({method, path, closed});
  }
  http::server_options so;
  so.bind = o.bind;
  so.port = o.port;
  so.name = "metrics.port";
  server_ = std::make_unique<http::server>(so, std::move(routes));
}

node_door::~node_door() = default;

int node_door::port() const {
  return server_->port();
}

}  // namespace troupe
