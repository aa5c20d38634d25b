#include "runtime/door/paths.hpp"

#include <gtest/gtest.h>

namespace troupe::serving {
namespace {

struct row {
  const char* method;
  const char* path;
  serving::page page;
  const char* model = "";
  const char* version = "";
  const char* allow = "";
};

TEST(Paths, MeanWhatTheTableSays) {
  const row table[] = {
      {"GET", "/", page::root},
      {"GET", "/v2", page::server_metadata},
      {"GET", "/v2/", page::server_metadata},
      {"HEAD", "/v2/health/live", page::server_live},
      {"GET", "/v2/health/ready", page::server_ready},
      {"GET", "/v2/models/iris", page::model_metadata, "iris"},
      {"GET", "/v2/models/iris/", page::model_metadata, "iris"},
      {"GET", "/v2/models/iris/versions/3", page::model_metadata, "iris", "3"},
      {"GET", "/v2/models/a%2Fb%20c/ready", page::model_ready, "a/b c"},
      {"POST", "/v2/models/iris/infer", page::infer, "iris"},
      {"POST", "/v2/models/iris/versions/v2/infer", page::infer, "iris", "v2"},
      {"GET", "/v2/models/stats", page::model_stats},
      {"GET", "/v2/models/stats/stats", page::model_stats, "stats"},
      {"GET", "/v2/models/iris/versions/1/stats", page::model_stats, "iris", "1"},
      {"GET", "/v2/models/iris/config", page::model_config, "iris"},
      {"POST", "/v2/repository/index", page::repository_index},
      {"POST", "/v2/repository/models/iris/load", page::repository_load, "iris"},
      {"POST", "/v2/repository/models/iris/unload", page::repository_unload, "iris"},
      {"POST", "/v2/batches", page::batch_submit},
      {"GET", "/v2/batches", page::batch_list},
      {"GET", "/v2/batches/b-1", page::batch_status, "b-1"},
      {"DELETE", "/v2/batches/b-1", page::batch_remove, "b-1"},
      {"GET", "/v2/batches/b-1/results", page::batch_results, "b-1"},
      {"PUT", "/v2/batches/b-1", page::not_allowed, "", "", "GET, HEAD, DELETE"},
      {"POST", "/score", page::score},
      {"POST", "/invocations", page::invocations},
      {"GET", "/v1/models", page::v1_models},
      {"GET", "/v1/models/iris", page::model_ready, "iris"},
      {"GET", "/v1/models/a%3Apredict", page::model_ready, "a:predict"},
      {"POST", "/v1/models/iris:predict", page::v1_predict, "iris"},
      {"POST", "/v1/models/a%2Fb:c:predict/", page::v1_predict, "a/b:c"},
      {"GET", "/v1/models/iris:predict", page::not_allowed, "", "", "POST"},
      {"POST", "/v1/models/iris", page::not_allowed, "", "", "GET, HEAD"},
      {"POST", "/v1/models/:predict", page::not_allowed, "", "", "GET, HEAD"},
      {"POST", "/v1/models/iris:explain", page::not_allowed, "", "", "GET, HEAD"},
      {"GET", "/readiness", page::ready},
      {"GET", "/docs", page::docs},
      {"GET", "/openapi.json", page::openapi},
      {"GET", "/score", page::not_allowed, "", "", "POST"},
      {"DELETE", "/health", page::not_allowed, "", "", "GET, HEAD"},
      {"PUT", "/v2/models/iris/infer", page::not_allowed, "", "", "POST"},
      {"GET", "", page::none},
      {"GET", "*", page::none},
      {"GET", "/v2//models/iris", page::none},
      {"GET", "/v2/models//", page::none},
      {"GET", "/v2/models", page::none},
      {"GET", "/v2/models/iris/versions", page::none},
      {"GET", "/v2/models/iris/versions/1/ready/x", page::none},
      {"GET", "/v2/models/%zz", page::none},
      {"GET", "/v2/models/%00", page::none},
      {"GET", "/v2/models/a%2", page::none},
      {"GET", "/SCORE", page::none},
  };
  for (const row& r : table) {
    SCOPED_TRACE(std::string(r.method) + " " + r.path);
    const destination d = find_page(r.method, r.path);
    EXPECT_EQ(d.page, r.page);
    EXPECT_EQ(d.model, r.model);
    EXPECT_EQ(d.version, r.version);
    EXPECT_EQ(d.allow, r.allow);
  }
}

TEST(Paths, PercentDecoding) {
  EXPECT_EQ(percent_decoded("a%2fb%2F"), "a/b/");
  EXPECT_EQ(percent_decoded("%"), std::nullopt);
  EXPECT_EQ(percent_decoded("%4"), std::nullopt);
  EXPECT_EQ(percent_decoded("%g0"), std::nullopt);
  EXPECT_EQ(percent_decoded("%00"), std::nullopt);
  EXPECT_EQ(percent_decoded("+"), "+");
}

}  // namespace
}  // namespace troupe::serving
