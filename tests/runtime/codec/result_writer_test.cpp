#include "runtime/codec/result_writer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "support.hpp"

namespace troupe::codec {
namespace {

using namespace troupe::codec::testing;

std::string prediction(std::string_view value, std::vector<double> outputs,
                       writer_options options = {.seed = 1}) {
  test_batch b;
  b.add(value);
  request_parser parser(make_options());
  parser.parse(*b.batch, make_models());
  EXPECT_EQ(b[0].error, error_code::none) << b[0].error_message;
  std::string out;
  EXPECT_TRUE(result_writer(options).prediction(out, b[0], outputs.data()));
  EXPECT_TRUE(nlohmann::json::accept(out)) << out;
  return out;
}

TEST(ResultWriter, OneNumber) {
  EXPECT_EQ(prediction(R"({"request_id":"r-1","features":[1,2,3]})", {152.13}),
            R"({"request_id":"r-1","prediction":152.13,"model_name":"trio","model_version":"3",)"
            R"("timestamp":1731650000123})");
}

TEST(ResultWriter, ListOfRows) {
  EXPECT_EQ(prediction(R"({"features":[[1,2,3],[4,5,6]]})", {1.5, -2}),
            R"({"request_id":"requests-3-100","prediction":[1.5,-2],"model_name":"trio","model_version":"3",)"
            R"("timestamp":1731650000123})");
  EXPECT_EQ(nlohmann::json::parse(prediction(R"({"features":[[1,2,3]]})", {1.5}))["prediction"].dump(),
            "[1.5]");
}

TEST(ResultWriter, Fallback) {
  EXPECT_EQ(
      prediction(R"({"request_id":"r","features":[1,2,3],"model_version":"v\"9"})", {0.1}),
      R"({"request_id":"r","prediction":0.1,"model_name":"trio","model_version":"3","fallback_from":"v\"9",)"
      R"("timestamp":1731650000123})");
}

TEST(ResultWriter, Classifier) {
  EXPECT_EQ(prediction(R"({"request_id":"r","features":[1,2],"model":"iris"})", {0.2, 0.7, 0.1}),
            R"({"request_id":"r","prediction":"versi\"color","predicted_class":"versi\"color",)"
            R"("probabilities":[0.2,0.7,0.1],"confidence":0.7,"model_name":"iris","model_version":"1",)"
            R"("timestamp":1731650000123})");
  EXPECT_EQ(
      prediction(R"({"request_id":"r","features":[[1,2],[3,4]],"model":"iris"})", {0.5, 0.5, 0, 0, 0, 1}),
      R"({"request_id":"r","prediction":["setosa","virginica"],"predicted_class":["setosa","virginica"],)"
      R"("probabilities":[[0.5,0.5,0],[0,0,1]],"confidence":[0.5,1],"model_name":"iris","model_version":"1",)"
      R"("timestamp":1731650000123})");
}

TEST(ResultWriter, ProbabilitiesKeepWithinOneDespiteRounding) {
  const auto of = [](std::initializer_list<double> p) {
    return nlohmann::json::parse(prediction(R"({"features":[1,2],"model":"iris"})", p))["probabilities"]
        .dump();
  };
  EXPECT_EQ(of({1.0000000149011612, 0, -1e-9}), "[1,0,0]");
  EXPECT_EQ(of({1.00001, 0, -0.5}), "[1.00001,0,-0.5]") << "scores that are no shares stay";
}

TEST(ResultWriter, SeveralTargets) {
  const auto two = make_model("two", "1", {{"x", false}}, true, {model::task::regression, 2, {}});
  test_batch b;
  record& r = b.add("{}");
  r.request_id = "\"r\"";
  r.model = two.get();
  r.rows = 1;
  result_writer writer;
  std::string out;
  const double outputs[] = {1, 2, 3, 4};
  ASSERT_TRUE(writer.prediction(out, r, outputs));
  EXPECT_EQ(nlohmann::json::parse(out)["prediction"].dump(), "[1,2]");
  out.clear();
  r.rows = 2;
  r.list = true;
  ASSERT_TRUE(writer.prediction(out, r, outputs));
  EXPECT_EQ(nlohmann::json::parse(out)["prediction"].dump(), "[[1,2],[3,4]]");
}

TEST(ResultWriter, ClassesWithoutNamesAreNumbered) {
  const auto two = make_model("two", "1", {{"x", false}}, true, {model::task::classification, 2, {}});
  test_batch b;
  record& r = b.add("{}");
  r.request_id = "\"r\"";
  r.model = two.get();
  r.rows = 1;
  std::string out;
  const double outputs[] = {0.25, 0.75};
  ASSERT_TRUE(result_writer().prediction(out, r, outputs));
  EXPECT_EQ(nlohmann::json::parse(out)["predicted_class"], "1");
}

TEST(ResultWriter, NotFiniteIsNoPrediction) {
  test_batch b;
  b.add(R"({"features":[[1,2,3],[1,2,3]]})");
  request_parser parser(make_options());
  parser.parse(*b.batch, make_models());
  result_writer writer;
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                           -std::numeric_limits<double>::infinity()}) {
    const double outputs[] = {1, bad};
    std::string out = "before";
    EXPECT_FALSE(writer.prediction(out, b[0], outputs));
    EXPECT_EQ(out, "before");
  }
}

TEST(ResultWriter, AnotherModelAtTheSameAddressIsAnotherModel) {
  result_writer writer;
  const double output = 1;
  alignas(model::loaded_model) std::byte place[sizeof(model::loaded_model)];
  for (const std::string version : {"1", "2", "3"}) {
    model::loaded_model::parts p;
    p.name = std::string("twin");
    p.version = version;
    auto* m = new (place) model::loaded_model(std::move(p));
    test_batch b;
    record& r = b.add("{}");
    r.request_id = "\"r\"";
    r.model = m;
    r.rows = 1;
    std::string out;
    ASSERT_TRUE(writer.prediction(out, r, &output));
    EXPECT_EQ(nlohmann::json::parse(out)["model_version"], version);
    m->~loaded_model();
  }
}

TEST(ResultWriter, ManyModelsTakeTurns) {
  result_writer writer;
  std::vector<std::shared_ptr<const model::loaded_model>> models;
  for (int i = 0; i < 30; ++i)
    models.push_back(make_model(std::string("m").append(std::to_string(i)), "1", {}));
  test_batch b;
  record& r = b.add("{}");
  r.request_id = "\"r\"";
  r.rows = 1;
  const double output = 1;
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const auto& m = models[random() % models.size()];
    r.model = m.get();
    std::string out;
    ASSERT_TRUE(writer.prediction(out, r, &output));
    ASSERT_EQ(nlohmann::json::parse(out)["model_name"], m->name());
  }
}

TEST(ResultWriter, IsoTimestamps) {
  const auto at = [](std::int64_t ms) {
    test_batch b;
    record& r = b.add("{}", {}, ms);
    std::string out;
    result_writer({.iso_timestamp = true, .seed = 1}).error(out, r, error_code::unavailable, "x");
    return nlohmann::json::parse(out)["timestamp"].get<std::string>();
  };
  EXPECT_EQ(at(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(at(1731650000123), "2024-11-15T05:53:20.123Z");
  EXPECT_EQ(at(951782399999), "2000-02-28T23:59:59.999Z");
  EXPECT_EQ(at(951782400000), "2000-02-29T00:00:00.000Z");
}

TEST(ResultWriter, ABatchMayAskForIsoTimestamps) {
  const auto m = make_model("m", "1", {});
  result_writer writer;
  const double output = 1;
  for (const bool iso : {true, false, true}) {
    test_batch b;
    record& r = b.add("{}", {}, 1731650000123);
    b.batch->iso_timestamps = iso;
    r.request_id = "\"r\"";
    r.model = m.get();
    r.rows = 1;
    std::string result, error;
    ASSERT_TRUE(writer.prediction(result, r, &output));
    writer.error(error, r, error_code::unavailable, "x");
    for (const auto& text : {result, error}) {
      const auto timestamp = nlohmann::json::parse(text)["timestamp"];
      if (iso)
        EXPECT_EQ(timestamp, "2024-11-15T05:53:20.123Z") << text;
      else
        EXPECT_EQ(timestamp, 1731650000123) << text;
    }
  }
}

TEST(ResultWriter, Errors) {
  const auto models = make_models(false);
  const auto error = [&](std::string_view value) {
    test_batch b;
    b.add(value);
    request_parser parser(make_options());
    parser.parse(*b.batch, models);
    std::string out = ";";
    result_writer().error(out, b[0], b[0].error, b[0].error_message);
    EXPECT_TRUE(nlohmann::json::accept(out.substr(1))) << out;
    return out.substr(1);
  };
  EXPECT_EQ(
      error(R"({"request_id":"r-1","features":[1,2,"3"]})"),
      R"({"request_id":"r-1","error":{"code":"invalid_features","message":"feature 'c' must be a finite )"
      R"(number, found a string"},"model_version":"3","timestamp":1731650000123})");
  EXPECT_EQ(
      error(R"({"request_id":"r-1","features":[1,2,3],"model_version":"v9"})"),
      R"({"request_id":"r-1","error":{"code":"model_not_found","message":"version '9' of model 'trio' is )"
      R"(not loaded; loaded: 1, 2, 3"},"model_version":"v9","timestamp":1731650000123})");
  EXPECT_EQ(
      error(R"({"request_id":"r-1","features":[1,2,3],"model":"\"x\\"})"),
      R"({"request_id":"r-1","error":{"code":"model_not_found","message":"model '\"x\\' is not loaded; )"
      R"(loaded: iris, trio, wide"},"model_version":null,"timestamp":1731650000123})");
}

TEST(ResultWriter, ErrorOfAFallback) {
  test_batch b;
  b.add(R"({"features":[1,2],"model_version":"9"})");
  request_parser parser(make_options());
  parser.parse(*b.batch, make_models());
  std::string out;
  result_writer().error(out, b[0], b[0].error, "why\n");
  const auto j = nlohmann::json::parse(out);
  EXPECT_EQ(j["model_version"], "3");
  EXPECT_EQ(j["fallback_from"], "9");
  EXPECT_EQ(j["error"]["message"], "why\n");
}

// --- headers
// --------------------------------------------------------------------------------------------------------

std::vector<std::pair<std::string, std::string>> texts(const std::vector<header>& headers) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& h : headers) out.emplace_back(h.name, h.value);
  return out;
}

using pairs = std::vector<std::pair<std::string, std::string>>;

TEST(ResultWriter, DeadLetterHeadersAreKafkaConnects) {
  test_batch b;
  const record& r = b.add("not json");
  result_writer writer;
  std::vector<header> out;
  writer.dead_letter_headers(out, r, error_code::invalid_json, "the value is not valid JSON");
  EXPECT_EQ(texts(out), (pairs{{"__connect.errors.topic", "requests"},
                               {"__connect.errors.partition", "3"},
                               {"__connect.errors.offset", "100"},
                               {"__connect.errors.stage", "VALUE_CONVERTER"},
                               {"__connect.errors.exception.class.name", "invalid_json"},
                               {"__connect.errors.exception.message", "the value is not valid JSON"}}));
  writer.dropped_value_headers(out, r);
  ASSERT_EQ(out.size(), 7u);
  EXPECT_EQ(texts(out).back(), (std::pair<std::string, std::string>{"troupe.dropped.value.length", "8"}));
  EXPECT_EQ(texts(out)[1].second, "3");
  out.clear();
  writer.dead_letter_headers(out, r, error_code::model_failed, "x");
  EXPECT_EQ(texts(out)[3].second, "TASK_PUT");
}

constexpr std::string_view trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(ResultWriter, ResultsCarryOnWhatWasNotConsumed) {
  result_writer writer({.seed = 5});
  const std::vector<header> in = {{"request_id", "r"},
                                  {"ce_id", "7"},
                                  {"priority", "1"},
                                  {"model", "m"},
                                  {"empty", {}},
                                  {"traceparent", trace},
                                  {"tracestate", "vendor=1"},
                                  {"timeout_ms", "5"},
                                  {"model_version", "1"},
                                  {"x", std::string_view("\0\xff", 2)}};
  std::vector<header> out;
  writer.result_headers(out, in);
  const auto t = texts(out);
  ASSERT_EQ(t.size(), 5u);
  EXPECT_EQ(t[0], (std::pair<std::string, std::string>{"ce_id", "7"}));
  EXPECT_EQ(t[1].first, "empty");
  EXPECT_EQ(out[1].value.data(), nullptr);
  EXPECT_EQ(t[2].first, "traceparent");
  EXPECT_EQ(t[3], (std::pair<std::string, std::string>{"tracestate", "vendor=1"}));
  EXPECT_EQ(t[4], (std::pair<std::string, std::string>{"x", std::string("\0\xff", 2)}));
  const std::string parent = t[2].second;
  ASSERT_EQ(parent.size(), trace.size());
  EXPECT_EQ(parent.substr(0, 36), trace.substr(0, 36));
  EXPECT_NE(parent.substr(36, 16), trace.substr(36, 16));
  EXPECT_EQ(parent.substr(52), "-01");
  EXPECT_EQ(parent.find_first_not_of("0123456789abcdef-"), std::string::npos);
}

TEST(ResultWriter, ATraceThatIsFollowedIsNamed) {
  const std::string own = "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-01";
  result_writer writer;
  std::vector<header> out;
  const std::vector<header> in = {{"a", "1"}, {"traceparent", trace}, {"tracestate", "v=1"}};
  writer.result_headers(out, in, own);
  EXPECT_EQ(texts(out), (pairs{{"a", "1"}, {"traceparent", own}, {"tracestate", "v=1"}}));
  out.clear();
  writer.result_headers(out, {}, own);
  EXPECT_EQ(texts(out), (pairs{{"traceparent", own}}));
  out.clear();
  const std::vector<header> broken = {{"traceparent", "x"}, {"tracestate", "v=1"}};
  writer.result_headers(out, broken, own);
  EXPECT_EQ(texts(out), (pairs{{"traceparent", own}}));
  out.clear();
  writer.trace_header(out, {}, own);
  EXPECT_EQ(texts(out), (pairs{{"traceparent", own}}));
  out.clear();
  writer.trace_header(out, in, own);
  EXPECT_TRUE(out.empty()) << "a dead letter's own stays alone";
}

TEST(ResultWriter, TracestatesThatMayNotBePassedOnAreLeftOut) {
  result_writer writer;
  for (const std::string& state :
       {std::string("A=1"), "a=" + std::string(257, 'v'), std::string("a=1,a=2")}) {
    const std::vector<header> in = {{"traceparent", trace}, {"tracestate", state}};
    std::vector<header> out;
    writer.result_headers(out, in);
    ASSERT_EQ(out.size(), 1u) << state;
    EXPECT_EQ(out[0].name, "traceparent");
  }
}

TEST(ResultWriter, EverySpanIsNewAndSeeded) {
  const auto spans = [](std::uint64_t seed) {
    result_writer writer({.seed = seed});
    std::set<std::string> out;
    const std::vector<header> in = {{"traceparent", trace}};
    for (int i = 0; i < 1000; ++i) {
      std::vector<header> headers;
      writer.result_headers(headers, in);
      out.insert(std::string(headers.at(0).value));
    }
    return out;
  };
  EXPECT_EQ(spans(1).size(), 1000u);
  EXPECT_EQ(spans(1), spans(1));
  EXPECT_NE(spans(1), spans(2));
  EXPECT_NE(spans(0), spans(0));
}

TEST(ResultWriter, BrokenTracesAreLeftOut) {
  const std::string t(trace);
  const auto with = [&](std::size_t at, char c) {
    std::string s = t;
    s[at] = c;
    return s;
  };
  const std::vector<std::string> broken = {"",
                                           "x",
                                           t.substr(0, 54),
                                           t + "-",
                                           t + "x",
                                           with(2, '_'),
                                           with(35, '0'),
                                           with(52, '0'),
                                           with(3, 'A'),
                                           with(40, 'g'),
                                           "ff" + t.substr(2),
                                           "00-" + std::string(32, '0') + t.substr(35),
                                           t.substr(0, 36) + std::string(16, '0') + "-01",
                                           "01" + t.substr(2) + "x"};
  for (const auto& value : broken) {
    const std::vector<header> in = {{"tracestate", "a=b"}, {"traceparent", value}, {"k", "v"}};
    std::vector<header> out;
    result_writer writer;
    writer.result_headers(out, in);
    EXPECT_EQ(texts(out), (pairs{{"k", "v"}})) << value;
  }
  // A later version of the format is read as far as it is known.
  const std::string later = "01" + t.substr(2) + "-more";
  const std::vector<header> in = {{"traceparent", later}};
  std::vector<header> out;
  result_writer writer;
  writer.result_headers(out, in);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].value.substr(0, 36), t.substr(0, 36));
  EXPECT_EQ(out[0].value.size(), 55u);
}

}  // namespace
}  // namespace troupe::codec
