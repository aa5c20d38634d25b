#include "runtime/observe/openmetrics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include <cmath>
#include <regex>
#include <sstream>
#include <string>

#include "runtime/observe/metrics.hpp"

namespace troupe::observe {
namespace {

using prometheus::MetricType;
using testing::HasSubstr;
using testing::Not;

TEST(openmetrics, who_gets_it) {
  const std::string prometheus_3 =
      "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/"
      "openmetrics-text;version=0.0.1;"
      "q=0.5,text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
  EXPECT_TRUE(wants_openmetrics(prometheus_3));
  EXPECT_TRUE(wants_openmetrics("application/openmetrics-text"));
  EXPECT_TRUE(wants_openmetrics("text/plain;q=0.5, Application/OpenMetrics-Text ; version=1.0.0 ; Q=0.5"));
  for (const char* no :
       {"", "*/*", "text/plain", "text/html", "text/plain, application/openmetrics-text;q=0.9",
        "application/openmetrics-text;q=0", "application/openmetrics-text;q=x", ";;,,=;q="})
    EXPECT_FALSE(wants_openmetrics(no)) << no;
}

TEST(openmetrics, every_kind_as_the_specification_has_it) {
  prometheus::ClientMetric c, g, h;
  c.label = {{"name", "a\"b\\c\nd"}};
  c.counter.value = 3;
  g.gauge.value = -0.5;
  h.histogram.bucket = {{1, 0.0001}, {2, 1}, {4, 2.5}};
  h.histogram.sample_count = 5;
  h.histogram.sample_sum = 12.25;
  const std::vector<prometheus::MetricFamily> families = {
      {"things_total", "Things\nof all kinds", MetricType::Counter, {c}},
      {"depth", "Depth", MetricType::Gauge, {g}},
      {"took_seconds", "Time", MetricType::Histogram, {h}},
      {"odd", "No suffix", MetricType::Counter, {g}},
      {"empty", "", MetricType::Gauge, {}}};
  const exemplars shown = {{"took_seconds", {{{}, {"abc", 0.5, 1700000000.25}, {}, {"def", 9, 1700000001}}}}};
  EXPECT_EQ(openmetrics_text(families, shown),
            "# TYPE things counter\n# HELP things Things\\nof all kinds\n"
            "things_total{name=\"a\\\"b\\\\c\\nd\"} 3.0\n"
            "# TYPE depth gauge\n# HELP depth Depth\ndepth -0.5\n"
            "# TYPE took_seconds histogram\n# HELP took_seconds Time\n"
            "took_seconds_bucket{le=\"0.0001\"} 1\n"
            "took_seconds_bucket{le=\"1.0\"} 2 # {trace_id=\"abc\"} 0.5 1700000000.250\n"
            "took_seconds_bucket{le=\"2.5\"} 4\n"
            "took_seconds_bucket{le=\"+Inf\"} 5 # {trace_id=\"def\"} 9.0 1700000001.000\n"
            "took_seconds_count 5\ntook_seconds_sum 12.25\n"
            "# TYPE odd unknown\n# HELP odd No suffix\nodd 0.0\n"
            "# EOF\n");
}

TEST(openmetrics, requests_that_are_traced_are_exemplars_of_their_buckets) {
  metrics m({{"interactive"}, {0.1}});
  m.answered(
      {nullptr, door::http, 0, error_code::none, false, 3, 0, 3, 0.02, "4bf92f3577b34da6a3ce929d0e0e4736"});
  m.answered({nullptr, door::http, 0, error_code::none, false, 1, 0, 1, 7, ""});
  const auto plain = m.expose("");
  EXPECT_EQ(plain.type, metrics::text_type);
  EXPECT_THAT(plain.text, Not(HasSubstr("trace_id")));
  const auto open = m.expose("application/openmetrics-text");
  EXPECT_EQ(open.type, openmetrics_type);
  const std::regex line(
      "inference_request_duration_seconds_bucket\\{class=\"interactive\",door=\"http\",status=\"success\",le="
      "\"0.025\"\\} 3 # "
      "\\{trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"\\} 0.02 \\d+\\.\\d{3}\n");
  EXPECT_TRUE(std::regex_search(open.text, line)) << open.text;
  std::istringstream in(open.text);
  int shown = 0;
  for (std::string one; std::getline(in, one);) shown += one.find("trace_id") != std::string::npos;
  EXPECT_EQ(shown, 1);
  EXPECT_TRUE(open.text.ends_with("# EOF\n"));
}

}  // namespace
}  // namespace troupe::observe
