#include "runtime/door/routes.hpp"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "runtime/codec/json_text.hpp"
#include "runtime/codec/score.hpp"
#include "runtime/codec/v2_metadata.hpp"
#include "runtime/door/batch_pages.hpp"
#include "runtime/door/logged.hpp"
#include "runtime/door/openapi.hpp"
#include "runtime/door/paths.hpp"
#include "runtime/door/side_thread.hpp"
#include "runtime/door/traced.hpp"
#include "runtime/http/text.hpp"
#include "runtime/model/model.hpp"

namespace troupe::serving {
namespace {

using http::error_response;
using nlohmann::json;

constexpr std::size_t longest_command = std::size_t{1} << 16;  // bytes of a repository request

http::response json_reply(std::string body, int status = 200) {
  http::response r;
  r.status = status;
  r.body = std::move(body);
  return r;
}

http::response unknown_model(std::string_view name, std::string_view version) {
  std::string text = "model '" + std::string(name) + "'";
  if (!version.empty()) text += " version '" + std::string(version) + "'";
  return error_response(404, text + " is not loaded");
}

/// The exact version, or without one the production version; null: not loaded.
const model::loaded_model* find(const model::model_table& table, const destination& to) {
  if (to.model.empty()) return nullptr;
  const auto found = table.find(to.model, to.version);
  return found.fell_back ? nullptr : found.model;
}

std::vector<std::string> versions_of(const model::model_table& table, std::string_view name) {
  std::vector<std::string> all;
  for (const auto& m : table.all())
    if (m->name() == name) all.push_back(m->version());
  return all;
}

guard::kind kind_of(page what) {
  switch (what) {
    case page::infer:
    case page::score:
    case page::invocations:
    case page::v1_predict:
      return guard::kind::inference;
    case page::health:
    case page::ready:
    case page::liveness:
    case page::ping:
    case page::server_live:
    case page::server_ready:
      return guard::kind::health;
    case page::metrics:
      return guard::kind::metrics;
    case page::docs:
    case page::openapi:
    case page::version:
      return guard::kind::docs;
    case page::repository_load:
    case page::repository_unload:
      return guard::kind::admin;
    default:
      return guard::kind::page;
  }
}

/// Probes and scrapers ask all the time, and nobody wants their traces.
bool may_begin_trace(page what) {
  const guard::kind of = kind_of(what);
  return (of == guard::kind::inference || of == guard::kind::page || of == guard::kind::admin) &&
         what != page::none && what != page::not_allowed && what != page::server_live &&
         what != page::server_ready && what != page::model_ready;
}

/// Nor lines of the log about each.
bool may_be_told(page what) {
  const guard::kind of = kind_of(what);
  return of != guard::kind::health && of != guard::kind::metrics && what != page::model_ready;
}

/// Of these the destination's model is a batch's id.
bool of_batches(page what) {
  return what == page::batch_status || what == page::batch_results || what == page::batch_remove;
}

std::string_view nth_header(const void* request, std::string_view name, std::size_t before_last) {
  const auto& headers = static_cast<const http::request_view*>(request)->headers;
  for (auto it = headers.rbegin(); it != headers.rend(); ++it)
    if (http::same_name(it->first, name) && before_last-- == 0)
      return it->second.data() != nullptr ? it->second : std::string_view("");
  return {};
}

std::string_view peer_of(const void* request, std::string&) {
  return static_cast<const http::request_view*>(request)->client;
}

/// In the style of the path.
http::response refusal(const http::request_view& r, page what, const guard::verdict& v) {
  http::response out;
  if (what == page::score) {
    const std::string id = json(r.correlation_id).dump(-1, ' ', false, json::error_handler_t::replace);
    record asked;
    asked.request_id = id;
    asked.timestamp_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                             std::chrono::system_clock::now().time_since_epoch())
                             .count();
    out.body = codec::score_error(asked, error_code::none, v.message, guard::stage_of(v.why));
  } else {
    out = error_response(400, v.message);
  }
  out.status = guard::http_status_of(v.why);
  if (out.status == 401)
    out.headers.emplace_back("WWW-Authenticate", v.why == guard::refusal::no_credentials
                                                     ? "Bearer realm=\"troupe\""
                                                     : "Bearer realm=\"troupe\", error=\"invalid_token\"");
  if (v.retry_after > 0) out.headers.push_back(http::retry_after(v.retry_after));
  return out;
}

}  // namespace

struct routes::impl {
  impl(route_options o, backend& b)
      : options(std::move(o)), of(&b), batches(options.batches, b, options.guard, options.batch_class) {}

  route_options options;
  backend* of;
  side_thread loads;
  std::mutex mutex;  // guards the next three
  std::weak_ptr<const model::model_table> described;
  guard::guard_terms described_terms;
  std::shared_ptr<const std::string> description;
  batch_pages batches;

  [[nodiscard]] http::response server_metadata() const {
    codec::v2_server_info info;
    info.version = options.version;
    return json_reply(codec::v2_server_metadata(info));
  }

  /// Made once for each table of models and what is asked of their callers.
  [[nodiscard]] http::response openapi() {
    const auto table = of->models();
    const auto terms = options.guard ? options.guard->keeper->terms() : guard::guard_terms();
    const std::lock_guard lock(mutex);
    if (!description || described.lock() != table || described_terms != terms) {
      description = std::make_shared<const std::string>(openapi_document(*table, options.version, terms));
      described = table;
      described_terms = terms;
    }
    return json_reply(*description);
  }

  /// Browsers are shown the page, programs the V2 metadata.
  [[nodiscard]] http::response root(std::string_view accept) const {
    http::response r = server_metadata();
    r.body.insert(r.body.rfind('}'), ",\"status\":\"alive\"");  // what clients of KServe V1 look for
    if (wants_page(accept)) {
      r.status = 302;
      r.body.clear();
      r.headers.emplace_back("Location", "docs");
    }
    r.headers.emplace_back("Vary", "Accept");
    return r;
  }

  /// {"live": true} and the like: some clients read the status, others the body.
  static http::response truth(const char* name, bool is) {
    return json_reply(std::string("{\"") + name + "\":" + (is ? "true" : "false") + "}", is ? 200 : 503);
  }

  [[nodiscard]] http::response readiness(const model::loaded_model& m) const {
    const auto state = of->state_of(m);
    nlohmann::ordered_json body = {{"name", m.name()}, {"ready", state.ready}};
    if (state.ready) return json_reply(body.dump());
    body["reason"] = state.why;
    http::response r = json_reply(body.dump(), 503);
    if (state.retry_after > 0) r.headers.push_back(http::retry_after(state.retry_after));
    return r;
  }

  [[nodiscard]] http::response of_model(const destination& to) const {
    const auto table = of->models();
    const auto* m = find(*table, to);
    if (!m) return unknown_model(to.model, to.version);
    if (to.page == page::model_ready) return readiness(*m);
    if (to.page == page::model_metadata)
      return json_reply(codec::v2_model_metadata(*m, versions_of(*table, m->name())));
    codec::v2_config_info info;
    info.max_batch_size = options.calls->infer.max_rows;
    info.default_timeout_us = static_cast<std::uint64_t>(options.calls->infer.expiry / 1'000);
    info.priority_levels = static_cast<std::uint32_t>(options.calls->infer.class_targets.size());
    for (const auto& v : versions_of(*table, m->name()))
      if (!v.empty() && v.find_first_not_of("0123456789") == std::string::npos && v.size() < 19)
        info.versions.push_back(std::stoll(v));
    return json_reply(codec::v2_model_config(*m, info));
  }

  [[nodiscard]] http::response stats(const destination& to, const guard::client* who) const {
    auto all = of->statistics(to.model, to.version);
    if (all.empty() && !to.model.empty()) return unknown_model(to.model, to.version);
    keep_what_is_seen(all, who);
    return json_reply(codec::v2_statistics(all));
  }

  /// Lists have only the models that the client may use.
  template <class List>
  static void keep_what_is_seen(List& all, const guard::client* who) {
    if (who) std::erase_if(all, [&](const auto& one) { return !who->may_use_model(one.name); });
  }

  /// Of all that have a version in production.
  [[nodiscard]] http::response names(const guard::client* who) const {
    json all = json::array();
    const auto table = of->models();
    for (const auto& m : table->all())
      if ((!who || who->may_use_model(m->name())) && table->find(m->name(), {}).model == m.get())
        all.push_back(m->name());
    return json_reply("{\"models\":" + all.dump() + "}");
  }

  [[nodiscard]] http::response index(std::string_view body, const guard::client* who) const {
    bool ready_only = false;
    if (body.size() > longest_command) return error_response(413, "a repository request has at most 64 KiB");
    if (!body.empty()) {
      const json asked = json::parse(body, nullptr, false);
      if (!asked.is_object() || (asked.contains("ready") && !asked["ready"].is_boolean()))
        return error_response(400, "expected {\"ready\": true or false}, or an empty body");
      ready_only = asked.value("ready", false);
    }
    auto all = of->index(ready_only);
    keep_what_is_seen(all, who);
    return json_reply(codec::v2_repository_index(all));
  }

  /// Loading takes its time: not on the thread that serves.
  void repository(http::exchange_ptr e, const destination& to) {
    const auto body = e->request().body;
    std::string version;
    if (body.size() > longest_command)
      return e->reply(error_response(413, "a repository request has at most 64 KiB"));
    if (!body.empty()) {
      const json asked = json::parse(body, nullptr, false);
      if (!asked.is_object()) return e->reply(error_response(400, "the body is not a JSON object"));
      if (const auto p = asked.find("parameters"); p != asked.end()) {
        if (!p->is_object()) return e->reply(error_response(400, "parameters is not a JSON object"));
        if (p->contains("config") || std::any_of(p->items().begin(), p->items().end(),
                                                 [](const auto& i) { return i.key().starts_with("file:"); }))
          return e->reply(error_response(
              400,
              "loading with a configuration or files in the request is not supported: put them into "
              "the models' directory or the registry"));
        if (const auto v = p->find("version"); v != p->end()) {
          if (!v->is_string() && !v->is_number_integer())
            return e->reply(error_response(400, "parameter version must be a string or an integer"));
          version = v->is_string() ? v->get<std::string>() : v->dump();
        }
      }
    }
    const bool load = to.page == page::repository_load;
    const bool taken = loads.run([this, e, name = to.model, version, load] {
      const auto said = load ? of->load(name, version) : of->unload(name, version);
      if (said.status < 300)
        e->reply(json_reply("{}"));
      else
        e->reply(error_response(said.status, said.text));
    });
    if (!taken) e->reply(error_response(503, "too many models are being loaded"));
  }
};

routes::routes(route_options options, backend& of) : impl_(std::make_unique<impl>(std::move(options), of)) {}
routes::~routes() = default;

std::unique_ptr<call> routes::take(http::exchange_ptr e) {
  const auto& r = e->request();
  auto& o = impl_->options;
  destination to = find_page(r.method, r.path);
  if (o.tracer)
    if (auto traced = trace(*o.tracer, e, to.route, may_begin_trace(to.page))) e = std::move(traced);
  std::shared_ptr<logged_exchange> logged;
  if (o.log && may_be_told(to.page))
    e = logged = std::make_shared<logged_exchange>(o.log, std::move(e), to.route);
  guard::verdict asked;
  // The page has nothing of this node in it, and lets one enter a key.
  const bool shows_page = to.page == page::docs || (to.page == page::root && wants_page(r.header("accept")));
  if (o.guard && !shows_page) {
    asked = o.guard->keeper->check({door::http, kind_of(to.page), &r, nth_header, peer_of});
    if (asked.ok() && asked.who && !of_batches(to.page) && !to.model.empty() &&
        !asked.who->may_use_model(to.model))
      asked = o.guard->keeper->refuse(door::http, guard::refusal::model);
    if (logged && asked.who) logged->of(asked.who->name());
    if (!asked.ok()) {
      e->reply(refusal(r, to.page, asked));
      return nullptr;
    }
  }
  const auto who = [&] { return caller(std::move(asked.who), o.guard); };
  switch (to.page) {
    case page::infer:
      return make_v2_call(std::move(e), o.calls, std::move(to.model), std::move(to.version), who());
    case page::score:
      return make_score_call(std::move(e), o.calls, who());
    case page::invocations:
      return make_invocations_call(std::move(e), o.calls, {}, who());
    case page::v1_predict:
      return make_invocations_call(std::move(e), o.calls, std::move(to.model), who());
    case page::v1_models:
      e->reply(impl_->names(asked.who.get()));
      break;
    case page::health:
      e->reply(http::health(o.health()));
      break;
    case page::ready:
      e->reply(http::ready(o.health()));
      break;
    case page::liveness:
      e->reply(http::liveness());
      break;
    case page::ping: {
      const bool can = impl_->of->ready() && (!o.health || o.health().model_loaded);
      e->reply(json_reply("{}", can ? 200 : 503));
      break;
    }
    case page::version:
      e->reply(json_reply(o.version_json));
      break;
    case page::metrics:
      e->reply(o.metrics(r.header("accept")));
      break;
    case page::root:
      e->reply(impl_->root(r.header("accept")));
      break;
    case page::docs:
      e->reply(docs_reply());
      break;
    case page::openapi:
      e->reply(impl_->openapi());
      break;
    case page::server_metadata:
      e->reply(impl_->server_metadata());
      break;
    case page::server_live:
      e->reply(impl::truth("live", impl_->of->live()));
      break;
    case page::server_ready:
      e->reply(impl::truth("ready", impl_->of->ready()));
      break;
    case page::model_metadata:
    case page::model_ready:
    case page::model_config:
      e->reply(impl_->of_model(to));
      break;
    case page::model_stats:
      e->reply(impl_->stats(to, asked.who.get()));
      break;
    case page::repository_index:
      e->reply(impl_->index(r.body, asked.who.get()));
      break;
    case page::repository_load:
    case page::repository_unload:
      impl_->repository(std::move(e), to);
      break;
    case page::batch_submit:
    case page::batch_list:
    case page::batch_status:
    case page::batch_results:
    case page::batch_remove:
      impl_->batches.take(std::move(e), to, std::move(asked.who));
      break;
    case page::not_allowed: {
      auto refused = error_response(405, std::string(r.method) + " is not allowed on " + std::string(r.path));
      refused.headers.emplace_back("Allow", to.allow);
      e->reply(std::move(refused));
      break;
    }
    case page::none:
      e->reply(error_response(404, "no such path: " + std::string(r.path) +
                                       (r.path == "/v2/models" || r.path == "/v2/models/"
                                            ? "; POST /v2/repository/index lists the models"
                                            : "")));
      break;
  }
  return nullptr;
}

}  // namespace troupe::serving
