#include "runtime/http/health.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace troupe::http {
namespace {

health_state working() {
  health_state s;
  s.model_loaded = true;
  s.model_name = "diabetes-rf-model";
  s.model_version = "3";
  s.uptime_seconds = 12.3456;
  s.total_requests = 300;
  s.error_count = 1;
  s.ready = true;
  return s;
}

TEST(Health, BodyIsExact) {
  const auto r = health(working());
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.content_type, "application/json");
  EXPECT_EQ(r.body,
            R"({"status":"healthy","model_loaded":true,"model_name":"diabetes-rf-model","model_version":"3",)"
            R"("uptime_seconds":12.346,"total_requests":300,"error_count":1,"error_rate_percent":0.3333})"
            "\n");
}

TEST(Health, WithoutAModelIs503) {
  const auto r = health(health_state{});
  EXPECT_EQ(r.status, 503);
  EXPECT_EQ(r.body, R"({"status":"unhealthy","model_loaded":false,"model_name":null,"model_version":null,)"
                    R"("uptime_seconds":0.0,"total_requests":0,"error_count":0,"error_rate_percent":0.0})"
                    "\n");
}

TEST(Health, ReadyIsExact) {
  auto s = working();
  EXPECT_EQ(ready(s).status, 200);
  EXPECT_EQ(ready(s).body, "{\"status\":\"ready\"}\n");
  s.degraded = {"redis: connection refused"};
  EXPECT_EQ(ready(s).status, 200);
  EXPECT_EQ(ready(s).body, "{\"status\":\"ready\",\"degraded\":[\"redis: connection refused\"]}\n");
  s.ready = false;
  s.reasons = {"draining",
               "Kafka: no \xff"
               "broker"};
  s.degraded.clear();
  EXPECT_EQ(ready(s).status, 503);
  EXPECT_EQ(ready(s).body,
            "{\"status\":\"not ready\",\"reasons\":[\"draining\",\"Kafka: no \xEF\xBF\xBD"
            "broker\"]}\n");
}

TEST(Health, LivenessOnlyNeedsTheProcess) {
  EXPECT_EQ(liveness().status, 200);
  EXPECT_EQ(nlohmann::json::parse(liveness().body)["status"], "alive");
}

TEST(RequireBearer, LetsOnlyTheTokenPass) {
  const auto guarded = require_bearer("s3cret", [](const request&) { return response{204, "", "", {}}; });
  const std::pair<const char*, int> table[] = {
      {"Bearer s3cret", 204},  {"bearer s3cret", 204},  {"Bearer s3cre", 401},
      {"Bearer s3cretx", 401}, {"Bearer S3cret", 401},  {"Basic s3cret", 401},
      {"s3cret", 401},         {"Bearer  s3cret", 401}, {"", 401},
      {"Bearer ", 401},
  };
  for (const auto& [value, status] : table) {
    request r;
    r.headers.emplace_back("authorization", value);
    const auto answer = guarded(r);
    EXPECT_EQ(answer.status, status) << value;
    if (status == 401) {
      ASSERT_EQ(answer.headers.size(), 1U);
      EXPECT_EQ(answer.headers[0].first, "WWW-Authenticate");
      EXPECT_EQ(answer.body.find("s3cret"), std::string::npos);
    }
  }
  EXPECT_EQ(guarded(request{}).status, 401);
  EXPECT_THROW(static_cast<void>(require_bearer("", {})), std::invalid_argument);
}

TEST(RequireBearer, TellsNoTokenFromAnother) {
  const auto guarded = require_bearer("s3cret", [](const request&) { return response{204, "", "", {}}; });
  const auto said = [&](const char* value) {
    request r;
    if (value) r.headers.emplace_back("authorization", value);
    return nlohmann::json::parse(guarded(r).body)["error"].get<std::string>();
  };
  EXPECT_NE(said(nullptr).find("no token was given"), std::string::npos);
  EXPECT_EQ(said("Bearer other"), "the token is not the node's admin.token");
  EXPECT_NE(said("Basic czpz").find("expected Authorization: Bearer"), std::string::npos);
}

}  // namespace
}  // namespace troupe::http
