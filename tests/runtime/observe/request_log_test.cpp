// Which requests get a line, and what stands in it.
#include "runtime/observe/request_log.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/observe/log.hpp"

namespace troupe::observe {
namespace {

constexpr nanos millisecond = 1'000'000;

class RequestLog : public testing::Test {
 protected:
  void TearDown() override { open_log({}); }

  static std::string said(const request_log& by, const answered_request& one) {
    testing::internal::CaptureStdout();
    open_log({});
    by.tell(one);
    return testing::internal::GetCapturedStdout();
  }
  static int counted(const request_log& by, int n, bool failed, nanos took) {
    int all = 0;
    for (int i = 0; i < n; ++i) all += by.wants(failed, took);
    return all;
  }
};

TEST_F(RequestLog, SampledTakesAShareAndWhatFailedOrWasSlow) {
  struct row {
    request_log_options options;
    bool failed;
    nanos took;
    int of_1000;
  };
  const row rows[] = {
      {{true, 0, 0}, false, 0, 1000},
      {{false, 0.01, 50 * millisecond}, false, 49 * millisecond, 10},
      {{false, 0.01, 50 * millisecond}, false, 50 * millisecond, 1000},
      {{false, 0.01, 50 * millisecond}, true, 0, 1000},
      {{false, 0, 50 * millisecond}, false, 0, 0},
      {{false, 0, 0}, false, 3600'000 * millisecond, 0},
      {{false, 0.3, 0}, false, 0, 300},
      {{false, 1, 0}, false, 0, 1000},
  };
  for (const auto& r : rows)
    EXPECT_NEAR(counted(request_log(r.options), 1000, r.failed, r.took), r.of_1000, 1)
        << r.options.ratio << " " << r.failed << " " << r.took;
}

TEST_F(RequestLog, ALineHasWhatIsKnown) {
  const request_log all({true, 0, 0});
  answered_request one;
  one.door = "http";
  one.method = "POST";
  one.route = "/v2/models/{model}/infer";
  one.path = "/v2/models/a%22b/infer";
  one.status = "200";
  one.took = 12'345'678;
  one.client = "192.0.2.1";
  one.key = "billing";
  one.request_id = "r\"\n1";
  one.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  const auto text = said(all, one);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << "one line, whatever a client sends";
  auto line = nlohmann::json::parse(text);
  line.erase("ts");
  EXPECT_EQ(line, (nlohmann::json{{"level", "info"},
                                  {"component", "http"},
                                  {"event", "request"},
                                  {"msg", "completed in 12.346 ms"},
                                  {"method", "POST"},
                                  {"route", "/v2/models/{model}/infer"},
                                  {"path", "/v2/models/a%22b/infer"},
                                  {"status", "200"},
                                  {"ms", "12.346"},
                                  {"client", "192.0.2.1"},
                                  {"key", "billing"},
                                  {"request_id", "r\"\n1"},
                                  {"trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"}}));

  one = {};
  one.door = "grpc";
  one.status = "INVALID_ARGUMENT";
  one.refused = true;
  one.path = std::string_view();
  line = nlohmann::json::parse(said(all, one));
  EXPECT_EQ(line["msg"], "refused after 0.000 ms");
  EXPECT_EQ(line.size(), 7U) << line;

  const std::string longer(1000, 'x');
  one.request_id = longer;
  one.failed = one.gone = true;
  line = nlohmann::json::parse(said(all, one));
  EXPECT_EQ(line["level"], "warn");
  EXPECT_EQ(line["msg"], "failed after 0.000 ms");
  EXPECT_EQ(line["gone"], "true");
  EXPECT_EQ(line["request_id"].get<std::string>().size(), 256U);
}

TEST_F(RequestLog, TheLevelOfTheLogHolds) {
  const request_log all({true, 0, 0});
  set_log_level(level::warn);
  EXPECT_FALSE(all.wants(false, millisecond));
  EXPECT_TRUE(all.wants(true, millisecond));
  set_log_level(level::error);
  EXPECT_FALSE(all.wants(true, millisecond));
}

}  // namespace
}  // namespace troupe::observe
