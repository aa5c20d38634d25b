#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>

#include "runtime/registry/mlflow_client.hpp"
#include "runtime/registry/mlmodel.hpp"
#include "runtime/registry/registry_poller.hpp"
#include "runtime/registry/version_cache.hpp"
#include "tests/runtime/registry/scripted_server.hpp"

namespace troupe::registry {
namespace {

namespace fs = std::filesystem;
using test::scripted_server;
using testing::HasSubstr;
using testing::Not;

const std::string onnx_mlmodel =
    "flavors:\n  onnx:\n    data: model.onnx\n  python_function:\n    data: "
    "model.onnx\nsaved_input_example_info:\n"
    "  artifact_path: input_example.json\nsignature:\n"
    "  inputs: '[{\"type\": \"double\", \"name\": \"age\"}, {\"type\": \"double\", \"name\": \"b: mi\"}]'\n";

struct folder {
  folder() {
    std::string name = (fs::temp_directory_path() / "registry-test-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~folder() { fs::remove_all(path); }
  fs::path path;
};

client_options quick(const std::string& uri) {
  client_options o;
  o.uri = uri;
  o.timeout = 60 * policy::second;
  o.pause = policy::millisecond;
  return o;
}

std::string version_json(const std::string& version, const std::string& status = "READY", int updated = 18) {
  return R"({"name":"m","version":")" + version + R"(","last_updated_timestamp":)" + std::to_string(updated) +
         R"(,"creation_timestamp":17,"current_stage":"Production","status":")" + status + R"("})";
}

/// A registry as both lines answer; what is public bends it.
struct registry_script {
  std::string production = "2";
  std::string mlmodel = onnx_mlmodel;
  std::string model = "bytes of a model";
  std::string uri = "mlflow-artifacts:/1/run/artifacts/model";
  std::string extra_file;
  long long lie = 0;
  int updated = 18;
  bool down = false;
  bool chunked = false;

  std::string operator()(const std::string& target) const {
    const auto a = [](const std::string& body) { return scripted_server::answer(200, body); };
    if (down) return scripted_server::answer(503, "");
    if (target.starts_with("/api/2.0/mlflow/registered-models/get-latest-versions"))
      return a("{\"model_versions\":[" + version_json(production, "READY", updated) + "]}");
    if (target.starts_with("/api/2.0/mlflow/model-versions/get?"))
      return a("{\"model_version\":" + version_json("2", "READY", updated) + "}");
    if (target.starts_with("/api/2.0/mlflow/model-versions/get-download-uri"))
      return a("{\"artifact_uri\":\"" + uri + "\"}");
    if (target.starts_with("/api/2.0/mlflow-artifacts/artifacts?")) {
      std::string files = R"({"path":"MLmodel","is_dir":false,"file_size":)" +
                          std::to_string(mlmodel.size()) +
                          R"(},{"path":"model.onnx","is_dir":false,"file_size":)" +
                          std::to_string(static_cast<long long>(model.size()) + lie) + "}";
      if (!extra_file.empty()) files += ",{\"path\":\"" + extra_file + "\"}";
      return a("{\"files\":[" + files + "]}");
    }
    if (target.ends_with("MLmodel")) return scripted_server::answer(200, mlmodel, "text/plain");
    if (target.ends_with("model.onnx") && chunked)
      return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n10\r\n" + model +
             "\r\n0\r\n\r\n";
    if (target.ends_with("model.onnx"))
      return scripted_server::answer(200, model, "application/octet-stream");
    return scripted_server::answer(404, R"({"error_code":"RESOURCE_DOES_NOT_EXIST","message":"no"})");
  }
};

void expect_failure(const scripted_server::script& script, failure kind, const std::string& text,
                    std::size_t requests, policy::nanos timeout = 60 * policy::second) {
  scripted_server server(script);
  auto o = quick(server.uri());
  o.token = "very-secret";
  o.timeout = timeout;
  mlflow_client client(o);
  try {
    (void)client.resolve(*policy::parse_model_reference("models:/m/Production"));
    FAIL() << "expected: " << text;
  } catch (const registry_error& e) {
    EXPECT_EQ(e.kind, kind) << e.what();
    EXPECT_THAT(e.what(), HasSubstr(text));
    EXPECT_THAT(e.what(), Not(HasSubstr("very-secret")));
  }
  EXPECT_EQ(server.targets().size(), requests) << text;
}

scripted_server::script always(const std::string& raw) {
  return [raw](const std::string&, const std::string&) { return raw; };
}

TEST(MlflowClient, SaysWhatIsWrong) {
  const auto answer = [](int status, const std::string& body, const std::string& type = "application/json",
                         const std::string& more = "") {
    return always(scripted_server::answer(status, body, type, more));
  };
  expect_failure(answer(401, "<html>login</html>", "text/html"), failure::refused, "401", 1);
  expect_failure(answer(403, "Invalid Host header - possible DNS rebinding attack detected", "text/plain"),
                 failure::refused, "--allowed-hosts", 1);
  expect_failure(answer(200, "<!doctype html>", "text/html"), failure::bad_answer, "HTML", 1);
  expect_failure(answer(200, "{}"), failure::not_found, "stage Production", 1);
  expect_failure(answer(200, "{\"model_versions\":[{\"name\":\"m\",\"version\":\"../1\"}]}"),
                 failure::bad_answer, "no number", 1);
  expect_failure(answer(200, "{\"model_versions\":[" + version_json("1", "PENDING_REGISTRATION") + "]}"),
                 failure::not_found, "not ready", 1);
  expect_failure(
      answer(
          404,
          R"({"error_code":"RESOURCE_DOES_NOT_EXIST","message":"Registered Model with name=m not found"})"),
      failure::not_found, "Registered Model with name=m not found", 1);
  expect_failure(
      answer(
          400,
          R"({"error_code":"INVALID_PARAMETER_VALUE","message":"Registered model alias ghost not found."})"),
      failure::not_found, "ghost", 1);
  expect_failure(answer(503, "busy", "text/plain"), failure::unreachable, "503", 3);
  expect_failure(answer(500, "oops", "text/plain"), failure::unreachable, "500", 3);
  expect_failure(answer(302, "", "text/plain", "Location: http://127.0.0.2:1/steal\r\n"), failure::refused,
                 "redirects to http://127.0.0.2:1", 1);
  expect_failure(always(""), failure::unreachable, "300 ms (mlflow.timeout)", 1,
                 300 * policy::millisecond);  // its budget is spent
  expect_failure(always("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), failure::unreachable, "", 3);
}

TEST(MlflowClient, SendsCredentialsAndEncodes) {
  std::string seen;
  scripted_server server([&](const std::string&, const std::string& head) {
    seen = head;
    return scripted_server::answer(200, R"({"model_version":{"name":"a b&c","version":"4"}})");
  });
  auto o = quick(server.uri() + "/prefix/");
  o.username = "u";
  o.password = "p";
  mlflow_client client(o);
  EXPECT_EQ(client.resolve(*policy::parse_model_reference("models:/a b&c@x y")).version, "4");
  EXPECT_THAT(seen,
              HasSubstr("GET /prefix/api/2.0/mlflow/registered-models/alias?name=a%20b%26c&alias=x%20y "));
  EXPECT_THAT(seen, HasSubstr("Authorization: Basic dTpw"));
}

TEST(MlflowClient, FollowsRedirectsWithinTheOrigin) {
  scripted_server server([](const std::string& target, const std::string&) {
    if (target == "/there") return scripted_server::answer(200, "3.17.2", "text/plain");
    return scripted_server::answer(302, "", "text/plain", "Location: /there\r\n");
  });
  EXPECT_EQ(mlflow_client(quick(server.uri())).server_version(), "3.17.2");
}

TEST(MlflowClient, NeverRepeatsA500OfAnArtifact) {
  scripted_server server([s = registry_script()](const std::string& target, const std::string&) {
    return target.find("/nope") != std::string::npos
               ? scripted_server::answer(500, R"({"error_code":"INTERNAL_ERROR","message":"No such file"})")
               : s(target);
  });
  mlflow_client client(quick(server.uri()));
  EXPECT_THROW((void)client.read("m", "2", "nope"), registry_error);
  EXPECT_EQ(server.targets().size(), 2U);
}

TEST(MlflowClient, RefusesAddresses) {
  for (const char* uri : {"", "mlruns", "sqlite:///x.db", "http://", "http://u:p@host:5000", "file:///etc"})
    EXPECT_THROW(mlflow_client(quick(uri)), registry_error) << uri;
}

TEST(Paths, StayBelow) {
  for (const char* good : {"a", "model.onnx", "data/model.xgb"}) EXPECT_TRUE(is_safe_path(good)) << good;
  for (const char* bad : {"", "/a", "..", "a/../b", "a//b", "a/", ".hidden", "a\\b", "a\nb", "./a"})
    EXPECT_FALSE(is_safe_path(bad)) << bad;
}

TEST(Mlmodel, FlavoursInOrder) {
  const auto m = parse_mlmodel(onnx_mlmodel);
  EXPECT_EQ(m.kind, flavour::onnx);
  EXPECT_EQ(m.file, "model.onnx");
  EXPECT_THAT(m.features, testing::ElementsAre("age", "b: mi"));
  const auto kind = [](const std::string& flavours) { return parse_mlmodel("flavors:\n" + flavours).kind; };
  EXPECT_EQ(kind("  xgboost:\n    data: model.xgb\n  lightgbm:\n    data: model.lgb\n"), flavour::xgboost);
  EXPECT_EQ(kind("  lightgbm:\n    data: model.lgb\n"), flavour::lightgbm);
  EXPECT_EQ(kind("  sklearn:\n    pickled_model: model.skops\n    serialization_format: skops\n"),
            flavour::skops);
  EXPECT_EQ(kind("  sklearn:\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\n"),
            flavour::none);
  for (const char* bad : {"", "[", "a: b", "flavors:\n  onnx:\n    data: ../../etc/passwd\n", "flavors: [1]"})
    EXPECT_THROW((void)parse_mlmodel(bad), std::runtime_error) << bad;
}

TEST(InputExample, Forms) {
  EXPECT_EQ(parse_input_example(R"({"columns":["a","b"],"data":[[1,2],[3,null]]})").rows.size(), 2U);
  EXPECT_EQ(parse_input_example("[[1,2.5]]").rows[0][1], 2.5);
  for (const char* bad : {"", "3", "{}", "[[1],[1,2]]", R"([["x"]])"})
    EXPECT_THROW((void)parse_input_example(bad), std::runtime_error) << bad;
}

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct bed {
  folder disk;
  registry_script script;
  std::mutex mutex;
  scripted_server server{[this](const std::string& target, const std::string&) {
    if (before) before(target);
    const std::lock_guard lock(mutex);
    return script(target);
  }};
  std::function<void(const std::string&)> before;  // an answer
  std::vector<std::string> references = {"models:/m/Production"};
  std::string refuse;  // a version
  std::string wrong;   // what a model's file must not hold
  policy::nanos now = policy::second;

  void set_model(const std::string& text) {
    const std::lock_guard lock(mutex);
    script.model = text;
  }
  [[nodiscard]] std::ptrdiff_t downloads() const {
    const auto targets = server.targets();
    return std::count_if(targets.begin(), targets.end(),
                         [](const auto& t) { return t.ends_with("model.onnx"); });
  }

  std::unique_ptr<registry_poller> poller() {
    poller_options o;
    o.client = quick(server.uri());
    o.references = references;
    o.cache_directory = disk.path.string();
    o.cache_versions = 2;
    o.watch.interval = 10 * policy::second;
    o.refusal_max = 25 * policy::second;
    o.clock = [this] { return now; };
    o.verify = [this](const auto& v) {
      const bool bad = v.version == refuse || (!wrong.empty() && text_of(v.path / "model.onnx") == wrong);
      return std::string(bad ? "broken graph" : "");
    };
    return std::make_unique<registry_poller>(std::move(o));
  }
};

TEST(Poller, LaysOutAVersionAndFollowsAPromotion) {
  for (const bool chunked : {false, true}) {
    bed b;
    b.script.chunked = chunked;
    auto p = b.poller();
    const auto first = p->poll_once();
    EXPECT_TRUE(first.reached && first.changed);
    EXPECT_TRUE(first.problems.empty()) << first.problems.front();
    ASSERT_EQ(p->current().versions.size(), 1U);
    const fs::path at = p->current().versions[0].path;
    EXPECT_EQ(at, b.disk.path / "models/m/2");
    EXPECT_EQ(text_of(at / "model.onnx"), b.script.model);
    EXPECT_EQ(text_of(at / "model.yaml"), "features: [\"age\",\"b: mi\"]\n");
    const auto asked = b.server.targets().size();
    EXPECT_FALSE(p->poll_once().changed);
    EXPECT_EQ(b.server.targets().size(), asked + 1) << "a poll without news is one call";
    for (const char* version : {"3", "4", "5"}) {
      const std::lock_guard lock(b.mutex);
      b.script.production = version;
    }
    EXPECT_TRUE(p->poll_once().changed);
    EXPECT_EQ(p->current().production.at("m"), "5");
  }
}

TEST(Poller, APollThatBeginsAfterAPromotionFindsItAndOneThatRanMayNot) {
  bed b;
  b.references = {"models:/m/Production", "models:/m/2"};
  auto p = b.poller();
  (void)p->poll_once();
  poller_status at_promotion;
  b.before = [&](const std::string& target) {  // the stage was asked for already in this poll
    if (target.find("model-versions/get?") == std::string::npos || b.script.production == "3") return;
    const std::lock_guard lock(b.mutex);
    b.script.production = "3";
    at_promotion = p->status();
  };
  EXPECT_FALSE(p->poll_once().changed);
  EXPECT_EQ(at_promotion.polls, 1U);
  EXPECT_EQ(at_promotion.begun, 2U);
  EXPECT_EQ(p->status().polls, 2U);
  EXPECT_TRUE(p->poll_once().changed);
  EXPECT_EQ(p->current().production.at("m"), "3");
  EXPECT_EQ(p->status().begun, at_promotion.begun + 1);
}

TEST(Poller, KeepsTheRunningVersionWhenTheNewOneIsNoGood) {
  bed b;
  auto p = b.poller();
  (void)p->poll_once();
  b.refuse = "3";
  b.script.production = "3";
  const auto r = p->poll_once();
  EXPECT_FALSE(r.changed);
  EXPECT_THAT(r.rejected, testing::ElementsAre("m"));
  ASSERT_EQ(r.problems.size(), 1U);
  EXPECT_THAT(r.problems[0], testing::EndsWith("models:/m/Production: broken graph"));
  EXPECT_EQ(p->current().production.at("m"), "2");
  EXPECT_TRUE(p->poll_once().problems.empty()) << "said once";
}

TEST(Poller, ARefusedVersionLeavesTheCacheAndIsFetchedAgain) {
  bed b;
  auto p = b.poller();
  (void)p->poll_once();
  b.wrong = "BYTES of a model";  // as many as there should be
  b.set_model(b.wrong);
  b.script.production = "3";
  const auto problems = [&] { return p->poll_once().problems; };
  const fs::path at = b.disk.path / "models/m/3";
  const auto hidden = [&] { return std::distance(fs::directory_iterator(at.parent_path()), {}) - 1; };

  EXPECT_EQ(problems().size(), 1U);
  EXPECT_FALSE(fs::exists(at));
  EXPECT_EQ(hidden(), 0) << "beside version 2 there is nothing left of it";
  EXPECT_EQ(p->current().production.at("m"), "2");
  EXPECT_EQ(text_of(p->current().versions[0].path / "model.onnx"), "bytes of a model");
  EXPECT_EQ(b.downloads(), 2);

  // 10 s, 20 s, then 25 s at most: not at each poll, and said but once.
  for (const int wait : {10, 20, 25, 25}) {
    const auto before = b.downloads();
    b.now += wait * policy::second - 1;
    EXPECT_TRUE(problems().empty());
    EXPECT_EQ(b.downloads(), before) << wait;
    EXPECT_EQ(p->status().references[0].problem, "broken graph");
    ++b.now;
    EXPECT_TRUE(problems().empty());
    EXPECT_EQ(b.downloads(), before + 1) << wait;
    EXPECT_FALSE(fs::exists(at));
  }

  b.set_model("Bytes of a model");
  EXPECT_FALSE(p->poll_once().changed);
  b.now += 25 * policy::second;
  const auto good = p->poll_once();
  EXPECT_TRUE(good.changed && good.recovered);
  EXPECT_EQ(p->current().production.at("m"), "3");
  EXPECT_EQ(text_of(at / "model.onnx"), "Bytes of a model");
}

TEST(Poller, ARefusedVersionIsFetchedAtOnceWhenTheRegistryChangedIt) {
  bed b;
  b.wrong = b.script.model;
  auto p = b.poller();
  (void)p->poll_once();
  (void)p->poll_once();
  EXPECT_EQ(b.downloads(), 1);
  b.set_model("good");
  b.script.updated = 19;
  EXPECT_TRUE(p->poll_once().changed);
  EXPECT_EQ(text_of(p->current().versions[0].path / "model.onnx"), "good");
}

TEST(Poller, SomebodyWhoAsksHasARefusedVersionFetchedAtOnce) {
  bed b;
  b.wrong = b.script.model;
  auto p = b.poller();
  (void)p->poll_once();
  b.set_model("good");
  std::promise<model::model_source_update> told;
  std::once_flag once;
  p->start([&](const auto& update, const auto& report) {
    if (report.changed) std::call_once(once, [&] { told.set_value(update); });
  });
  p->poll_soon();
  EXPECT_EQ(told.get_future().get().production.at("m"), "2");
  p->stop();
}

TEST(Poller, AVersionThatSomebodyElseServesStaysInTheCache) {
  bed b;
  auto p = b.poller();
  (void)p->poll_once();
  b.refuse = "2";
  auto other = b.poller();
  EXPECT_EQ(other->poll_once().problems.size(), 1U);
  EXPECT_EQ(text_of(p->current().versions[0].path / "model.onnx"), b.script.model);
}

TEST(Poller, RefusesPickles) {
  bed b;
  b.script.mlmodel =
      "flavors:\n  sklearn:\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\n";
  auto p = b.poller();
  const auto r = p->poll_once();
  ASSERT_EQ(r.problems.size(), 1U);
  EXPECT_THAT(r.problems[0], HasSubstr("troupe models import models:/m/2 --register"));
  EXPECT_TRUE(p->current().versions.empty());
}

TEST(Poller, RefusesLiesAboutSizeAndPaths) {
  for (const long long lie : {-1, 1}) {
    bed b;
    b.script.lie = lie;
    auto p = b.poller();
    EXPECT_EQ(p->poll_once().problems.size(), 1U);
    EXPECT_FALSE(fs::exists(b.disk.path / "models/m/2"));
  }
  bed b;
  b.script.extra_file = "../../evil";
  auto p = b.poller();
  const auto r = p->poll_once();
  ASSERT_EQ(r.problems.size(), 1U);
  EXPECT_THAT(r.problems[0], HasSubstr("unsafe"));
}

TEST(Poller, ReadsOtherStorageThroughTheServer) {
  bed b;
  b.script.uri = "s3://bucket/model";
  auto p = b.poller();
  EXPECT_TRUE(p->poll_once().problems.empty());
  EXPECT_EQ(text_of(b.disk.path / "models/m/2/model.onnx"), b.script.model);
  EXPECT_THAT(b.server.targets(),
              testing::Contains("/model-versions/get-artifact?name=m&version=2&path=model.onnx"));
}

TEST(Poller, StartsFromTheCacheWhenTheRegistryIsDown) {
  bed b;
  (void)b.poller()->poll_once();
  b.script.down = true;
  auto p = b.poller();
  const auto r = p->poll_once();
  EXPECT_FALSE(r.reached);
  EXPECT_EQ(p->current().production.at("m"), "2");
  // Bits that rotted are not served.
  std::ofstream(b.disk.path / "models/m/2/model.onnx") << "rot";
  p = b.poller();
  (void)p->poll_once();
  EXPECT_TRUE(p->current().versions.empty());
  b.script.down = false;
  (void)p->poll_once();
  EXPECT_EQ(text_of(b.disk.path / "models/m/2/model.onnx"), b.script.model);
}

TEST(VersionCache, IsBoundedAndKeepsWhatIsRemembered) {
  folder disk;
  version_cache cache(disk.path);
  for (const char* v : {"1", "2", "3", "4"})
    cache.add("m", v, "o", [](const fs::path& into) { std::ofstream(into / "f") << "x"; });
  cache.remember("r", "models:/m/1", {"m", "1"});
  cache.prune(2, {{"m", "2"}});
  EXPECT_TRUE(cache.find("m", "1", "o"));
  EXPECT_TRUE(cache.find("m", "2", "o"));
  EXPECT_FALSE(cache.find("m", "3", "o"));
  EXPECT_FALSE(cache.find("m", "4", "o"));
  EXPECT_EQ(cache.recall("r", "models:/m/1")->second, "1");
  EXPECT_FALSE(cache.recall("other", "models:/m/1"));
}

TEST(VersionCache, DiscardsWhatNobodyServes) {
  folder disk;
  version_cache cache(disk.path);
  const auto add = [&](const std::string& text) {
    return cache.stamp(
        cache.add("m", "1", "o", [&](const fs::path& into) { std::ofstream(into / "f") << text; }));
  };
  const auto old = add("old");
  cache.remember("r", "models:/m/1", {"m", "1"}, old);
  cache.discard("m", "1", old);
  EXPECT_TRUE(cache.find("m", "1", "o")) << "it is remembered";
  fs::remove_all(disk.path / "models/m/1");
  const auto made_anew = add("new");
  cache.discard("m", "1", old);
  EXPECT_TRUE(cache.find("m", "1", "o")) << "those are other files";
  cache.discard("m", "1", made_anew);
  EXPECT_FALSE(cache.find("m", "1", "o"));
  EXPECT_TRUE(fs::is_empty(disk.path / "models/m"));
  cache.discard("m", "1", made_anew);
}

TEST(VersionCache, TheSecondOfTwoWritersUsesTheFirstOnes) {
  folder disk;
  version_cache one(disk.path);
  version_cache two(disk.path);
  const auto at = one.add("m", "1", "o", [&](const fs::path& into) {
    std::ofstream(into / "f") << "one";
    two.add("m", "1", "o", [](const fs::path& in) { std::ofstream(in / "f") << "two"; });
  });
  EXPECT_EQ(text_of(at / "f"), "two");
  EXPECT_EQ(std::distance(fs::directory_iterator(disk.path / "models/m"), {}), 1);
}

TEST(VersionCache, AFillThatFailsLeavesNothing) {
  folder disk;
  version_cache cache(disk.path);
  EXPECT_THROW(cache.add("m", "1", "o", [](const fs::path&) { throw std::runtime_error("x"); }),
               std::runtime_error);
  EXPECT_FALSE(cache.find("m", "1", "o"));
  EXPECT_TRUE(fs::is_empty(disk.path / "models/m"));
}

}  // namespace
}  // namespace troupe::registry
