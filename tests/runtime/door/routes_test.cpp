// Pages that are answered at once, and requests to the repository.
#include "runtime/door/routes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "runtime/model/model.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/request_log.hpp"
#include "runtime/observe/trace.hpp"

namespace troupe::serving {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class asked final : public http::exchange {
 public:
  asked(std::string method, std::string path, std::string body, std::vector<http::field_view> headers)
      : method_(std::move(method)),
        path_(std::move(path)),
        body_(std::move(body)),
        headers_(std::move(headers)) {
    view_.method = method_;
    view_.path = path_;
    view_.body = body_;
    view_.headers = headers_;
  }
  const http::request_view& request() const override { return view_; }
  void reply(http::response&& what) override { answer.set_value(std::move(what)); }
  bool gone() const override { return false; }

  std::promise<http::response> answer;

 private:
  std::string method_, path_, body_;
  std::vector<http::field_view> headers_;
  http::request_view view_;
};

class ignored_spans final : public observe::span_sink {
 public:
  void put(observe::span&&) override {}
};

class fake final : public backend {
 public:
  bool live() const override { return true; }
  bool ready() const override { return true; }
  std::shared_ptr<const model::model_table> models() const override { return table; }
  model_state state_of(const model::loaded_model&) const override { return state; }
  std::vector<codec::v2_model_stats> statistics(std::string_view, std::string_view) const override {
    return {};
  }
  std::vector<codec::v2_index_entry> index(bool ready_only) const override {
    return {{"iris", "1", "READY", ready_only ? "only" : ""}};
  }
  command_result load(std::string_view name, std::string_view version) override {
    return {name == "iris" ? 200 : 404, std::string(name) + " " + std::string(version)};
  }
  command_result unload(std::string_view name, std::string_view version) override {
    return load(name, version);
  }

  std::shared_ptr<const model::model_table> table = std::make_shared<const model::model_table>();
  model_state state;
};

struct door {
  fake of;
  routes all{[] {
               route_options o;
               o.calls = std::make_shared<const door_options>();
               o.version = "1.2.3";
               return o;
             }(),
             of};

  http::response ask(std::string method, std::string path, std::string body = {},
                     std::vector<http::field_view> headers = {}) {
    auto e = std::make_shared<asked>(std::move(method), std::move(path), std::move(body), std::move(headers));
    auto answer = e->answer.get_future();
    EXPECT_EQ(all.take(e), nullptr);
    return answer.get();
  }
};

TEST(Routes, TheListOfModelsIsTheRepositorysIndex) {
  door d;
  for (const char* path : {"/v2/models", "/v2/models/"}) {
    const auto lost = d.ask("GET", path);
    EXPECT_EQ(lost.status, 404);
    EXPECT_THAT(lost.body, HasSubstr("POST /v2/repository/index lists the models"));
  }
}

TEST(Routes, PingIsOfTheDefaultModel) {
  fake of;
  bool loaded = true;
  route_options o;
  o.calls = std::make_shared<const door_options>();
  o.health = [&] {
    http::health_state s;
    s.model_loaded = loaded;
    return s;
  };
  routes all(std::move(o), of);
  const auto ping = [&] {
    auto e = std::make_shared<asked>("GET", "/ping", "", std::vector<http::field_view>());
    auto answer = e->answer.get_future();
    EXPECT_EQ(all.take(e), nullptr);
    return answer.get().status;
  };
  EXPECT_EQ(ping(), 200);
  loaded = false;
  EXPECT_EQ(ping(), 503);
}

TEST(Routes, BrowsersAreSentToThePageAndProgramsAreNot) {
  door d;
  const auto page = d.ask("GET", "/", "", {{"Accept", "text/html,*/*;q=0.8"}});
  EXPECT_EQ(page.status, 302);
  EXPECT_EQ(page.body, "");
  EXPECT_THAT(page.headers, ::testing::Contains(std::pair<std::string, std::string>("Location", "docs")));
  for (const char* accept : {"", "*/*", "application/json"}) {
    const auto metadata = d.ask("GET", "/", "", {{"Accept", accept}});
    EXPECT_EQ(metadata.status, 200);
    EXPECT_EQ(json::parse(metadata.body)["version"], "1.2.3");
    EXPECT_THAT(metadata.headers, ::testing::Contains(std::pair<std::string, std::string>("Vary", "Accept")));
  }
  EXPECT_EQ(d.ask("GET", "/v2", "", {{"Accept", "text/html"}}).status, 200);
  EXPECT_THAT(d.ask("GET", "/docs").body, HasSubstr("<!doctype html>"));
}

TEST(Routes, ClientsOfKServesFirstProtocolFindTheirPages) {
  door d;
  EXPECT_EQ(d.ask("GET", "/v1/models").body, R"({"models":[]})");
  EXPECT_EQ(json::parse(d.ask("GET", "/").body)["status"], "alive");
  EXPECT_FALSE(json::parse(d.ask("GET", "/v2").body).contains("status"));
  std::vector<std::shared_ptr<const model::loaded_model>> all;
  for (const auto& [name, version] :
       {std::pair{"iris", "1"}, std::pair{"iris", "2"}, std::pair{"a\"b", "1"}}) {
    model::loaded_model::parts p;
    p.name = std::string(name);
    p.version = std::string(version);
    p.schema = model::schema({{"a", false}}, true);
    all.push_back(std::make_shared<const model::loaded_model>(std::move(p)));
  }
  d.of.table = std::make_shared<const model::model_table>(std::move(all), model::model_table::options{});
  const json names = json::parse(d.ask("GET", "/v1/models").body)["models"];
  EXPECT_EQ(names.size(), 2U) << names;
  EXPECT_EQ(names.get<std::set<std::string>>(), (std::set<std::string>{"iris", "a\"b"}));
  EXPECT_EQ(json::parse(d.ask("GET", "/v1/models/iris").body),
            json::parse(R"({"name":"iris","ready":true})"));
  EXPECT_EQ(d.ask("GET", "/v1/models/nobody").status, 404);
  d.of.state = {false, "its breaker is open", 1'500 * policy::millisecond};
  for (const char* path : {"/v1/models/iris", "/v2/models/iris/ready", "/v2/models/iris/versions/1/ready"}) {
    const auto refused = d.ask("GET", path);
    EXPECT_EQ(refused.status, 503) << path;
    EXPECT_EQ(refused.body, R"({"name":"iris","ready":false,"reason":"its breaker is open"})");
    EXPECT_THAT(refused.headers,
                ::testing::Contains(std::pair<std::string, std::string>("Retry-After", "2")));
  }
  EXPECT_EQ(d.ask("GET", "/v1/models/iris:predict").status, 405);
}

TEST(Routes, TheDocumentFollowsTheModels) {
  door d;
  EXPECT_EQ(json::parse(d.ask("GET", "/openapi.json").body)["x-models"].size(), 0U);
  model::loaded_model::parts p;
  p.name = std::string("iris");
  p.version = std::string("1");
  p.schema = model::schema({{"a", false}}, true);
  d.of.table = std::make_shared<const model::model_table>(
      std::vector<std::shared_ptr<const model::loaded_model>>{
          std::make_shared<const model::loaded_model>(std::move(p))},
      model::model_table::options{});
  const auto after = d.ask("GET", "/openapi.json");
  EXPECT_EQ(json::parse(after.body)["x-models"][0]["name"], "iris");
  EXPECT_EQ(d.ask("GET", "/openapi.json").body, after.body);
}

class told_requests {
 public:
  explicit told_requests(bool all) {
    o.calls = std::make_shared<const door_options>();
    o.health = [] { return http::health_state(); };
    o.log = std::make_shared<observe::request_log>(observe::request_log_options{all, 0, 0});
    testing::internal::CaptureStdout();
    observe::open_log({});
  }
  ~told_requests() { observe::open_log({}); }

  std::vector<json> lines() {
    std::istringstream in(testing::internal::GetCapturedStdout());
    std::vector<json> all;
    for (std::string line; std::getline(in, line);) all.push_back(json::parse(line));
    return all;
  }

  route_options o;
  fake of;
};

TEST(Routes, RequestsAreToldOnceWithTheirRouteAndNotTheirQuery) {
  told_requests t(true);
  observe::tracer_options how;
  how.seed = 7;
  t.o.tracer = observe::tracer::make(std::move(how), std::make_shared<ignored_spans>());
  routes all(std::move(t.o), t.of);
  const std::vector<http::field_view> traced = {
      {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}};
  struct request {
    const char* method;
    const char* path;
    std::vector<http::field_view> headers;
  };
  for (const request& r :
       {request{"GET", "/v2/models/none/config", traced}, request{"GET", "/nowhere", {}},
        request{"GET", "/score", {}}, request{"GET", "/ready", {}}, request{"GET", "/v2/health/live", {}},
        request{"GET", "/liveness", {}}, request{"GET", "/v2/models/none/ready", {}},
        request{"POST", "/v2/repository/index", {}}})
    EXPECT_EQ(all.take(std::make_shared<asked>(r.method, r.path, "", r.headers)), nullptr);
  {
    (void)all.take(std::make_shared<asked>("POST", "/score", "{}", std::vector<http::field_view>()));
  }  // dropped
  const auto lines = t.lines();
  ASSERT_EQ(lines.size(), 5U) << json(lines);
  EXPECT_EQ(lines[0]["route"], "/v2/models/{model}/config");
  EXPECT_EQ(lines[0]["path"], "/v2/models/none/config");
  EXPECT_EQ(lines[0]["status"], "404");
  EXPECT_EQ(lines[0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_THAT(lines[0]["msg"].get<std::string>(), HasSubstr("refused after "));
  EXPECT_EQ(lines[1]["path"], "/nowhere");
  EXPECT_FALSE(lines[1].contains("route"));
  EXPECT_EQ(lines[2]["status"], "405");
  EXPECT_EQ(lines[3]["route"], "/v2/repository/index");
  EXPECT_FALSE(lines[3].contains("path")) << "the route says it";
  EXPECT_THAT(lines[3]["msg"].get<std::string>(), HasSubstr("completed in "));
  EXPECT_EQ(lines[4]["status"], "503") << "nobody answered it";
  EXPECT_EQ(lines[4]["level"], "warn");
}

TEST(Routes, SampledTellsWhatFailed) {
  told_requests t(false);
  routes all(std::move(t.o), t.of);
  EXPECT_EQ(all.take(std::make_shared<asked>("GET", "/nowhere", "", std::vector<http::field_view>())),
            nullptr);
  { (void)all.take(std::make_shared<asked>("POST", "/score", "{}", std::vector<http::field_view>())); }
  const auto lines = t.lines();
  ASSERT_EQ(lines.size(), 1U) << json(lines);
  EXPECT_EQ(lines[0]["status"], "503");
}

class collected_spans final : public observe::span_sink {
 public:
  void put(observe::span&& one) override { all.push_back(std::move(one)); }
  std::vector<observe::span> all;
};

TEST(Routes, TracesOfRequests) {
  const std::string id = "4bf92f3577b34da6a3ce929d0e0e4736", parent = "00-" + id + "-00f067aa0ba902b7-01";
  const auto spans = std::make_shared<collected_spans>();
  fake of;
  route_options o;
  o.calls = std::make_shared<const serving::door_options>();
  o.metrics = [](std::string_view accept) {
    return http::response{200, std::string(accept), "text/plain", {}};
  };
  observe::tracer_options always;
  always.door_ratio = 1;
  o.tracer = observe::tracer::make(std::move(always), spans);
  routes all(std::move(o), of);
  const auto ask = [&](std::string path, std::vector<http::field_view> headers) {
    auto e = std::make_shared<asked>("GET", std::move(path), "", std::move(headers));
    auto answer = e->answer.get_future();
    EXPECT_EQ(all.take(e), nullptr);
    return answer.get();
  };
  // Probes and paths that are not there begin no trace, but follow one.
  for (const char* path : {"/liveness", "/metrics", "/v2/health/live", "/nowhere", "/docs"}) {
    (void)ask(path, {{"Accept", "x"}});
    EXPECT_TRUE(spans->all.empty()) << path;
  }
  const auto followed =
      ask("/nowhere", {{"Traceparent", parent}, {"tracestate", "a=1"}, {"tracestate", "b=2"}});
  ASSERT_EQ(spans->all.size(), 1U);
  const observe::span& one = spans->all[0];
  EXPECT_EQ(one.name, "GET");
  EXPECT_EQ(one.state, "a=1,b=2");
  EXPECT_FALSE(one.failed);
  EXPECT_THAT(followed.headers, ::testing::Contains(std::pair<std::string, std::string>(
                                    "traceresponse", "00-" + id + "-" + policy::hex(one.id) + "-01")));
  (void)ask("/v2/models/iris/versions/7/ready", {{"traceparent", parent}});
  EXPECT_EQ(spans->all.back().name, "GET /v2/models/{model}/versions/{version}/ready");
  (void)ask("/v2", {});
  EXPECT_EQ(spans->all.back().name, "GET /v2") << "the ratio is 1";
  EXPECT_EQ(spans->all.size(), 3U);
  (void)ask("/v2", {{"traceparent", parent.substr(0, 53) + "00"}});
  EXPECT_EQ(spans->all.size(), 3U) << "an unsampled parent is obeyed";

  // A call has the trace; one that is dropped ends its span.
  auto e =
      std::make_shared<asked>("POST", "/score", "{}", std::vector<http::field_view>{{"traceparent", parent}});
  auto call = all.take(e);
  ASSERT_NE(call, nullptr);
  auto batch = batch_ptr::make();
  batch->models = of.table;
  record& r = batch->records.emplace_back();
  r.batch = batch.get();
  call->read(r, *batch);
  ASSERT_NE(r.trace, nullptr);
  EXPECT_EQ(r.trace->id(), id);
  EXPECT_EQ(spans->all.size(), 3U);
  call.reset();
  ASSERT_EQ(spans->all.size(), 4U);
  EXPECT_EQ(spans->all.back().message, "not_answered");
}

TEST(Routes, RequestsToTheRepository) {
  door d;
  struct row {
    const char* path;
    std::string body;
    int status;
    const char* says;
  };
  const std::string index = "/v2/repository/index", load = "/v2/repository/models/iris/load";
  const row table[] = {
      {index.c_str(), "", 200, "READY"},
      {index.c_str(), R"({"ready":true})", 200, "only"},
      {index.c_str(), R"({"ready":1})", 400, "expected"},
      {index.c_str(), "[]", 400, "expected"},
      {index.c_str(), std::string(70'000, ' '), 413, "64 KiB"},
      {load.c_str(), "", 200, "{}"},
      {load.c_str(), R"({"parameters":{"version":"1"}})", 200, "{}"},
      {load.c_str(), R"({"parameters":{"version":1}})", 200, "{}"},
      {load.c_str(), R"({"parameters":{"version":1.5}})", 400, "string or an integer"},
      {load.c_str(), R"({"parameters":{"version":{}}})", 400, "string or an integer"},
      {load.c_str(), R"({"parameters":{"version":null}})", 400, "string or an integer"},
      {load.c_str(), R"({"parameters":{"config":"{}"}})", 400, "not supported"},
      {load.c_str(), R"({"parameters":[]})", 400, "not a JSON object"},
      {load.c_str(), "7", 400, "not a JSON object"},
      {load.c_str(), std::string(70'000, ' '), 413, "64 KiB"},
      {"/v2/repository/models/none/unload", R"({"parameters":{"version":7}})", 404, "none 7"},
  };
  for (const row& one : table) {
    const auto r = d.ask("POST", one.path, one.body);
    EXPECT_EQ(r.status, one.status) << one.body;
    EXPECT_THAT(r.body, HasSubstr(one.says));
  }
}

}  // namespace
}  // namespace troupe::serving
